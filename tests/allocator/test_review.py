"""What the controller tells of configuration that speakers act upon."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from allocator.review import Objects, condition, review
from crier.kube import resources
from crier.kube.model.advertisement import L2AdvertisementObject
from crier.kube.model.bfdprofile import BfdProfileObject
from crier.kube.model.bgpadvertisement import BgpAdvertisementObject
from crier.kube.model.bgppeer import BgpPeerObject
from crier.kube.model.community import CommunityObject
from crier.kube.model.pool import parse_pools
from crier.kube.model.states import judge
from crier.kube.resources import Resource
from tests.allocator.clusters import SYSTEM
from tests.allocator.worlds import pool

POOLS = parse_pools([pool("p", "192.0.2.0/28"), pool("q", "198.51.100.0/24")])
NODES = {"a": {"rack": "1"}, "b": {"rack": "2"}}
PEER = {"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1"}
KINDS: dict[str, tuple[str, Any, Resource]] = {
    "l2": ("l2_advertisements", L2AdvertisementObject, resources.L2_ADVERTISEMENTS),
    "bgp": ("bgp_advertisements", BgpAdvertisementObject, resources.BGP_ADVERTISEMENTS),
    "peer": ("peers", BgpPeerObject, resources.BGP_PEERS),
    "bfd": ("profiles", BfdProfileObject, resources.BFD_PROFILES),
    "community": ("communities", CommunityObject, resources.COMMUNITIES),
}

Things = dict[str, dict[str, dict[str, Any]]]


def objects(things: Things) -> Objects:
    """{kind: {name: spec}}."""
    fields: dict[str, Any] = {"nodes": NODES}
    for kind, named in things.items():
        field, decode, _ = KINDS[kind]
        fields[field] = tuple(
            decode.decode(
                msgspec.json.encode(
                    {"metadata": {"namespace": SYSTEM, "name": name, "uid": f"u-{name}"}, "spec": spec}
                )
            )
            for name, spec in named.items()
        )
    return Objects(**fields)


@pytest.mark.parametrize(
    ("things", "texts", "result"),
    [
        ({}, [], "Valid"),
        (
            {
                "l2": {"a": {"ipAddressPools": ["p"]}},
                "bgp": {"a": {"ipAddressPools": ["q"], "peers": ["r"], "communities": ["c", "1:2"]}},
                "peer": {"r": {**PEER, "bfdProfile": "f", "passwordSecret": {"name": "later"}}},
                "bfd": {"f": {}},
                "community": {"c": {"communities": [{"name": "c", "value": "1:1"}]}},
            },
            [],
            "Valid",
        ),
        (
            {"l2": {"a": {"ipAddressPools": ["p", "none"]}}},
            [
                (
                    "L2Advertisement a: spec.ipAddressPools[1]: there is no IPAddressPool 'none': "
                    "the name selects nothing"
                )
            ],
            "Valid",
        ),
        (
            {"bgp": {"a": {"ipAddressPools": ["none"], "peers": ["nobody"], "communities": ["c"]}}},
            [
                (
                    "BGPAdvertisement a: spec.ipAddressPools[0]: there is no IPAddressPool 'none': "
                    "the name selects nothing"
                ),
                (
                    "BGPAdvertisement a: spec.peers[0]: there is no BGPPeer 'nobody': "
                    "nobody of that name is told"
                ),
                "BGPAdvertisement a: spec.communities[0]: no Community defines 'c': it waits for one",
            ],
            "Valid",
        ),
        (
            {"peer": {"r": {**PEER, "bfdProfile": "f"}}},
            ["BGPPeer r: spec.bfdProfile: there is no BFDProfile 'f': the peer waits for it"],
            "Valid",
        ),
        (
            {"bgp": {"a": {"aggregationLength": 26}}},
            [
                (
                    "BGPAdvertisement a: spec.aggregationLength: invalid aggregation length 26: prefix 28 in "
                    "this pool is more specific than the aggregation length for addresses 192.0.2.0/28 of "
                    "pool 'p'"
                )
            ],
            "Invalid",
        ),
        (
            {"bgp": {"a": {"localPref": 1}, "b": {"localPref": 2, "ipAddressPools": ["p"]}}},
            [
                (
                    "BGPAdvertisement b: spec.localPref: invalid local preference 2: a has 1 for pool 'p', "
                    "with the same aggregation length, peers and nodes"
                )
            ],
            "Invalid",
        ),
        (
            # nobody is on two racks, so nobody tells a peer both
            {
                "bgp": {
                    "a": {"localPref": 1, "nodeSelectors": [{"matchLabels": {"rack": "1"}}]},
                    "b": {"localPref": 2, "nodeSelectors": [{"matchLabels": {"rack": "2"}}]},
                }
            },
            [],
            "Valid",
        ),
        (
            {"peer": {"r": {**PEER, "password": "x", "passwordSecret": {"name": "s"}}}},
            ["BGPPeer r: spec.passwordSecret: can not have both password and secret ref set"],
            "Invalid",
        ),
        (
            {
                "community": {
                    "one": {"communities": [{"name": "c", "value": "1:1"}]},
                    "two": {"communities": [{"name": "c", "value": "1:2"}]},
                },
                "bgp": {"a": {"communities": ["c"]}},
            },
            ["Community two: spec.communities[0].name: duplicate definition of community 'c'"],
            "Invalid",
        ),
        (
            # a definition with a fault is not a missing one
            {
                "community": {"one": {"communities": [{"name": "c", "value": "1"}]}},
                "bgp": {"a": {"communities": ["c"]}},
            },
            [
                (
                    "Community one: spec.communities[0].value: invalid community format '1': must be A:B or "
                    "large:A:B:C"
                )
            ],
            "Invalid",
        ),
        (
            # faults first, and they alone are the error summary
            {"l2": {"a": {"ipAddressPools": ["none"]}}, "bfd": {"f": {"receiveInterval": 5}}},
            [
                "BFDProfile f: spec.receiveInterval: 5 is not in 10..60000",
                (
                    "L2Advertisement a: spec.ipAddressPools[0]: there is no IPAddressPool 'none': "
                    "the name selects nothing"
                ),
            ],
            "Invalid",
        ),
    ],
)
def test_what_is_told(things: Things, texts: list[str], result: str) -> None:
    found = review(objects(things), POOLS, {"p", "q"})
    assert [str(finding) for finding in found] == texts
    assert all(finding.uid == f"u-{finding.name}" for finding in found)
    verdict, summary = judge([condition(found)])
    assert verdict.value == result
    assert bool(summary) == (result == "Invalid")


def test_what_cannot_even_be_read() -> None:
    undecoded = {resources.BGP_PEERS: {f"{SYSTEM}/r": 'spec.myASN: "x": expected `int`, got `str`'}}
    (finding,) = review(Objects(undecoded=undecoded), POOLS, {"p"})
    assert str(finding) == 'BGPPeer r: spec.myASN: "x": expected `int`, got `str`'
    assert finding.fatal
