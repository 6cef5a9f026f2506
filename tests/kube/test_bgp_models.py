"""The kinds of routed mode: every rule about them, by its text."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crier.kube.model.bfdprofile import BfdProfile, BfdProfileObject, parse_bfd_profiles
from crier.kube.model.bgpadvertisement import (
    BgpAdvertisement,
    BgpAdvertisementObject,
    parse_bgp_advertisements,
)
from crier.kube.model.bgppeer import BASIC_AUTH, BgpPeer, BgpPeerObject, parse_bgp_peers
from crier.kube.model.community import CommunityObject, CommunityValue, parse_communities, parse_value
from crier.kube.model.duration import parse_duration
from crier.kube.model.errors import ConfigError, DecodeError
from crier.kube.model.pool import Pool, PoolObject, parse_pools
from crier.kube.model.secret import Secret

GOOD_PEER = {"myASN": 64500, "peerASN": 64501, "peerAddress": "192.0.2.1"}
NODES = {"a": {"rack": "1"}, "b": {"rack": "2"}}


def octets(name: str, spec: Any) -> bytes:
    return json.dumps({"metadata": {"name": name, "namespace": "lb"}, "spec": spec}).encode()


def peer(secrets: dict[str, Secret] | None = None, **spec: Any) -> BgpPeer:
    (found,) = parse_bgp_peers(
        [BgpPeerObject.decode(octets("p", {**GOOD_PEER, **spec}))],
        {"fast": BfdProfile(name="fast")},
        secrets or {},
    )
    return found


def pools(*addresses: str) -> tuple[Pool, ...]:
    return parse_pools([PoolObject.decode(octets("pool", {"addresses": addresses}))])


def ads(
    *specs: dict[str, Any],
    of: tuple[Pool, ...] = (),
    aliases: dict[str, CommunityValue] | None = None,
) -> tuple[BgpAdvertisement, ...]:
    objects = [BgpAdvertisementObject.decode(octets(f"ad{n}", spec)) for n, spec in enumerate(specs)]
    return parse_bgp_advertisements(objects, of, aliases or {}, NODES)


DECODERS: list[Callable[[bytes], object]] = [
    BgpPeerObject.decode,
    BgpAdvertisementObject.decode,
    BfdProfileObject.decode,
    CommunityObject.decode,
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["1s", "1:2", "192.0.2.1"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "value", "matchLabels", "key"]), inner, max_size=2)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "myASN",
        "peerASN",
        "dynamicASN",
        "localASN",
        "peerAddress",
        "peerPort",
        "holdTime",
        "keepaliveTime",
        "connectTime",
        "routerID",
        "nodeSelectors",
        "password",
        "passwordSecret",
        "communities",
        "aggregationLength",
        "localPref",
        "peers",
        "detectMultiplier",
    ]
)


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.dictionaries(FIELDS, VALUES).map(lambda spec: octets("x", spec)) | st.binary(max_size=50))
@example(b"[" * 100_000)
def test_any_octets_are_a_record_a_fault_or_refused(decode: Callable[[bytes], object], data: bytes) -> None:
    with suppress(DecodeError, ConfigError):
        match decode(data):
            case BgpPeerObject() as thing:
                parse_bgp_peers([thing], {}, {})
            case BgpAdvertisementObject() as thing:
                parse_bgp_advertisements([thing], pools("192.0.2.0/24"), {}, NODES)
            case BfdProfileObject() as thing:
                parse_bfd_profiles([thing])
            case CommunityObject() as thing:
                parse_communities([thing])


# -- BGPPeer


def test_what_a_peer_leaves_out() -> None:
    found = peer()
    assert (found.asn, found.peer_asn, found.port) == (64500, 64501, 179)
    assert (found.hold_time, found.keepalive_time, found.connect_time) == (90, None, None)
    assert (found.versions, found.waiting) == (frozenset({4}), ())


def test_what_a_peer_says() -> None:
    found = peer(
        peerASN=0, dynamicASN="external", localASN=65000, holdTime="30.9s", keepaliveTime="10s",
        connectTime="1m5s", routerID="10.0.0.1", bfdProfile="fast", dualStackAddressFamily=True,
    )  # fmt: skip
    assert (found.asn, found.peer_asn) == (65000, "external")
    assert (found.hold_time, found.keepalive_time, found.connect_time) == (30, 10, 65)
    assert str(found.router_id) == "10.0.0.1"
    assert found.bfd == BfdProfile(name="fast")
    assert found.versions == {4, 6}


@pytest.mark.parametrize(
    ("spec", "timers"),
    [
        ({"keepaliveTime": "5s"}, (15, 5)),
        ({"holdTime": "0s"}, (0, None)),
        ({"holdTime": "3s", "keepaliveTime": "3s"}, (3, 3)),
        ({"holdTime": "0s", "keepaliveTime": "0s"}, (0, None)),
    ],
)
def test_one_timer_decides_the_other(spec: dict[str, Any], timers: tuple[int, int | None]) -> None:
    found = peer(**spec)
    assert (found.hold_time, found.keepalive_time) == timers


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ({"myASN": 0}, "p: spec.myASN: missing local ASN"),
        ({"myASN": 2**32}, "p: spec.myASN: 4294967296 is not in 1..4294967295"),
        ({"peerASN": 0}, "missing peer ASN and dynamicASN"),
        ({"dynamicASN": "internal"}, "both peer ASN and dynamicASN specified"),
        ({"peerASN": None, "dynamicASN": "both"}, "invalid dynamicASN 'both'"),
        ({"localASN": 0}, "spec.localASN: 0 is not in"),
        ({"peerASN": 64500, "ebgpMultiHop": True}, "invalid ebgp-multihop parameter set for an ibgp peer"),
        ({"peerASN": None, "dynamicASN": "internal", "ebgpMultiHop": True}, "invalid ebgp-multihop"),
        ({"peerAddress": ""}, "peer has no Address or Interface specified"),
        ({"interface": "eth0"}, "both Address and Interface"),
        ({"peerAddress": "router"}, "invalid BGPPeer address 'router'"),
        ({"peerPort": 0}, "spec.peerPort: 0 is not in 1..65535"),
        ({"holdTime": "2s"}, "invalid hold time '2s': must be 0 or >=3s"),
        ({"holdTime": "-5s"}, "invalid hold time '-5s'"),
        ({"holdTime": "soon"}, "spec.holdTime: invalid duration 'soon'"),
        (
            {"holdTime": "9s", "keepaliveTime": "10s"},
            "invalid keepaliveTime '10s', must be lower than holdTime",
        ),
        ({"keepaliveTime": "-1s"}, "invalid keepaliveTime '-1s'"),
        ({"connectTime": "500ms"}, "invalid connectTime '500ms': must be 1..65535 seconds"),
        ({"connectTime": "1500ms"}, "must be whole seconds"),
        ({"routerID": "no"}, "invalid router ID 'no'"),
        ({"routerID": "0.0.0.0"}, "invalid router ID '0.0.0.0'"),
        ({"routerID": "2001:db8::1"}, "must be an IPv4 address"),
        ({"sourceAddress": "here"}, "invalid source IP 'here'"),
        ({"nodeSelectors": [{"matchLabels": {"a": "b"}}] * 2}, "duplicate definition of nodeSelectors 'a=b'"),
        (
            {"password": "s3cret", "passwordSecret": {"name": "s"}},
            "can not have both password and secret ref set",
        ),
        ({"password": "x" * 81}, "a password has 1..80 octets"),
    ],
)
def test_what_a_peer_must_not_say(spec: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        peer(**spec)
    assert fault in str(caught.value)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("p: spec.")


def test_every_fault_is_told_and_no_password() -> None:
    with pytest.raises(ConfigError) as caught:
        peer(myASN=0, holdTime="1s", routerID="x", password="s3cret" * 20)
    assert len(caught.value.problems) == 4
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(peer(password="s3cret"))
    assert "s3cret" not in repr(BgpPeerObject.decode(octets("p", {**GOOD_PEER, "password": "s3cret"})))


def secret(kind: str = BASIC_AUTH, **data: bytes) -> dict[str, Secret]:
    return {"lb/s": Secret(namespace="lb", name="s", type=kind, data=data)}


def test_what_does_not_exist_yet_makes_one_peer_wait() -> None:
    found = peer(bfdProfile="slow", passwordSecret={"name": "s"})
    assert found.waiting == (
        "peer p referencing non existing bfd profile slow",
        "p: spec.passwordSecret: there is no Secret 's'",
    )


def test_the_password_of_a_secret() -> None:
    found = peer(secret(password=b"key"), passwordSecret={"name": "s"})
    assert (found.password, found.waiting) == (b"key", ())


@pytest.mark.parametrize(
    ("secrets", "fault"),
    [
        (
            secret("Opaque", password=b"k"),
            (
                'parsing peer p secret type mismatch on "lb"/"s", '
                'type "kubernetes.io/basic-auth" is expected \nfailed to parse peer p password secret'
            ),
        ),
        (secret(username=b"u"), "p: spec.passwordSecret: secret 's' has no key 'password'"),
        (secret(password=b""), "p: spec.passwordSecret: secret 's': a password has 1..80 octets"),
        (secret(password=b"x" * 81), "p: spec.passwordSecret: secret 's': a password has 1..80 octets"),
    ],
)
def test_a_secret_that_is_none_concerns_its_peer_alone(secrets: dict[str, Secret], fault: str) -> None:
    found = peer(secrets, passwordSecret={"name": "s"})
    assert (found.password, found.waiting) == (None, (fault,))


# -- BGPAdvertisement


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ({"aggregationLength": 33}, "spec.aggregationLength: invalid aggregation length 33"),
        ({"aggregationLength": 0}, "invalid aggregation length 0"),
        ({"aggregationLengthV6": 129}, "spec.aggregationLengthV6: invalid aggregation length 129"),
        ({"aggregationLength": 23}, "invalid aggregation length 23: prefix 24 in this pool is more specific"),
        ({"localPref": -1}, "spec.localPref: -1 is not in"),
        ({"communities": ["1:2", "1:2"]}, "duplicate definition of community '1:2'"),
        ({"communities": ["1:65536"]}, "invalid community value '1:65536'"),
        ({"communities": ["1:2:3"]}, "invalid community format '1:2:3'"),
        ({"communities": [f"1:{n}" for n in range(64)]}, "more than 63 communities"),
        ({"peers": ["x", "x"]}, "duplicate definition of peers 'x'"),
        ({"ipAddressPools": ["x", "x"]}, "duplicate definition of ipAddressPools 'x'"),
        (
            {"serviceSelectors": [{"matchLabels": {"a": "b"}}], "aggregationLength": 24},
            "serviceSelectors and aggregationLength are mutually exclusive",
        ),
    ],
)
def test_what_an_advertisement_must_not_say(spec: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ads(spec, of=pools("192.0.2.0/24"))
    assert fault in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_range_may_be_announced_as_its_widest_part() -> None:
    of = pools("192.0.2.250-192.0.3.5")
    ads({"aggregationLength": 30}, of=of)
    with pytest.raises(ConfigError, match="prefix 30 in this pool"):
        ads({"aggregationLength": 29}, of=of)


def test_communities_by_value_and_by_name() -> None:
    (found,) = ads({"communities": ["1:2", "large:1:2:3", "nice", "later"]}, aliases={"nice": 65536 * 9 + 9})
    assert found.communities == {65538, (1, 2, 3), 65536 * 9 + 9}
    assert found.unknown == ("later",)


LOW, HIGH = {"localPref": 1}, {"localPref": 2}
BOTH = ("192.0.2.0/24", "2001:db8::/64")


@pytest.mark.parametrize(
    ("one", "other", "of", "good"),
    [
        (LOW, HIGH, BOTH, False),
        (LOW, LOW, BOTH, True),
        (LOW, {**HIGH, "aggregationLength": 28}, BOTH[:1], True),
        (LOW, {**HIGH, "aggregationLength": 28}, BOTH[1:], False),
        (LOW, {**HIGH, "aggregationLengthV6": 120}, BOTH[1:], True),
        (LOW, {**HIGH, "aggregationLength": 28}, BOTH, False),
        (LOW, {**HIGH, "aggregationLength": 28, "aggregationLengthV6": 120}, BOTH, True),
        ({**LOW, "peers": ["x"]}, {**HIGH, "peers": ["y"]}, BOTH, True),
        ({**LOW, "peers": ["x"]}, {**HIGH, "peers": ["y", "x"]}, BOTH, False),
        ({**LOW, "peers": ["x"]}, HIGH, BOTH, False),
        (
            {**LOW, "nodeSelectors": [{"matchLabels": {"rack": "1"}}]},
            {**HIGH, "nodeSelectors": [{"matchLabels": {"rack": "2"}}]},
            BOTH,
            True,
        ),
        ({**LOW, "nodeSelectors": [{"matchLabels": {"rack": "1"}}]}, HIGH, BOTH, False),
        ({**LOW, "ipAddressPools": ["another"]}, HIGH, BOTH, True),
        ({**LOW, "serviceSelectors": [{"matchLabels": {"a": "b"}}]}, HIGH, BOTH, True),
    ],
)
def test_local_preferences_that_contradict(
    one: dict[str, Any], other: dict[str, Any], of: tuple[str, ...], good: bool
) -> None:
    if good:
        assert len(ads(one, other, of=pools(*of))) == 2
    else:
        with pytest.raises(ConfigError, match="invalid local preference 2: ad0 has 1"):
            ads(one, other, of=pools(*of))


# -- BFDProfile, Community, durations


def test_a_profile_and_its_defaults() -> None:
    found = parse_bfd_profiles([BfdProfileObject.decode(octets("b", {"receiveInterval": 50}))])
    assert found == {"b": BfdProfile(name="b", receive_interval=50)}


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("receiveInterval", 10, 60000),
        ("transmitInterval", 10, 60000),
        ("echoInterval", 10, 60000),
        ("detectMultiplier", 2, 255),
        ("minimumTtl", 1, 254),
    ],
)
def test_the_ranges_of_a_profile(name: str, low: int, high: int) -> None:
    for value in (low, high):
        parse_bfd_profiles([BfdProfileObject.decode(octets("b", {name: value}))])
    for value in (low - 1, high + 1):
        with pytest.raises(ConfigError, match=rf"b: spec\.{name}: {value} is not in {low}\.\.{high}"):
            parse_bfd_profiles([BfdProfileObject.decode(octets("b", {name: value}))])


def test_aliases_are_one_space() -> None:
    def community(name: str, *pairs: tuple[str, str]) -> CommunityObject:
        return CommunityObject.decode(
            octets(name, {"communities": [{"name": n, "value": v} for n, v in pairs]})
        )

    assert parse_communities([community("x", ("a", "1:2")), community("y", ("b", "large:1:2:3"))]) == {
        "a": 65538,
        "b": (1, 2, 3),
    }
    with pytest.raises(ConfigError) as caught:
        parse_communities(
            [community("x", ("a", "1:2")), community("y", ("a", "1:3"), ("", "1:1"), ("c", "?"))]
        )
    assert [problem.partition(": spec")[2] for problem in caught.value.problems] == [
        ".communities[0].name: duplicate definition of community 'a'",
        ".communities[1].name: missing community name",
        ".communities[2].value: invalid community format '?': must be A:B or large:A:B:C",
    ]


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF))
def test_communities_are_what_is_written(a: int, b: int, c: int) -> None:
    assert parse_value(f"{a}:{b}") == a * 65536 + b
    assert parse_value(f"large:{a}:{b}:{c}") == (a, b, c)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90s", 90),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("500ms", Fraction(1, 2)),
        ("-2s", -2),
        (".5s", Fraction(1, 2)),
        ("1.s", 1),
    ],
)
def test_durations(text: str, seconds: Fraction) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "1", "1 s", "1d", "--1s", "+", "1s1", "9" * 20 + "h", "1" * 65 + "s", "٣s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)
