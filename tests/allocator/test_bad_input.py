"""Every field of every kind, and every annotation, with values that make no sense.

Each gives one message that names the field and the value, and says what would be right; none gets through,
and none ends in anything but such a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from allocator.review import check_peers
from crier.kube.model.advertisement import L2AdvertisementObject, parse_l2_advertisements
from crier.kube.model.annotations import (
    ADDRESS_POOL,
    ALLOCATED_FROM,
    ALLOW_SHARED_IP,
    LOAD_BALANCER_IPS,
    OLD_PREFIX,
    PREFIX,
    deprecated,
)
from crier.kube.model.bfdprofile import BfdProfileObject, parse_bfd_profiles
from crier.kube.model.bgpadvertisement import BgpAdvertisementObject, parse_bgp_advertisements
from crier.kube.model.bgppeer import BgpPeerObject
from crier.kube.model.community import CommunityObject, parse_communities
from crier.kube.model.errors import ConfigError, DecodeError
from crier.kube.model.pool import PoolObject, parse_pools
from crier.kube.model.secret import Secret
from crier.kube.model.states import ConfigurationState, ServiceBgpStatus, ServiceL2Status
from tests.allocator.cases import lb
from tests.allocator.worlds import pool, world

CRDS: Final = Path(__file__).parents[2] / "manifests" / "crds"
POOL: Final = {"addresses": ["192.0.2.0/24"]}
PEER: Final = {"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1"}
INTERNAL: Final = {"myASN": 64512, "peerAddress": "192.0.2.1"}

Parse = Callable[[bytes], object]


def _pool(raw: bytes) -> object:
    return parse_pools([PoolObject.decode(raw)])


def _l2(raw: bytes) -> object:
    return parse_l2_advertisements([L2AdvertisementObject.decode(raw)])


def _bgp(raw: bytes) -> object:
    pools = parse_pools([pool("p", "192.0.2.0/24")])
    return parse_bgp_advertisements([BgpAdvertisementObject.decode(raw)], pools, {}, {})


def _peer(raw: bytes) -> object:
    check_peers([BgpPeerObject.decode(raw)])
    return None


def _bfd(raw: bytes) -> object:
    return parse_bfd_profiles([BfdProfileObject.decode(raw)])


def _community(raw: bytes) -> object:
    return parse_communities([CommunityObject.decode(raw)])


def told(parse: Parse, raw: bytes) -> list[str]:
    """As a user reads it."""
    try:
        parse(raw)
    except ConfigError as problem:
        return list(problem.problems)
    except DecodeError as problem:
        return [f"x: {problem}"]  # who decodes knows the object's name by its key
    return []


def document(spec: object, **more: Any) -> bytes:
    return msgspec.json.encode({"metadata": {"name": "x", "namespace": "n"}, "spec": spec, **more})


def selector(**fields: Any) -> list[dict[str, Any]]:
    return [fields]


# A selector is the same wherever it stands.
SELECTORS: Final[list[tuple[Any, str, str, str]]] = [
    # selectors, where in them, value as shown, what would be right
    ("web", "", '"web"', "expected `array`"),
    (["web"], "[0]", '"web"', "expected `object`"),
    (selector(matchLabels=["a"]), "[0].matchLabels", '["a"]', "expected `object`"),
    (selector(matchLabels={"b": "c", "a": 1}), '[0].matchLabels["a"]', "1", "expected `str`"),
    (selector(matchLabels={"-a": "b"}), "[0].matchLabels", "'-a'", "is not a label key"),
    (selector(matchLabels={"a": "b c"}), "[0].matchLabels", "'b c'", "is not a label value"),
    (
        selector(matchExpressions=[{"key": "a", "operator": "Is"}]),
        "[0].matchExpressions[0].operator", "'Is'", "must be one of In, NotIn, Exists",
    ),
    (
        selector(matchExpressions=[{"operator": "Exists"}]),
        "[0].matchExpressions[0].key", "''", "is not a label key",
    ),
    (
        selector(matchExpressions=[{"key": "a", "operator": "In"}]),
        "[0].matchExpressions[0].values", "In", "needs values",
    ),
    (
        selector(matchExpressions=[{"key": "a", "operator": "Exists", "values": ["b"]}]),
        "[0].matchExpressions[0].values", "Exists", "no values",
    ),
    (
        selector(matchExpressions=[{"key": "a", "operator": "In", "values": ["b", "c d"]}]),
        "[0].matchExpressions[0].values[1]", "'c d'", "is not a label value",
    ),
    (
        selector(matchExpressions=[{"key": "a", "operator": "In", "values": ["b", "b"]}]),
        "[0].matchExpressions[0].values", "b", "duplicate definition",
    ),
    (
        selector(matchExpressions=[{"key": "a", "operator": "Exists"}] * 2),
        "[0].matchExpressions[1]", "'a'", "duplicate definition",
    ),
    ([{"matchLabels": {"a": "b"}}] * 2, "[1]", "a=b", "duplicate definition"),
]  # fmt: skip


def selectors(parse: Parse, base: dict[str, Any], path: str) -> list[Any]:
    """The rows of one field of selectors; `path` may lead into an object."""
    rows = []
    for value, where, shown, right in SELECTORS:
        outer, _, inner = path.rpartition(".")
        spec = {**base, **({outer: {inner: value}} if outer else {path: value})}
        rows.append((parse, spec, f"spec.{path}{where}", shown, right))
    return rows


def preferences() -> list[Any]:
    """The same of `preferredNodeSelectors`, whose selectors stand one by one and may be alike."""
    return [
        (
            _l2, {"preferredNodeSelectors": [{"weight": 1, "preference": value[0]}]},
            f"spec.preferredNodeSelectors[0].preference{where.removeprefix('[0]')}", shown, right,
        )
        for value, where, shown, right in SELECTORS
        if where.startswith("[0]") and len(value) == 1
    ]  # fmt: skip


ROWS: Final[list[tuple[Parse, Any, str, str, str]]] = [
    # parse, spec, field, value as shown, what would be right
    # ------------------------------------------------------------------------------ IPAddressPool
    (_pool, "x", "spec", '"x"', "expected `object`"),
    (_pool, {}, "spec.addresses", "", "must be ADDRESS/BITS or FIRST-LAST"),
    (_pool, {"addresses": "192.0.2.0/24"}, "spec.addresses", '"192.0.2.0/24"', "expected `array`"),
    (_pool, {"addresses": [7]}, "spec.addresses[0]", "7", "expected `str`"),
    (_pool, {"addresses": ["192.0.2.1"]}, "spec.addresses[0]", "'192.0.2.1'", "must be ADDRESS/BITS or"),
    (_pool, {"addresses": ["192.0.2.0/33"]}, "spec.addresses[0]", "'192.0.2.0/33'", "must be ADDRESS/BITS"),
    (_pool, {"addresses": ["a-192.0.2.1"]}, "spec.addresses[0]", "'a'", "must be ADDRESS/BITS or FIRST-LAST"),
    (_pool, {"addresses": ["192.0.2.1-b"]}, "spec.addresses[0]", "'b'", "must be ADDRESS/BITS or FIRST-LAST"),
    (_pool, {"addresses": ["192.0.2.2-192.0.2.1"]}, "spec.addresses[0]", "192.0.2.2", "after the end IP"),
    (_pool, {"addresses": ["192.0.2.2-2001:db8::"]}, "spec.addresses[0]", "192.0.2.2", "different families"),
    (_pool, {"addresses": ["192.0.2.0/24"] * 2}, "spec.addresses", "192.0.2.0/24", "overlaps"),
    (_pool, {"addresses": ["::ffff:192.0.2.0/120"]}, "spec.addresses[0]", "::ffff:", "write IPv4"),
    (_pool, {**POOL, "autoAssign": "no"}, "spec.autoAssign", '"no"', "expected `bool"),
    (_pool, {**POOL, "avoidBuggyIPs": 1}, "spec.avoidBuggyIPs", "1", "expected `bool"),
    (_pool, {**POOL, "serviceAllocation": []}, "spec.serviceAllocation", "[]", "expected `object"),
    (
        _pool, {**POOL, "serviceAllocation": {"priority": "high"}},
        "spec.serviceAllocation.priority", '"high"', "expected `int",
    ),
    (
        _pool, {**POOL, "serviceAllocation": {"namespaces": ["a", "a"]}},
        "spec.serviceAllocation.namespaces", "'a'", "duplicate definition",
    ),
    (
        _pool, {**POOL, "serviceAllocation": {"namespaces": "a"}},
        "spec.serviceAllocation.namespaces", '"a"', "expected `array",
    ),
    *selectors(_pool, POOL, "serviceAllocation.namespaceSelectors"),
    *selectors(_pool, POOL, "serviceAllocation.serviceSelectors"),
    # ---------------------------------------------------------------------------- L2Advertisement
    (_l2, {"ipAddressPools": ["a", "a"]}, "spec.ipAddressPools", "'a'", "duplicate definition"),
    (_l2, {"ipAddressPools": "a"}, "spec.ipAddressPools", '"a"', "expected `array"),
    (_l2, {"interfaces": {}}, "spec.interfaces", "{}", "expected `array"),
    (_l2, {"interfaces": [1]}, "spec.interfaces[0]", "1", "expected `str"),
    (
        _l2, {"preferredNodeSelectors": [{"weight": 101, "preference": {}}]},
        "spec.preferredNodeSelectors[0].weight", "101", "1..100",
    ),
    *preferences(),
    *selectors(_l2, {}, "ipAddressPoolSelectors"),
    *selectors(_l2, {}, "nodeSelectors"),
    *selectors(_l2, {}, "serviceSelectors"),
    # --------------------------------------------------------------------------- BGPAdvertisement
    (_bgp, {"aggregationLength": 33}, "spec.aggregationLength", "33", "1..32"),
    (_bgp, {"aggregationLength": "24"}, "spec.aggregationLength", '"24"', "expected `int"),
    (_bgp, {"aggregationLength": 23}, "spec.aggregationLength", "23", "prefix 24 in this pool"),
    (_bgp, {"aggregationLengthV6": 0}, "spec.aggregationLengthV6", "0", "1..128"),
    (_bgp, {"localPref": -1}, "spec.localPref", "-1", "0..4294967295"),
    (_bgp, {"localPref": 1.5}, "spec.localPref", "1.5", "expected `int"),
    (_bgp, {"communities": ["1:65536"]}, "spec.communities[0]", "'1:65536'", "0..65535"),
    (_bgp, {"communities": ["1:2:3"]}, "spec.communities[0]", "'1:2:3'", "must be A:B or large:A:B:C"),
    (_bgp, {"communities": ["1:2", "1:2"]}, "spec.communities", "'1:2'", "duplicate definition"),
    (_bgp, {"ipAddressPools": ["a", "a"]}, "spec.ipAddressPools", "'a'", "duplicate definition"),
    (_bgp, {"peers": ["a", "a"]}, "spec.peers", "'a'", "duplicate definition"),
    (_bgp, {"peers": [None]}, "spec.peers[0]", "null", "expected `str"),
    (
        _bgp, {"serviceSelectors": [{}], "aggregationLength": 24},
        "spec", "32", "serviceSelectors and aggregationLength are mutually exclusive",
    ),
    *selectors(_bgp, {}, "ipAddressPoolSelectors"),
    *selectors(_bgp, {}, "nodeSelectors"),
    *selectors(_bgp, {}, "serviceSelectors"),
    # ------------------------------------------------------------------------------------ BGPPeer
    (_peer, {**PEER, "myASN": 0}, "spec.myASN", "", "missing local ASN"),
    (_peer, {**PEER, "myASN": "64512"}, "spec.myASN", '"64512"', "expected `int"),
    (_peer, {**PEER, "myASN": 2**32}, "spec.myASN", str(2**32), "1..4294967295"),
    (_peer, {**PEER, "peerASN": -1}, "spec.peerASN", "-1", "1..4294967295"),
    (_peer, INTERNAL, "spec.peerASN", "", "missing peer ASN and dynamicASN"),
    (_peer, {**PEER, "dynamicASN": "internal"}, "spec.peerASN", "", "both peer ASN and dynamicASN"),
    (_peer, {**INTERNAL, "dynamicASN": "any"}, "spec.dynamicASN", "'any'", "must be internal or external"),
    (_peer, {**PEER, "localASN": 0}, "spec.localASN", "0", "1..4294967295"),
    (_peer, {**PEER, "peerAddress": "router"}, "spec.peerAddress", "'router'", "must be an IP address"),
    (_peer, {**PEER, "peerAddress": ""}, "spec.peerAddress", "", "no Address or Interface"),
    (_peer, {**PEER, "interface": "eth0"}, "spec.peerAddress", "", "both Address and Interface"),
    (_peer, {**PEER, "sourceAddress": "me"}, "spec.sourceAddress", "'me'", "must be an IP address"),
    (_peer, {**PEER, "peerPort": 0}, "spec.peerPort", "0", "1..65535"),
    (_peer, {**PEER, "holdTime": "2s"}, "spec.holdTime", "'2s'", "must be 0 or >=3s"),
    (_peer, {**PEER, "holdTime": "soon"}, "spec.holdTime", "'soon'", "must be like 90s"),
    (_peer, {**PEER, "holdTime": 90}, "spec.holdTime", "90", "expected `str"),
    (_peer, {**PEER, "holdTime": "9s", "keepaliveTime": "10s"}, "spec.keepaliveTime", "'10s'", "be lower"),
    (_peer, {**PEER, "keepaliveTime": "x"}, "spec.keepaliveTime", "'x'", "must be like 90s"),
    (_peer, {**PEER, "connectTime": "500ms"}, "spec.connectTime", "'500ms'", "1..65535 seconds"),
    (_peer, {**PEER, "connectTime": "1500ms"}, "spec.connectTime", "'1500ms'", "whole seconds"),
    (_peer, {**PEER, "routerID": "::1"}, "spec.routerID", "'::1'", "must be an IPv4 address"),
    (_peer, {**PEER, "routerID": "0.0.0.0"}, "spec.routerID", "'0.0.0.0'", "must be an IPv4 address"),
    (_peer, {**PEER, "ebgpMultiHop": "yes"}, "spec.ebgpMultiHop", '"yes"', "expected `bool"),
    (_peer, {**PEER, "peerASN": 64512, "ebgpMultiHop": True}, "spec.ebgpMultiHop", "", "for an ibgp peer"),
    (_peer, {**PEER, "password": 5}, "spec.password", "", "expected `str"),
    (_peer, {**PEER, "password": "x" * 81}, "spec.password", "", "1..80 octets"),
    (_peer, {**PEER, "passwordSecret": "s"}, "spec.passwordSecret", "", "expected `object"),
    (
        _peer, {**PEER, "password": "x", "passwordSecret": {"name": "s"}},
        "spec.passwordSecret", "", "can not have both password and secret ref",
    ),
    (_peer, {**PEER, "bfdProfile": 1}, "spec.bfdProfile", "1", "expected `str"),
    (_peer, {**PEER, "enableGracefulRestart": 1}, "spec.enableGracefulRestart", "1", "expected `bool"),
    (_peer, {**PEER, "vrf": []}, "spec.vrf", "[]", "expected `str"),
    (_peer, {**PEER, "dualStackAddressFamily": "x"}, "spec.dualStackAddressFamily", '"x"', "expected `bool"),
    *selectors(_peer, PEER, "nodeSelectors"),
    # --------------------------------------------------------------------------------- BFDProfile
    *[
        (_bfd, {field: value}, f"spec.{field}", str(value), f"{low}..{high}")
        for field, low, high in (
            ("receiveInterval", 10, 60000),
            ("transmitInterval", 10, 60000),
            ("detectMultiplier", 2, 255),
            ("echoInterval", 10, 60000),
            ("minimumTtl", 1, 254),
        )
        for value in (low - 1, high + 1)
    ],
    *[
        (_bfd, {field: "x"}, f"spec.{field}", '"x"', "expected `")
        for field in ("receiveInterval", "detectMultiplier", "echoMode", "passiveMode", "minimumTtl")
    ],
    # ---------------------------------------------------------------------------------- Community
    (_community, {"communities": {}}, "spec.communities", "{}", "expected `array"),
    (_community, {"communities": [{"value": "1:1"}]}, "spec.communities[0].name", "", "missing community"),
    (_community, {"communities": [{"name": 1}]}, "spec.communities[0].name", "1", "expected `str"),
    (
        _community, {"communities": [{"name": "a", "value": "1"}]},
        "spec.communities[0].value", "'1'", "must be A:B or large:A:B:C",
    ),
    (
        _community, {"communities": [{"name": "a", "value": "large:1:2:4294967296"}]},
        "spec.communities[0].value", "'large:1:2:4294967296'", "0..4294967295",
    ),
    (
        _community, {"communities": [{"name": "a", "value": "1:1"}, {"name": "a", "value": "1:2"}]},
        "spec.communities[1].name", "'a'", "duplicate definition of community",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "spec", "field", "value", "right"), ROWS)
def test_each_is_told_with_field_value_and_what_is_right(
    parse: Parse, spec: Any, field: str, value: str, right: str
) -> None:
    problems = told(parse, document(spec))
    assert problems, "it got through"
    fitting = [each for each in problems if field in each and value in each and right in each]
    assert fitting, problems
    assert all(each.startswith("x: ") for each in problems), problems
    assert all("\n" not in each for each in problems)


def test_no_password_is_ever_shown() -> None:
    for spec in (
        {**PEER, "password": ["hunter2"]},
        {**PEER, "passwordSecret": ["hunter2"]},
        ["password=hunter2"],
    ):
        (problem,) = told(_peer, document(spec))
        assert "hunter2" not in problem
    raw = msgspec.json.encode({"metadata": {"name": "s", "namespace": "n"}, "data": {"k": ["hunter2"]}})
    (problem,) = told(Secret.decode, raw)
    assert "hunter2" not in problem


def test_a_long_value_is_cut() -> None:
    (problem,) = told(_pool, document({"addresses": "x" * 100_000}))
    assert len(problem) < 200


# ------------------------------------------------------------------- that no field was forgotten

ANY_VALUE: Final[Mapping[str, str]] = {
    "IPAddressPool spec.autoAssign": "yes or no",
    "IPAddressPool spec.avoidBuggyIPs": "yes or no",
    "IPAddressPool spec.serviceAllocation.priority": "any number",
    "IPAddressPool spec.serviceAllocation.namespaces[]": "a namespace may be made later",
    "L2Advertisement spec.ipAddressPools[]": "told as a name that leads nowhere: test_review",
    "L2Advertisement spec.interfaces[]": "a name that no node has selects no interface",
    "BGPAdvertisement spec.ipAddressPools[]": "told as a name that leads nowhere: test_review",
    "BGPAdvertisement spec.peers[]": "told as a name that leads nowhere: test_review",
    "BGPPeer spec.interface": "each speaker looks for it on its own node",
    "BGPPeer spec.vrf": "each speaker looks for it on its own node",
    "BGPPeer spec.bfdProfile": "told as a name that leads nowhere: test_review",
    "BGPPeer spec.passwordSecret.name": "the speakers' to read, and to tell",
    "BGPPeer spec.enableGracefulRestart": "yes or no",
    "BGPPeer spec.dualStackAddressFamily": "yes or no",
    "BFDProfile spec.echoMode": "yes or no",
    "BFDProfile spec.passiveMode": "yes or no",
}
"""Leaves of which every value of the right type makes sense by itself, and why."""

NOT_READ: Final[Mapping[str, str]] = {
    "BGPPeer spec.disableMP": "has had no effect for long, nor has it in MetalLB",
    "BGPPeer spec.passwordSecret.namespace": "the Secret is in our own namespace, as in MetalLB",
    "ConfigurationState status.conditions[].lastTransitionTime": "for people",
    "ConfigurationState status.conditions[].observedGeneration": "part of the type, used by nobody",
    **{
        f"{kind} status": "always empty"
        for kind in ("L2Advertisement", "BGPAdvertisement", "BGPPeer", "BFDProfile", "Community")
    },
    "ServiceL2Status spec": "always empty",
    "ServiceBGPStatus spec": "always empty",
}
"""Whatever stands there, nobody of ours looks at it."""

READERS: Final[Mapping[str, Parse]] = {
    "IPAddressPool": _pool,
    "L2Advertisement": _l2,
    "BGPAdvertisement": _bgp,
    "BGPPeer": _peer,
    "BFDProfile": _bfd,
    "Community": _community,
    "ServiceL2Status": ServiceL2Status.decode,
    "ServiceBGPStatus": ServiceBgpStatus.decode,
    "ConfigurationState": ConfigurationState.decode,
}


def fields_of(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, bool]]:
    """Path, type and whether it is a leaf, of this field and all below; `[]` is an item, `{}` a value."""
    kind = str(schema["type"])
    below = {f".{name}": each for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        below["[]"] = schema["items"]
    if isinstance(values := schema.get("additionalProperties"), dict):
        below["{}"] = values
    yield path, kind, not below
    for step, each in below.items():
        yield from fields_of(each, path + step)


def all_fields() -> list[tuple[str, str, str, bool]]:
    """Kind, path, type and whether it is a leaf, of all there is in the schemas of all versions."""
    found = set()
    for file in CRDS.glob("metallb.io_*.yaml"):
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            properties = version["schema"]["openAPIV3Schema"]["properties"]
            for part in properties.keys() & {"spec", "status"}:
                for field in fields_of(properties[part], part):
                    found.add((spec["names"]["kind"], *field))
    return sorted(found)


FIELDS: Final = all_fields()
READ: Final = [(kind, path, of) for kind, path, of, _ in FIELDS if f"{kind} {path}" not in NOT_READ]


def test_the_lists_of_exceptions_are_of_fields_that_exist() -> None:
    fields = {f"{kind} {path}" for kind, path, _, _ in FIELDS}
    assert {kind for kind, *_ in FIELDS} == READERS.keys()
    assert ANY_VALUE.keys() | NOT_READ.keys() <= fields


def test_every_field_has_a_row_with_a_value_that_makes_no_sense() -> None:
    """But those of a status, which only our own programs write."""
    readers = {parse: kind for kind, parse in READERS.items()}
    rows = {
        readers[parse] + " " + re.sub(r"\[[0-9]+\]", "[]", field)
        for parse, _, field, _, right in ROWS
        if not right.startswith("expected `")
    }
    leaves = {
        f"{kind} {path}"
        for kind, path, _, leaf in FIELDS
        # of labels and of the values of an expression the message names the list
        if leaf and path.startswith("spec.") and not path.endswith("{}")
    }
    assert leaves - rows - ANY_VALUE.keys() - NOT_READ.keys() == set()
    assert rows & ANY_VALUE.keys() == set(), "these are no exceptions"


@pytest.mark.parametrize(("kind", "path", "of"), READ)
def test_every_field_with_a_value_of_another_type(kind: str, path: str, of: str) -> None:
    """Such as the API server lets through where somebody has replaced our schemas."""
    wrong: Any = 7 if of == "string" else "seven"
    for step in reversed(re.findall(r"\w+|\[\]|\{\}", path)):
        wrong = [wrong] if step == "[]" else {"a": wrong} if step == "{}" else {step: wrong}
    (problem,) = told(READERS[kind], document(**{"spec": {}, **wrong}))
    value = "" if "password" in path else " 7:" if of == "string" else ' "seven":'
    where = path.replace("[]", "[0]").replace("{}", '["a"]')
    assert problem.startswith(f"x: {where}:{value} expected `")


# ------------------------------------------------------------------------------------- annotations

ANNOTATIONS: Final = [
    # by what follows the prefix, message
    (
        {"ips": "nonsense"},
        'invalid metallb.io/loadBalancerIPs: "nonsense": metallb.io/loadBalancerIPs must be',
    ),
    ({"ips": "192.0.2.1/32"}, 'invalid metallb.io/loadBalancerIPs: "192.0.2.1/32": '),
    ({"ips": "192.0.2.1;2001:db8::1"}, "must be an IP address, or one of each family with a comma between"),
    ({"ips": "192.0.2.1,192.0.2.2"}, "same family: metallb.io/loadBalancerIPs must be"),
    ({"ips": "192.0.2.1,2001:db8::1,192.0.2.2"}, '"192.0.2.2"]: metallb.io/loadBalancerIPs must be'),
    ({"ips": "2001:db8::1"}, "does not match the ipFamily of the service, which is ipv4"),
    (
        {"ips": "203.0.113.9"},
        '["203.0.113.9"] is not allowed in config (one: does not have 203.0.113.9; two:',
    ),
    ({"ips": ","}, "metallb.io/loadBalancerIPs must be"),
    ({"pool": "gone"}, 'unknown pool "gone" (one: not requested; two: not requested)'),
    ({"pool": " one "}, 'unknown pool " one "'),
    (
        {"ips": "192.0.2.1", "pool": "two"},
        "is not compatible with requested address pool two (one: has what is requested)",
    ),
]


def test_every_annotation_has_a_row() -> None:
    """But the sharing key, of which any text is right, and the one that we write ourselves."""
    read = {ADDRESS_POOL: "pool", LOAD_BALANCER_IPS: "ips", ALLOW_SHARED_IP: ""}
    rows = {name for given, _ in ANNOTATIONS for name in given}
    assert rows == {name for name in read.values() if name}
    old = {f"{OLD_PREFIX}{name}": "x" for name in read}
    assert deprecated(old) == tuple(old), "all that are read"


@pytest.mark.parametrize(("annotations", "text"), ANNOTATIONS)
@pytest.mark.parametrize("prefix", [PREFIX, OLD_PREFIX])
def test_annotations_that_make_no_sense(prefix: str, annotations: dict[str, str], text: str) -> None:
    asks = lb(**annotations)
    notes = {name.replace(PREFIX, prefix): value for name, value in asks.annotations.items()}
    found = world(
        [pool("one", "192.0.2.0/24"), pool("two", "198.51.100.0/24")], replace(asks, annotations=notes)
    )
    found.settle()
    (said,) = found.said("AllocationFailed")
    assert '"default/s"' in said
    assert text in said
    assert found.ips("s") == ()


def test_the_annotation_we_write_is_put_right() -> None:
    for value in ("two", "", "nonsense"):
        asks = replace(lb("v4", "192.0.2.7"), annotations={ALLOCATED_FROM: value})
        found = world([pool("one", "192.0.2.0/24")], asks)
        found.settle()
        assert found.services["default/s"].annotations[ALLOCATED_FROM] == "one"
        assert (found.ips("s"), found.notices) == (("192.0.2.7",), [])


@pytest.mark.parametrize("annotations", [{"ips": "nonsense"}, {"ips": "192.0.2.1,192.0.2.2"}, {"ips": ","}])
def test_nonsense_does_not_cost_an_address(annotations: dict[str, str]) -> None:
    found = world([pool("one", "192.0.2.0/24")], lb("v4", "192.0.2.7", **annotations))
    found.settle()
    assert found.ips("s") == ("192.0.2.7",)
    assert found.said("LoadBalancerFailed")


def test_any_text_is_a_sharing_key() -> None:
    """There is no wrong one: even the longest only has to be the same."""
    for key in ("\u00e4 b", "x" * 5000, "[]", "null"):
        one = lb("v4", ip="192.0.2.1", share=key)
        found = world([pool("one", "192.0.2.0/24")], one)
        found.settle()
        assert found.ips("s") == ("192.0.2.1",)
