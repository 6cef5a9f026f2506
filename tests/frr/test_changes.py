"""What FRR is told: lines for every field, and the difference to what it has, whatever that is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp_lite.attributes import Path
from bgp_lite.prefix import Prefix, parse_prefix
from crier.kube.model.bfdprofile import BfdProfile
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.node import Node
from speaker.frr.changes import BGPD, Block, changes, entry_numbers, set_lines, settled, want, whole
from speaker.frr.render import Neighbor, profile_lines, render, shown
from speaker.frr.running import Held, parse_bfdd, parse_bgpd
from tests.frr.fake import FakeBgpd, Told

NODE = Node(name="iris1", internal_ips=("10.9.0.2",))
PLAIN = [
    "neighbor 10.9.0.1 remote-as 65000",
    "neighbor 10.9.0.1 port 179",
    "neighbor 10.9.0.1 timers 30 90",
    "neighbor 10.9.0.1 timers connect 30",
]


def peer(name: str = "tor", address: str = "10.9.0.1", **more: Any) -> BgpPeer:
    found = {"my_asn": 65001, "peer_asn": 65000} | more
    if "interface" not in found:
        found["address"] = ip_address(address)
    return BgpPeer(name=name, **found)


def neighbor(*peers: BgpPeer) -> Neighbor:
    return render(peers, NODE).routers[""].neighbors[0]


FIELDS: list[tuple[dict[str, Any], dict[str, str | None]]] = [
    ({"peer_asn": 4200000000}, {"remote-as 65000": "remote-as 4200000000"}),
    ({"peer_asn": "external"}, {"remote-as 65000": "remote-as external"}),
    ({"peer_asn": "internal"}, {"remote-as 65000": "remote-as internal"}),
    ({"port": 1790}, {"port 179": "port 1790"}),
    ({"hold_time": 9}, {"timers 30 90": "timers 3 9"}),
    ({"hold_time": 9, "keepalive_time": 2}, {"timers 30 90": "timers 2 9"}),
    ({"hold_time": 0}, {"timers 30 90": "timers 0 0"}),
    ({"connect_time": 5}, {"timers connect 30": "timers connect 5"}),
    ({"local_asn": 65001}, {}),
    ({"local_asn": 65009}, {"+": "local-as 65009 no-prepend replace-as"}),
    ({"multihop": True}, {"+": "ebgp-multihop"}),
    ({"password": b"s3|c?ret!#"}, {"+": "password s3|c?ret!#"}),
    ({"source": ip_address("10.9.0.22")}, {"+": "update-source 10.9.0.22"}),
    ({"graceful_restart": True}, {"+": "graceful-restart"}),
]


@pytest.mark.parametrize(("fields", "difference"), FIELDS, ids=[str(sorted(each[0])) for each in FIELDS])
def test_every_field_of_a_peer(fields: dict[str, Any], difference: dict[str, str | None]) -> None:
    lines = set(neighbor(peer(**fields)).lines)
    expected = set(PLAIN)
    for old, new in difference.items():
        expected.discard(f"neighbor 10.9.0.1 {old}")
        expected.add(f"neighbor 10.9.0.1 {new}")
    assert lines == expected
    assert (neighbor(peer(**fields)).digest == neighbor(peer()).digest) == (not difference)


def test_families() -> None:
    assert neighbor(peer()).families == (4,)
    assert neighbor(peer(address="fd09::1")).families == (6,)
    assert neighbor(peer(dual_stack=True)).families == (4, 6)
    unnumbered = neighbor(peer(interface="eth0"))
    assert unnumbered.families == (4, 6)
    assert unnumbered.lines[0] == "neighbor eth0 interface remote-as 65000"
    assert not any(" port " in line for line in unnumbered.lines)


def test_one_hop_of_ipv6_is_not_looked_for_among_the_networks() -> None:
    check = "neighbor fd09::1 disable-connected-check"
    assert check in neighbor(peer(address="fd09::1")).lines
    assert check not in neighbor(peer(address="fd09::1", multihop=True)).lines
    assert check not in neighbor(peer(address="fd09::1", peer_asn=65001)).lines
    assert check not in neighbor(peer(address="fd09::1", peer_asn="internal")).lines


def test_bfd_profiles() -> None:
    profile = BfdProfile(name="fast", receive_interval=100, echo_mode=True, minimum_ttl=7)
    base = render([peer(bfd=profile)], NODE)
    assert base.profiles == {"crier-bfd-fast": profile_lines(profile)}
    assert base.routers[""].neighbors[0].lines[-2:] == (
        "neighbor 10.9.0.1 bfd",
        "neighbor 10.9.0.1 bfd profile crier-bfd-fast",
    )
    assert profile_lines(profile) == (
        "receive-interval 100",
        "transmit-interval 300",
        "detect-multiplier 3",
        "echo transmit-interval 50",
        "echo receive-interval 50",
        "echo-mode",
        "no passive-mode",
        "minimum-ttl 7",
    )
    assert parse_bfdd("bfd\n profile theirs\n exit\n profile crier-bfd-fast\n exit\nexit\n") == {
        "crier-bfd-fast"
    }


def test_a_router_for_each_vrf() -> None:
    base = render([peer("a"), peer("b", vrf="red", my_asn=65002), peer("c", "10.9.0.3", vrf="default")], NODE)
    assert base.refused == {}
    assert [router.command for router in base.routers.values()] == [
        "router bgp 65001",
        "router bgp 65002 vrf red",
    ]
    assert [each.peer for each in base.routers[""].neighbors] == ["a", "c"]


def test_the_router_id() -> None:
    given = render([peer(router_id=ip_address("1.2.3.4"))], NODE)
    assert "bgp router-id 1.2.3.4" in given.routers[""].lines
    assert not any("router-id" in line for line in render([peer()], NODE).routers[""].lines)
    only_six = Node(name="node-1", internal_ips=("fd09::2",))
    assert "bgp router-id 95.28.242.19" in render([peer()], only_six).routers[""].lines


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (peer("b"), "spec.peerAddress: peer 10.9.0.1 already exists (a), FRR mode doesn't support"),
        (peer("b", "10.9.0.3", my_asn=65002), "spec.myASN: 65002, but a has 65001"),
        (peer("b", "10.9.0.3", router_id=ip_address("1.1.1.1")), "spec.routerID: 1.1.1.1, but a has none"),
        (peer("b", interface="eth0 shutdown"), "spec.interface: 'eth0 shutdown' is no name"),
        (peer("b", "10.9.0.3", vrf="red\nno router bgp"), "spec.vrf: "),
        (peer("b", "10.9.0.3", password=b"a b"), "spec.password: "),
        (peer("b", "10.9.0.3", password=b"a\0b"), "spec.password: "),
        (peer("b", "10.9.0.3", password="grün".encode()), "spec.password: "),
        (peer("b", "10.9.0.3", password=b"\xff"), "spec.password: "),
    ],
)
def test_what_frr_cannot_be_told(other: BgpPeer, why: str) -> None:
    """It costs the one peer its session, and the first one nothing."""
    base = render([other, peer("a")], NODE)
    assert base.refused["b"].startswith(why)
    assert [each.peer for router in base.routers.values() for each in router.neighbors] == ["a"]
    if other.password:
        assert other.password.decode("latin-1") not in base.refused["b"]


def test_no_password_is_shown() -> None:
    found = render([peer(password=b"geheim")], NODE)
    assert "geheim" not in repr(found)
    assert "geheim" not in repr(changes(Held(), want(found, {})))
    assert shown("neighbor 10.9.0.1 password geheim") == "neighbor 10.9.0.1 password ***"
    assert "geheim" not in shown("% [BGP] Unknown command: neighbor 10.9.0.1 password geheim x")


def test_names_too_long_for_frr_stay_different() -> None:
    names = [f"{'very-' * 40}{number}" for number in range(3)]
    maps = {neighbor(peer(name)).out_map for name in names}
    assert len(maps) == 3
    assert max(map(len, maps)) <= 60
    assert all(len(neighbor(peer(name)).description) <= 80 for name in names)


def test_attributes() -> None:
    path = Path(communities=(0xFFFF0000, 65001 << 16 | 7), large_communities=((1, 2, 3),), local_pref=250)
    assert set_lines(path) == (
        "set community 65535:0 65001:7 additive",
        "set large-community 1:2:3 additive",
        "set local-preference 250",
    )
    assert set_lines(Path(next_hop=bytes((10, 9, 0, 7)))) == ("set ip next-hop 10.9.0.7",)
    assert set_lines(Path(next_hop=ip_address("fd09::7").packed)) == ("set ipv6 next-hop global fd09::7",)


@pytest.mark.parametrize(
    ("one", "other", "classes", "entries"),
    [
        (Path(local_pref=200), Path(local_pref=200), 1, 0),
        (Path(local_pref=200), Path(), 0, 1),
        (Path(communities=(0xFFFFFF02,)), Path(communities=(0xFFFFFF02,)), 0, 2),
        (Path(), Path(), 0, 0),
    ],
)
def test_where_attributes_are_set(one: Path, other: Path, classes: int, entries: int) -> None:
    """With the prefix when all peers are told the same, unless FRR would obey it itself."""
    prefix = parse_prefix("203.0.113.9")
    base = render([peer("a"), peer("b", "10.9.0.3")], NODE)
    wanted = want(base, {"a": {prefix: one}, "b": {prefix: other}})
    assert sum(len(lines) - 1 for lines in wanted.classes.values()) == classes
    assert sum(len(lines) - 1 for each in wanted.entries.values() for lines in each.values()) == entries


def test_entries_keep_their_numbers_and_take_free_ones() -> None:
    assert entry_numbers({1: 10, 2: 20, 5: 0}, {20: (), 30: (), 40: ()}) == {2: 20, 3: 30, 4: 40}


def test_one_more_prefix_is_one_command() -> None:
    base = render([peer("a"), peer("b", "10.9.0.3")], NODE)
    few = {parse_prefix(f"203.0.113.{number}"): Path() for number in range(9)}
    before = want(base, {"a": few, "b": few})
    held = settled(Held(), before)
    more = few | {parse_prefix("198.51.100.1"): Path()}
    told = changes(held, want(base, {"a": more, "b": more}))
    (number,) = before.classes
    assert told == [
        Block(
            BGPD,
            ("router bgp 65001", "address-family ipv4 unicast"),
            (f"network 198.51.100.1/32 route-map crier-class-{number}",),
        )
    ]
    assert changes(held, before) == []


def test_what_is_not_ours_stays() -> None:
    text = """
router bgp 65001
 neighbor 10.9.0.50 remote-as 65050
 neighbor 10.9.0.50 description theirs
 !
 address-family ipv4 unicast
  network 198.51.100.0/24
  network 198.51.101.0/24 route-map theirs
 exit-address-family
exit
router bgp 65009 vrf blue
 neighbor 10.9.0.51 remote-as 65051
exit
route-map theirs permit 10
 set tag 7
exit
"""
    held = parse_bgpd(text)
    for wanted in (want(render([], NODE), {}), want(render([peer()], NODE), {})):
        said = [line for block in changes(held, wanted) for line in (*block.path, *block.lines)]
        assert not any(word in line for line in said for word in ("10.9.0.5", "theirs", "198.51", "blue"))
        assert not any(line.startswith("no router") for line in said)


def test_a_whole_file() -> None:
    wanted = want(render([peer()], NODE), {"tor": {parse_prefix("203.0.113.9"): Path()}})
    text = whole(changes(Held(), wanted))
    (number,) = wanted.classes
    assert (
        f"""router bgp 65001
 address-family ipv4 unicast
  network 203.0.113.9/32 route-map crier-class-{number}
 exit-address-family
exit
"""
        in text
    )
    held = parse_bgpd(text)
    assert held.routers[""].networks == {"203.0.113.9/32": number}
    assert changes(held, wanted) == []


# ------------------------------------------------------------------------------------- the model

PEERS = [
    peer("a"),
    peer("b", "10.9.0.3", dual_stack=True),
    peer("c", "fd09::3"),
    peer("d", vrf="red", my_asn=65002),
]
PREFIXES = [parse_prefix(text) for text in ("203.0.113.1", "203.0.113.2", "198.51.100.0/24", "2001:db8::1")]
PATHS = [
    Path(),
    Path(local_pref=200),
    Path(communities=(0xFFFFFF01,)),
    Path(communities=(7,)),
    Path(communities=(7,), local_pref=200),
]

tables = st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from(PATHS))
steps = st.tuples(
    st.lists(st.sampled_from(PEERS), unique_by=lambda each: each.name),
    st.fixed_dictionaries({each.name: tables for each in PEERS}),
    st.sampled_from([65001, 65003]),
    st.sampled_from(["remember", "read", "restart"]),
)


def meant(peers: list[BgpPeer], routes: dict[str, dict[Prefix, Path]]) -> Told:
    return {
        (each.vrf, str(each.address)): {
            str(prefix): tuple(sorted(set_lines(path)))
            for prefix, path in routes[each.name].items()
            if (4 if prefix.family == 1 else 6) in each.versions
        }
        for each in peers
    }


@settings(max_examples=80, deadline=None)
@given(st.lists(steps, min_size=1, max_size=5))
def test_every_router_is_told_what_is_meant_for_it_and_nothing_else_on_the_way(
    history: list[tuple[list[BgpPeer], dict[str, dict[Prefix, Path]], int, str]],
) -> None:
    bgpd, held = FakeBgpd(), Held()
    before: Told = {}
    for peers, routes, asn, how in history:
        peers = [replace(each, my_asn=asn) if not each.vrf else each for each in peers]
        if how == "restart":
            bgpd, before = FakeBgpd(), {}
        if how != "remember":
            held = parse_bgpd(bgpd.running())
        wanted = want(render(peers, NODE), routes)
        after = meant(peers, routes)
        for block in changes(held, wanted):
            bgpd.take(block)
            for who, told in bgpd.told().items():
                for prefix, said in told.items():
                    allowed = [each[who].get(prefix) for each in (before, after) if who in each]
                    assert said in allowed, (who, prefix, said, allowed)
        assert bgpd.told() == after
        held = settled(held, wanted)
        assert changes(held, wanted) == []
        assert changes(parse_bgpd(bgpd.running()), wanted) == []
        before = after
