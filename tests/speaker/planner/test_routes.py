"""Routes: who tells which router of what, and MetalLB's word when nobody is told."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_lite.attributes import Path
from bgp_lite.prefix import Prefix, parse_prefix
from crier.kube.model.bfdprofile import BfdProfileObject
from crier.kube.model.bgpadvertisement import BgpAdvertisementObject
from crier.kube.model.bgppeer import BgpPeerObject
from crier.kube.model.community import CommunityObject
from crier.kube.model.endpoints import Endpoint
from crier.kube.model.errors import ConfigError
from crier.kube.model.node import Node
from crier.kube.model.service import Service
from speaker.planner.bgpconfiguration import BgpConfiguration
from speaker.planner.plan import Rules
from speaker.planner.reasons import Unfit
from speaker.planner.routes import Objection, RoutePlanner, Routes, differences, plan_routes, prefix_of
from speaker.planner.view import View
from tests.speaker.planner.builders import (
    configuration,
    counted,
    endpoint,
    node,
    nodes,
    on_node,
    service,
    slice_of,
    view,
    with_labels,
)

WEB4, WEB6 = "10.20.30.1", "fc00:f853:ccd:e799::1"
ME = node("a")
EVERYWHERE = slice_of("web", endpoint("a"), endpoint("b"))


def octets(name: str, spec: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"metadata": {"name": name, "namespace": "lb"}, "spec": spec})


def peer(name: str = "tor", **spec: Any) -> BgpPeerObject:
    """Each name is another router."""
    address = {"myASN": 64500, "peerASN": 64501, "peerAddress": f"192.0.2.{1 + sum(name.encode()) % 250}"}
    return BgpPeerObject.decode(octets(name, {**address, **spec}))


def ad(name: str = "ad", **spec: Any) -> BgpAdvertisementObject:
    return BgpAdvertisementObject.decode(octets(name, spec))


def bgp(*things: BgpPeerObject | BgpAdvertisementObject, on: Node = ME, **more: Any) -> BgpConfiguration:
    return BgpConfiguration.parse(
        peers=[each for each in things if isinstance(each, BgpPeerObject)],
        advertisements=[each for each in things if isinstance(each, BgpAdvertisementObject)],
        pools=configuration().pools.pools.values(),
        node=on,
        **more,
    )


def look(
    *services: Service,
    at: Iterable[Any] = (EVERYWHERE,),
    found: Iterable[Node] = (ME, node("b")),
) -> View:
    return view(services or [service("web", WEB4)], at, found, configuration())


def routes(configured: BgpConfiguration | None, seen: View, me: str = "a", **rules: Any) -> Routes:
    return plan_routes(seen, configured, me, Rules(**rules))


def shown(found: Routes, peer_name: str = "tor") -> dict[str, Path]:
    return {str(prefix): path for prefix, path in found.peers[peer_name].items()}


def objection(found: Routes, key: str = "default/web") -> Unfit | Objection | None:
    return found.verdicts[key].objection


# -- what is told


def test_a_service_is_a_host_route_at_every_peer() -> None:
    found = routes(bgp(peer(), peer("other"), ad()), look())
    assert shown(found) == shown(found, "other") == {f"{WEB4}/32": Path()}
    assert found.verdicts["default/web"].peers == ("other", "tor")


def test_aggregation_preference_and_communities() -> None:
    alias = CommunityObject.decode(octets("c", {"communities": [{"name": "far", "value": "64500:7"}]}))
    said = ad(aggregationLength=26, localPref=300, communities=["far", "1:2", "large:1:2:3"])
    found = routes(bgp(peer(), said, communities=[alias]), look(service("web", "10.20.30.70")))
    assert shown(found) == {"10.20.30.64/26": Path((65538, 64500 << 16 | 7), ((1, 2, 3),), 300)}


def test_the_family_of_the_address_or_both() -> None:
    dual = look(service("web", WEB4, WEB6))
    assert set(shown(routes(bgp(peer(), ad()), dual))) == {f"{WEB4}/32"}
    assert set(shown(routes(bgp(peer(peerAddress="2001:db8::1"), ad()), dual))) == {f"{WEB6}/128"}
    both = bgp(peer(dualStackAddressFamily=True), ad(aggregationLengthV6=64))
    assert set(shown(routes(both, dual))) == {f"{WEB4}/32", "fc00:f853:ccd:e799::/64"}


def test_several_advertisements_of_one_prefix_are_one_route() -> None:
    found = routes(bgp(peer(), ad("x", communities=["1:2"]), ad("y", communities=["1:1"])), look())
    assert shown(found) == {f"{WEB4}/32": Path((65537, 65538))}


def test_two_lengths_are_two_routes() -> None:
    found = routes(
        bgp(peer(), ad("x", localPref=2), ad("y", aggregationLength=24, aggregationLengthV6=64)), look()
    )
    assert shown(found) == {f"{WEB4}/32": Path(local_pref=2), "10.20.30.0/24": Path()}


def test_an_aggregate_lives_as_long_as_one_of_its_services() -> None:
    configured = bgp(peer(), ad(aggregationLength=24))
    one, two = service("web", WEB4), service("shop", "10.20.30.2")
    shop = slice_of("shop", endpoint("b"))
    aggregate = {"10.20.30.0/24": Path()}
    assert shown(routes(configured, look(one, two, at=[EVERYWHERE, shop]))) == aggregate
    assert shown(routes(configured, look(two, at=[EVERYWHERE, shop]))) == aggregate
    assert shown(routes(configured, look(one, two, at=[]))) == {}


# -- to whom (TestPeersForService, TestNodeSelectors, TestBGPAdsForService)


def test_an_advertisement_names_its_peers() -> None:
    found = routes(bgp(peer("x"), peer("y"), ad(peers=["y", "nobody"])), look())
    assert (shown(found, "x"), set(shown(found, "y"))) == ({}, {f"{WEB4}/32"})
    assert found.verdicts["default/web"].peers == ("y",)


def test_a_peer_of_other_nodes_is_none_of_ours() -> None:
    things = (peer("x", nodeSelectors=on_node("a")), peer("y", nodeSelectors=on_node("b")), ad())
    assert set(routes(bgp(*things), look()).peers) == {"x"}
    assert set(routes(bgp(*things, on=node("b")), look(), "b").peers) == {"y"}


def test_a_peer_that_waits_has_no_session_and_the_others_do() -> None:
    configured = bgp(peer("x", bfdProfile="later"), peer("y"), ad())
    assert set(routes(configured, look()).peers) == {"y"}
    (fault,) = configured.waiting
    assert (fault.kind, fault.name) == ("BGPPeer", "x")
    assert fault.text == "peer x referencing non existing bfd profile later"


def test_an_advertisement_waits_for_its_communities_alone() -> None:
    late = ad("x", communities=["later"])
    assert objection(routes(bgp(peer(), late), look())) is Objection.WAITING
    configured = bgp(peer(), late, ad("y", communities=["1:2"]))
    assert shown(routes(configured, look())) == {f"{WEB4}/32": Path((65538,))}
    (fault,) = configured.waiting
    assert (fault.kind, fault.name) == ("BGPAdvertisement", "x")
    assert fault.text == "x: spec.communities: there is no community 'later'"


def test_without_peers_a_service_is_told_to_nobody() -> None:
    found = routes(bgp(ad()), look())
    assert (found.peers, found.verdicts["default/web"].peers, objection(found)) == ({}, (), None)


# -- why not (TestBGPSpeakerEPSlices, TestShouldAnnounceExcludeLB, TestCheckBGPAdvConflicts, ...)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (service("web", WEB4, type="ClusterIP"), Unfit.NOT_LOAD_BALANCER),
        (service("web"), Unfit.NO_ADDRESS),
        (service("web", "somewhere"), Unfit.INVALID_ADDRESS),
        (service("web", "203.0.113.1"), Unfit.NOT_IN_POOL),
    ],
)
def test_services_that_cannot_be_announced(asked: Service, wanted: Unfit) -> None:
    found = routes(bgp(peer(), ad()), look(asked))
    assert (objection(found), shown(found)) == (wanted, {})


def test_services_of_others_are_not_spoken_of() -> None:
    seen = look(service("web", WEB4, lb_class="theirs"))
    assert routes(bgp(peer(), ad()), seen).verdicts == {}
    assert set(shown(routes(bgp(peer(), ad()), seen, lb_class="theirs"))) == {f"{WEB4}/32"}


@pytest.mark.parametrize(
    ("ads", "wanted"),
    [
        ([], Objection.NOT_SELECTED),
        ([ad(nodeSelectors=on_node("b"))], Objection.NOT_SELECTED),
        ([ad(ipAddressPools=["another"])], Objection.NOT_SELECTED),
        ([ad(serviceSelectors=with_labels(app="db"))], Objection.NO_ADVERTISEMENT),
        ([ad(serviceSelectors=with_labels(app="web"))], None),
        (
            [ad("x", localPref=1, serviceSelectors=with_labels(app="web")), ad("y", localPref=2)],
            Objection.CONFLICT,
        ),
        ([ad("x", localPref=1, serviceSelectors=with_labels(app="db")), ad("y", localPref=2)], None),
    ],
)
def test_advertisements_that_do_or_do_not_select(
    ads: list[BgpAdvertisementObject], wanted: Objection | None
) -> None:
    found = routes(bgp(peer(), *ads), look(service("web", WEB4, labels={"app": "web"})))
    assert objection(found) is wanted
    assert bool(shown(found)) is (wanted is None)


@pytest.mark.parametrize(
    ("me", "rules", "wanted"),
    [
        (node("a", unavailable=True), {}, Objection.NETWORK_UNAVAILABLE),
        (node("a", excluded=True), {}, Objection.EXCLUDED),
        (node("a", excluded=True), {"ignore_exclude_lb": True}, None),
        (node("a"), {}, None),
    ],
)
def test_nodes_that_must_not(me: Node, rules: dict[str, Any], wanted: Objection | None) -> None:
    found = routes(bgp(peer(), ad(), on=me), look(found=[me]), **rules)
    assert objection(found) is wanted
    assert bool(shown(found)) is (wanted is None)


@pytest.mark.parametrize(
    ("local", "endpoints", "wanted"),
    [
        (False, [], Objection.NO_ENDPOINT),
        (False, [endpoint("b")], None),
        (False, [endpoint("b", ready=False)], Objection.NO_ENDPOINT),
        (False, [endpoint("b", ready=False, serving=True)], None),
        (False, [endpoint("b", ready=None)], None),
        (False, [endpoint("b", ready=False), endpoint("b")], None),
        (False, [Endpoint((), "a")], Objection.NO_ENDPOINT),
        (True, [endpoint("a")], None),
        (True, [endpoint("b")], Objection.NO_LOCAL_ENDPOINT),
        (True, [endpoint("a", ready=False), endpoint("b")], Objection.NO_LOCAL_ENDPOINT),
        (True, [endpoint("a", ready=False, serving=True)], None),
        (True, [endpoint("")], Objection.NO_LOCAL_ENDPOINT),
    ],
)
def test_endpoints_decide(local: bool, endpoints: list[Endpoint], wanted: Objection | None) -> None:
    seen = look(service("web", WEB4, local=local), at=[slice_of("web", *endpoints)])
    found = routes(bgp(peer(), ad()), seen)
    assert objection(found) is wanted
    assert bool(shown(found)) is (wanted is None)


def test_no_configuration_no_routes() -> None:
    assert objection(routes(None, look())) is Unfit.NO_CONFIGURATION


def test_more_communities_than_a_route_carries() -> None:
    ads = [ad(f"ad{n}", communities=[f"{n}:{m}" for m in range(60)]) for n in range(5)]
    found = routes(bgp(peer(), *ads), look())
    assert (objection(found), shown(found)) == (Objection.TOO_MANY_COMMUNITIES, {})


# -- the configuration


def test_what_is_wrong_for_another_node_does_not_stop_this_one() -> None:
    wrong = peer("theirs", myASN=0, nodeSelectors=on_node("b"))
    assert [each.name for each in bgp(peer(), wrong).peers] == ["tor"]
    with pytest.raises(ConfigError, match=r"theirs: spec\.myASN: missing local ASN"):
        bgp(peer(), wrong, on=node("b"))


def test_every_kind_is_checked_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        bgp(
            peer(holdTime="1s"),
            ad(aggregationLength=40),
            profiles=[BfdProfileObject.decode(octets("b", {"minimumTtl": 0}))],
            communities=[CommunityObject.decode(octets("c", {"communities": [{"name": "n", "value": "?"}]}))],
        )
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["c", "b", "tor", "ad"]


def test_echo_mode_is_for_ipv4() -> None:
    echo = [BfdProfileObject.decode(octets("echo", {"echoMode": True}))]
    with pytest.raises(ConfigError, match=r"tor: spec\.bfdProfile: pool 'default' has IPv6 addresses"):
        bgp(peer(bfdProfile="echo"), ad(), profiles=echo)
    bgp(peer(bfdProfile="echo"), ad(peers=["other"]), profiles=echo)


# -- properties


@given(
    numbers=st.lists(st.integers(1, 254), max_size=8),
    length=st.integers(24, 32),
    mixed=st.randoms(use_true_random=False),
)
def test_every_address_is_covered_and_the_order_of_the_view_is_nothing(
    numbers: list[int], length: int, mixed: Any
) -> None:
    services = [service(f"s{n}", f"10.20.30.{number}") for n, number in enumerate(numbers)]
    slices = [slice_of(f"s{n}", endpoint("b")) for n in range(len(numbers))]
    configured = bgp(peer(), ad(aggregationLength=length))
    found = routes(configured, look(service("none"), *services, at=slices))
    expected = {prefix_of(each, length) for each in map(_address, numbers)}
    assert set(found.peers["tor"]) == expected
    mixed.shuffle(services)
    again = routes(configured, look(service("none"), *services, at=slices, found=nodes("b", "a")))
    assert again == found


def _address(number: int) -> IPv4Address:
    return IPv4Address(f"10.20.30.{number}")


def test_a_prefix_is_the_network_around_the_address() -> None:
    assert prefix_of(_address(77), 25) == parse_prefix("10.20.30.0/25")


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["web", "db", "mail"]),
            st.sampled_from([(), ("10.20.30.1",), ("10.20.30.2",), ("10.20.30.200", WEB6), ("x",)]),
            st.booleans(),
            st.sampled_from(["a", "b", None]),
            st.sampled_from(["", "*", "10.20.30.1"]),
            st.sampled_from(["plain", "wide", "both"]),
        ),
        max_size=12,
    )
)
def test_the_planner_with_a_memory_says_the_same(steps: list[Any]) -> None:
    configured = {
        "plain": bgp(peer(), peer("six", dualStackAddressFamily=True), ad(localPref=7)),
        "wide": bgp(peer(), ad(aggregationLength=24, communities=["1:1"])),
        "both": bgp(
            peer(), peer("y"), ad("x", communities=["1:2"]), ad("z", peers=["y"], aggregationLength=25)
        ),
    }
    pools = configuration()
    planner, counting = RoutePlanner("a", Rules()), RoutePlanner("a", Rules())
    before: View | None = None
    tables = Routes()
    told: dict[tuple[str, Prefix], Path] = {}
    services: dict[str, Service] = {}
    slices: dict[str, Any] = {}
    for name, ips, local, there, drain, which in steps:
        services[name] = service(name, *ips, local=local)
        slices[name] = slice_of(name, *([endpoint(there)] if there else []))
        if name == "mail" and local:
            del services[name]
        seen = view(services.values(), slices.values(), [node("a", drain=drain), node("b")], pools)
        found = planner.plan(seen, configured[which])
        assert found == plan_routes(seen, configured[which], "a", Rules())
        assert planner.plan(seen, configured[which]) is found
        before = counted(seen, before)
        tables, last = counting.plan(before, configured[which]), tables
        assert tables == found
        told = {each: path for each, path in told.items() if each[0] in tables.peers}
        for name, table in tables.peers.items():
            for prefix, path in differences(last.peers.get(name, {}), table).items():
                if path is None:
                    del told[name, prefix]
                else:
                    told[name, prefix] = path
            assert table == {prefix: path for (peer, prefix), path in told.items() if peer == name}
