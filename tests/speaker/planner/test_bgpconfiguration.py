"""Which BGP configuration is in force: the last good one stays, and one object's fault is its own."""

from __future__ import annotations

from typing import Any

import pytest

from crier.kube.model.bfdprofile import BfdProfileObject
from crier.kube.model.bgpadvertisement import BgpAdvertisementObject
from crier.kube.model.bgppeer import BASIC_AUTH, BgpPeerObject
from crier.kube.model.community import CommunityObject
from crier.kube.model.node import Node
from crier.kube.model.secret import Secret
from speaker.planner.bgpconfiguration import BgpKeeper, BgpObjects, Fault
from tests.speaker.planner.builders import configuration, node, on_node, with_labels
from tests.speaker.planner.test_routes import ad, octets, peer

POOLS = tuple(configuration().pools.pools.values())
ME = node("a")


def objects(
    *things: BgpPeerObject | BgpAdvertisementObject | BfdProfileObject | CommunityObject,
    secrets: dict[str, Secret] | None = None,
) -> BgpObjects:
    return BgpObjects(
        tuple(each for each in things if isinstance(each, BgpPeerObject)),
        tuple(each for each in things if isinstance(each, BgpAdvertisementObject)),
        tuple(each for each in things if isinstance(each, BfdProfileObject)),
        tuple(each for each in things if isinstance(each, CommunityObject)),
        secrets or {},
    )


def profile(name: str = "fast", **spec: Any) -> BfdProfileObject:
    return BfdProfileObject.decode(octets(name, spec))


def secret(kind: str = BASIC_AUTH, password: bytes = b"s3cret") -> dict[str, Secret]:
    return {"lb/s": Secret(namespace="lb", name="s", type=kind, data={"password": password})}


def names(keeper: BgpKeeper, me: Node = ME) -> list[str]:
    assert keeper.in_force is not None
    return [each.name for each in keeper.in_force.peers_of(me)]


def password(keeper: BgpKeeper) -> bytes | None:
    assert keeper.in_force is not None
    return keeper.in_force.peers[0].password


def consider(keeper: BgpKeeper, *things: Any, me: Node = ME, **more: Any) -> BgpKeeper:
    keeper.consider(objects(*things, **more), POOLS, me)
    return keeper


@pytest.fixture
def keeper() -> BgpKeeper:
    return consider(BgpKeeper(), peer("x"), peer("y"), ad())


def test_the_same_objects_are_the_same_configuration(keeper: BgpKeeper) -> None:
    before = keeper.in_force
    consider(keeper, peer("x"), peer("y"), ad())
    assert keeper.in_force is before
    assert keeper.faults == ()


def test_of_two_peers_for_one_session_the_first_by_name_has_it(keeper: BgpKeeper) -> None:
    here = {"peerAddress": "192.0.2.9"}
    others = (peer("d", **here, peerPort=1179), peer("e", **here, sourceAddress="192.0.2.8"))
    consider(keeper, peer("b", **here), peer("c", **here), *others, ad())
    assert names(keeper) == ["b", "d", "e"]
    told = "c: spec.peerAddress: b has the session with 192.0.2.9 from this node already"
    assert keeper.faults == (Fault("BGPPeer", "c", told),)
    consider(keeper, peer("a", **here), peer("b", **here), ad())
    assert names(keeper) == ["a"]
    elsewhere = [{"matchLabels": {"kubernetes.io/hostname": "b"}}]
    consider(keeper, peer("a", **here, nodeSelectors=elsewhere), peer("b", **here), ad())
    assert names(keeper) == ["b"]
    assert not keeper.faults


def test_the_last_good_one_stays_and_the_fault_names_object_and_field(keeper: BgpKeeper) -> None:
    consider(keeper, peer("x", myASN=0), ad())
    assert names(keeper) == ["x", "y"]
    assert keeper.faults == (Fault("BGPPeer", "x", "x: spec.myASN: missing local ASN"),)
    consider(keeper, peer("x"), ad())
    assert names(keeper) == ["x"]
    assert not keeper.faults


def test_a_bad_one_before_any_good_one_costs_only_what_is_bad() -> None:
    """Or a typing error would become an outage with the next restart of the planner."""
    late = CommunityObject.decode(octets("c", {"communities": [{"name": "n", "value": "?"}]}))
    keeper = consider(
        BgpKeeper(),
        peer("x", holdTime="1s"),
        peer("y"),
        peer("z", bfdProfile="bad"),
        profile("bad", minimumTtl=0),
        ad("p", aggregationLength=40),
        ad("q"),
        late,
    )
    assert names(keeper) == ["y"]
    assert keeper.in_force is not None
    assert [each.name for each in keeper.in_force.attached["default"]] == ["q"]
    assert {(fault.kind, fault.name) for fault in keeper.faults} == {
        ("BGPPeer", "x"),
        ("BFDProfile", "bad"),
        ("BGPAdvertisement", "p"),
        ("Community", "c"),
    }


def test_conflicting_advertisements_before_any_good_ones() -> None:
    keeper = consider(BgpKeeper(), peer(), ad("p", localPref=1), ad("q", localPref=2))
    assert keeper.in_force is not None
    assert [each.name for each in keeper.in_force.attached["default"]] == ["p"]
    assert "invalid local preference 2" in keeper.faults[0].text


def test_a_peer_whose_secret_goes_keeps_its_session(keeper: BgpKeeper) -> None:
    signed = peer("x", passwordSecret={"name": "s"})
    consider(keeper, signed, ad())
    assert names(keeper) == ["x"]  # as it was before it asked for a Secret that is not there
    assert password(keeper) is None
    assert keeper.faults[0].text == "x: spec.passwordSecret: there is no Secret 's'"
    consider(keeper, signed, ad(), secrets=secret())
    assert password(keeper) == b"s3cret"
    assert not keeper.faults
    consider(keeper, signed, ad(), secrets=secret("Opaque"))
    assert password(keeper) == b"s3cret"
    assert "secret type mismatch" in keeper.faults[0].text
    assert not any("s3cret" in fault.text for fault in keeper.faults)


def test_an_advertisement_whose_community_goes_stays_as_it_was(keeper: BgpKeeper) -> None:
    far = CommunityObject.decode(octets("c", {"communities": [{"name": "far", "value": "1:2"}]}))
    consider(keeper, peer("x"), ad(communities=["far"]), far)
    consider(keeper, peer("x"), ad(communities=["far"]))
    assert keeper.in_force is not None
    assert keeper.in_force.attached["default"][0].communities == {65538}
    assert keeper.faults[0].text == "ad: spec.communities: there is no community 'far'"


def test_the_nodes_labels_choose_anew() -> None:
    keeper = consider(BgpKeeper(), peer("x", nodeSelectors=with_labels(rack="1")), peer("y"), ad())
    assert names(keeper) == ["y"]
    moved = node("a", rack="1")
    consider(keeper, peer("x", nodeSelectors=with_labels(rack="1")), peer("y"), ad(), me=moved)
    assert names(keeper, moved) == ["x", "y"]


def test_a_fault_of_another_nodes_peer_is_none_of_ours(keeper: BgpKeeper) -> None:
    consider(keeper, peer("theirs", myASN=0, nodeSelectors=on_node("b")), peer("x"), ad())
    assert (names(keeper), keeper.faults) == (["x"], ())


def test_with_a_fault_the_last_good_objects_follow_the_nodes_labels(keeper: BgpKeeper) -> None:
    chosen = peer("z", nodeSelectors=with_labels(rack="1"))
    consider(keeper, peer("x"), chosen, ad())
    broken, moved = ad(aggregationLength=40), node("a", rack="1")
    consider(keeper, peer("x"), chosen, broken, me=moved)
    assert names(keeper, moved) == ["x", "z"]
    assert keeper.faults


def test_what_was_not_even_decoded_is_told(keeper: BgpKeeper) -> None:
    fault = Fault("BGPPeer", "w", "w: Expected int")
    keeper.consider(objects(peer("x"), ad()), POOLS, ME, [fault])
    assert (names(keeper), keeper.faults) == (["x"], (fault,))
