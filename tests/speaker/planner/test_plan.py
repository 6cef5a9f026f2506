"""MetalLB's tables for the election (speaker/layer2_controller_test.go), by the names they have there,
and ours."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from crier.kube.model.endpoints import Endpoint
from crier.kube.model.node import Node
from crier.kube.model.service import Service
from speaker.orders import Vip
from speaker.planner.plan import (
    NodeObjection,
    Objection,
    Plan,
    Rules,
    Verdict,
    election_order,
    plan,
    why_not,
)
from speaker.planner.reasons import Unfit
from tests.speaker.planner.builders import (
    ad_object,
    configuration,
    endpoint,
    node,
    nodes,
    on_node,
    pool_object,
    service,
    slice_of,
    view,
    with_labels,
)

IRIS = ("iris1", "iris2")


def decide(
    services: Service | Iterable[Service],
    endpoints: Iterable[Endpoint] | Mapping[str, Iterable[Endpoint]],
    found: Iterable[Node],
    *ads: Any,
    me: str = "iris1",
    rules: Rules = Rules(),  # noqa: B008 - frozen
) -> Plan:
    many = [services] if isinstance(services, Service) else list(services)
    if not isinstance(endpoints, Mapping):
        endpoints = dict.fromkeys((each.name for each in many), tuple(endpoints))
    slices = [slice_of(name, *some) for name, some in endpoints.items()]
    return plan(view(many, slices, found, configuration(*(ads or (ad_object(),)))), me, rules)


def verdict(*args: Any, **options: Any) -> Verdict:
    (only,) = decide(*args, **options).verdicts.values()
    return only


def reason(found: Verdict, me: str, alive: Iterable[str]) -> str:
    """What MetalLB's ShouldAnnounce returns on node `me`; "" is yes."""
    objection = why_not(found, me)
    if objection is NodeObjection.NOT_SELECTED:
        return objection.reason
    first = next((name for name in found.candidates if name in set(alive)), None)
    if first == me:
        return ""
    return objection.reason if objection is not None else "notOwner"


# -------------------------------------------------------------------------------- the order itself


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.20.30.1", "iris2 iris1"),
        ("10.20.30.2", "iris1 iris2"),
        ("192.168.1.240", "iris1 iris2"),
        ("1.2.3.4", "iris2 iris1"),
        ("2001:db8::1", "iris2 iris1"),
        ("10.20.30.1", "node-b node-c node-a"),
        ("10.20.30.2", "node-c node-a node-b"),
        ("192.168.1.240", "node-a node-c node-b"),
        ("fc00:f853:ccd:e799::", "node-b node-c node-a"),
        ("2001:db8::1", "node-b node-a node-c"),
    ],
)
def test_the_order_is_metallbs(address: str, expected: str) -> None:
    """Computed with MetalLB's own code."""
    order = expected.split()
    assert election_order(ipaddress.ip_address(address), sorted(order)) == tuple(order)


@pytest.mark.parametrize("text", ["FC00:F853:0CCD:E799:0:0:0:0", "fc00:f853:ccd:e799::0"])
def test_an_address_is_hashed_in_its_canonical_text(text: str) -> None:
    found = verdict(service("web", text), [endpoint()], nodes("node-a", "node-b", "node-c"))
    assert found.candidates == ("node-b", "node-c", "node-a")
    assert found.addresses == ("fc00:f853:ccd:e799::",)


def test_a_mapped_address_is_the_ipv4_address() -> None:
    assert verdict(service("web", "::ffff:10.20.30.1"), [endpoint()], nodes(*IRIS)).candidates == (
        "iris2",
        "iris1",
    )


# ------------------------------------------------------------------------------ TestUsableNodesEPSlices

# (ready, serving) of an endpoint, and whether it makes its node usable
MATRIX = [
    (True, True, True),
    (True, False, True),
    (True, None, True),
    (False, True, True),
    (False, False, False),
    (False, None, False),
    (None, None, True),
    (None, True, True),
    (None, False, True),
]


@pytest.mark.parametrize(("ready", "serving", "usable"), MATRIX)
def test_usable_nodes_epslices(ready: bool | None, serving: bool | None, usable: bool) -> None:
    """TestUsableNodesEPSlices: with Local, a node counts by the readiness of its endpoints."""
    other = endpoint("iris2")
    mine = endpoint("iris1", ready=ready, serving=serving)
    found = verdict(service("web", "10.20.30.1", local=True), [mine, other], nodes(*IRIS))
    assert set(found.candidates) == ({"iris1", "iris2"} if usable else {"iris2"})
    if not usable:
        assert found.nodes["iris1"] is NodeObjection.NO_LOCAL_ENDPOINT


@pytest.mark.parametrize(("ready", "serving", "usable"), MATRIX)
def test_one_servable_endpoint_is_enough_for_cluster(
    ready: bool | None, serving: bool | None, usable: bool
) -> None:
    found = verdict(
        service("web", "10.20.30.1"), [endpoint("iris1", ready=ready, serving=serving)], nodes(*IRIS)
    )
    assert bool(found.candidates) is usable
    assert found.objection is (None if usable else Objection.NO_ENDPOINT)


def test_two_endpoints_on_one_node_one_of_them_bad() -> None:
    some = [endpoint("iris1", ready=False), endpoint("iris1")]
    assert verdict(service("web", "10.20.30.1", local=True), some, nodes(*IRIS)).candidates == ("iris1",)


def test_endpoints_of_several_slices_count_together() -> None:
    slices = [
        slice_of("web", endpoint("iris1", ready=False), number=1),
        slice_of("web", endpoint("iris2"), number=2),
    ]
    world = view([service("web", "10.20.30.1", local=True)], slices, nodes(*IRIS), configuration(ad_object()))
    assert plan(world, "iris1", Rules()).verdicts["default/web"].candidates == ("iris2",)


# ----------------------------------------------------------------------------- TestShouldAnnounceEPSlices

# where there are endpoints (and whether they are ready), policy Local?, who announces 10.20.30.1 and .2
PLACEMENTS = [
    ("one, ready, here, Local", [("iris1", True)], True, "iris1", "iris1"),
    ("one, ready, there, Local", [("iris2", True)], True, "iris2", "iris2"),
    ("one, not ready, here, Local", [("iris1", False)], True, None, None),
    ("one, not ready, there, Local", [("iris2", False)], True, None, None),
    ("both ready, Local", [("iris1", True), ("iris2", True)], True, "iris2", "iris1"),
    ("here only ready, Local", [("iris1", True), ("iris2", False)], True, "iris1", "iris1"),
    ("there only ready, Local", [("iris1", False), ("iris2", True)], True, "iris2", "iris2"),
    ("none ready, Local", [("iris1", False), ("iris2", False)], True, None, None),
    ("one, ready, here, Cluster", [("iris1", True)], False, "iris2", "iris1"),
    ("one, ready, there, Cluster", [("iris2", True)], False, "iris2", "iris1"),
    ("both ready, Cluster", [("iris1", True), ("iris2", True)], False, "iris2", "iris1"),
    ("none ready, Cluster", [("iris1", False), ("iris2", False)], False, None, None),
    ("none at all", [], False, None, None),
]


@pytest.mark.parametrize(
    ("placed", "local", "one", "two"), [row[1:] for row in PLACEMENTS], ids=[row[0] for row in PLACEMENTS]
)
def test_should_announce_epslices(
    placed: list[tuple[str, bool]], local: bool, one: str | None, two: str | None
) -> None:
    """TestShouldAnnounceEPSlices: on every node, the reason MetalLB gives."""
    some = [endpoint(name, ready=ready) for name, ready in placed]
    for address, winner in (("10.20.30.1", one), ("10.20.30.2", two)):
        for me in IRIS:
            found = verdict(service("web", address, local=local), some, nodes(*IRIS), me=me)
            assert reason(found, me, IRIS) == ("" if me == winner else "notOwner")


# --------------------------------------------------------------------------- TestShouldAnnounceFromNodes

BOTH = nodes(*IRIS)
ONE_OUT = [node("iris1"), node("iris2", excluded=True)]
FROM_NODES = [
    # advertisement's nodes, Local endpoints (None: Cluster), nodes, rules, MetalLB's reasons on iris1, iris2
    ("all nodes", [], None, BOTH, Rules(), "notOwner", ""),
    ("iris1 selected", [ad_object(nodeSelectors=on_node("iris1"))], None, BOTH, Rules(), "", "noMatching"),
    ("iris2 selected", [ad_object(nodeSelectors=on_node("iris2"))], None, BOTH, Rules(), "noMatching", ""),
    ("both selected", [ad_object(nodeSelectors=on_node(*IRIS))], None, BOTH, Rules(), "notOwner", ""),
    (
        "nobody selected",
        [ad_object(nodeSelectors=on_node("iris3"))],
        None,
        BOTH,
        Rules(),
        "noMatching",
        "noMatching",
    ),
    (
        "two advertisements, one node each",
        [ad_object("a", nodeSelectors=on_node("iris1")), ad_object("b", nodeSelectors=on_node("iris2"))],
        None,
        BOTH,
        Rules(),
        "notOwner",
        "",
    ),
    (
        "iris1 selected, endpoint on iris2, Local",
        [ad_object(nodeSelectors=on_node("iris1"))],
        ["iris2"],
        BOTH,
        Rules(),
        "notOwner",
        "noMatching",
    ),
    (
        "iris1 selected, endpoint on iris1, Local",
        [ad_object(nodeSelectors=on_node("iris1"))],
        ["iris1"],
        BOTH,
        Rules(),
        "",
        "noMatching",
    ),
    ("iris2 has the exclude label", [], None, ONE_OUT, Rules(), "", "notOwner"),
    ("the exclude label is ignored", [], None, ONE_OUT, Rules(ignore_exclude_lb=True), "notOwner", ""),
    ("iris2 excluded, Local endpoint there", [], ["iris2"], ONE_OUT, Rules(), "notOwner", "notOwner"),
    (
        "iris2's network is unavailable",
        [],
        None,
        [node("iris1"), node("iris2", unavailable=True)],
        Rules(),
        "",
        "notOwner",
    ),
]


@pytest.mark.parametrize(
    ("ads", "local", "found", "rules", "one", "two"),
    [row[1:] for row in FROM_NODES],
    ids=[row[0] for row in FROM_NODES],
)
def test_should_announce_from_nodes(
    ads: list[Any], local: list[str] | None, found: list[Node], rules: Rules, one: str, two: str
) -> None:
    """TestShouldAnnounceFromNodes, for 10.20.30.1, which iris2 would win."""
    some = [endpoint(name) for name in local or IRIS]
    for me, expected in zip(IRIS, (one, two), strict=True):
        it = verdict(
            service("web", "10.20.30.1", local=local is not None), some, found, *ads, me=me, rules=rules
        )
        assert reason(it, me, IRIS) == {"noMatching": "noMatchingAdvertisement"}.get(expected, expected)


# ------------------------------------------------------------------------------------- TestClusterPolicy


def test_cluster_policy() -> None:
    """TestClusterPolicy: 255 addresses, each with one owner, the same for both its services; both nodes
    used."""
    pools = [pool_object("default", "10.20.30.0/24")]
    winners: set[str] = set()
    for last in range(1, 256):
        address = f"10.20.30.{last}"
        pair = [service("one", address), service("two", address)]
        slices = [slice_of("one", endpoint("iris1")), slice_of("two", endpoint("iris2"))]
        world = view(pair, slices, nodes(*IRIS), configuration(ad_object(), pools=pools))
        owners = {it.candidates[0] for me in IRIS for it in plan(world, me, Rules()).verdicts.values()}
        assert len(owners) == 1
        winners |= owners
        (vip,) = plan(world, "iris1", Rules()).vips
        assert vip.services == ("default/one", "default/two")
    assert winners == set(IRIS)


# ---------------------------------------------------------------------------------- TestL2ServiceSelectors

SELECTORS: list[tuple[str, list[Any], dict[str, str], bool]] = [
    ("no selector takes every service", [ad_object()], {}, True),
    ("the labels match", [ad_object(serviceSelectors=with_labels(app="web"))], {"app": "web"}, True),
    ("the labels do not match", [ad_object(serviceSelectors=with_labels(app="web"))], {"app": "db"}, False),
    ("no labels at all", [ad_object(serviceSelectors=with_labels(app="web"))], {}, False),
    (
        "any of several selectors is enough",
        [ad_object(serviceSelectors=[*with_labels(app="web"), *with_labels(app="db")])],
        {"app": "db"},
        True,
    ),
    (
        "all of one selector must match",
        [ad_object(serviceSelectors=with_labels(app="web", tier="front"))],
        {"app": "web"},
        False,
    ),
    (
        "an expression",
        [
            ad_object(
                serviceSelectors=[
                    {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}
                ]
            )
        ],
        {"app": "db"},
        True,
    ),
    (
        "one of two advertisements",
        [ad_object("a", serviceSelectors=with_labels(app="web")), ad_object("b")],
        {"app": "db"},
        True,
    ),
]


@pytest.mark.parametrize(
    ("ads", "labels", "announced"), [row[1:] for row in SELECTORS], ids=[row[0] for row in SELECTORS]
)
def test_l2_service_selectors(ads: list[Any], labels: dict[str, str], announced: bool) -> None:
    """TestL2ServiceSelectors."""
    found = verdict(service("web", "10.20.30.1", labels=labels), [endpoint()], nodes(*IRIS), *ads)
    assert found.objection is (None if announced else Objection.NO_ADVERTISEMENT)


def test_l2_ads_for_service() -> None:
    """TestL2AdsForService: pool and service must both be selected."""
    pools = [pool_object("a", "10.20.30.0/24", labels={"zone": "x"}), pool_object("b", "192.168.1.0/24")]
    ads = [
        ad_object("by-name", ipAddressPools=["a"], interfaces=["e1"]),
        ad_object("by-label", ipAddressPoolSelectors=with_labels(zone="x"), interfaces=["e2"]),
        ad_object("other-pool", ipAddressPools=["b"], interfaces=["e3"]),
        ad_object("other-service", serviceSelectors=with_labels(app="db"), interfaces=["e4"]),
        ad_object("no-such-pool", ipAddressPools=["c"], interfaces=["e5"]),
    ]
    world = view(
        [service("web", "10.20.30.1"), service("db", "192.168.1.1", labels={"app": "db"})],
        [slice_of("web", endpoint()), slice_of("db", endpoint())],
        nodes(*IRIS),
        configuration(*ads, pools=pools),
    )
    found = plan(world, "iris1", Rules()).verdicts
    assert found["default/web"].interfaces == ("e1", "e2")
    assert found["default/db"].interfaces == ("e3", "e4")


def test_l2_election_consistent_but_ads_per_node() -> None:
    """TestL2ElectionConsistentButAdsPerNode: all nodes elect alike; only the interfaces are each node's
    own."""
    ads = [
        ad_object("a", nodeSelectors=on_node("iris1"), interfaces=["eth1"]),
        ad_object("b", nodeSelectors=on_node("iris2"), interfaces=["eth2"]),
    ]
    one, two = (verdict(service("web", "10.20.30.1"), [endpoint()], nodes(*IRIS), *ads, me=me) for me in IRIS)
    assert one.candidates == two.candidates == ("iris2", "iris1")
    assert (one.interfaces, two.interfaces) == (("eth1",), ("eth2",))


def test_l2_no_matching_ad_for_service_and_node() -> None:
    """TestL2NoMatchingAdForServiceAndNode: one advertisement has the service, the other the node."""
    ads = [
        ad_object("a", nodeSelectors=on_node("iris1"), serviceSelectors=with_labels(app="db")),
        ad_object("b", nodeSelectors=on_node("iris2")),
    ]
    found = verdict(service("web", "10.20.30.2"), [endpoint()], nodes(*IRIS), *ads)
    assert reason(found, "iris1", IRIS) == "noMatchingAdvertisement"
    assert found.candidates == ("iris2",)


def test_l2_service_selector_filters_candidate_nodes() -> None:
    """TestL2ServiceSelectorFiltersCandidateNodes: an advertisement for other services adds no candidates."""
    ads = [
        ad_object("web", nodeSelectors=on_node("iris1"), serviceSelectors=with_labels(app="web")),
        ad_object("db", nodeSelectors=on_node("iris2"), serviceSelectors=with_labels(app="db")),
    ]
    pair = [
        service("web", "10.20.30.1", labels={"app": "web"}),
        service("db", "10.20.30.2", labels={"app": "db"}),
    ]
    found = decide(pair, [endpoint()], nodes(*IRIS), *ads).verdicts
    assert found["default/web"].candidates == ("iris1",)
    assert found["default/db"].candidates == ("iris2",)


INTERFACES: list[tuple[str, list[Any], tuple[str, ...] | None]] = [
    ("no list means everywhere", [ad_object()], None),
    ("a list", [ad_object(interfaces=["eth1", "eth0"])], ("eth0", "eth1")),
    (
        "the union",
        [ad_object("a", interfaces=["eth0"]), ad_object("b", interfaces=["eth1"])],
        ("eth0", "eth1"),
    ),
    ("one without a list opens all", [ad_object("a", interfaces=["eth0"]), ad_object("b")], None),
    (
        "only of advertisements with this node",
        [ad_object("a", interfaces=["eth0"]), ad_object("b", nodeSelectors=on_node("iris2"))],
        ("eth0",),
    ),
]


@pytest.mark.parametrize(
    ("ads", "expected"), [row[1:] for row in INTERFACES], ids=[row[0] for row in INTERFACES]
)
def test_ip_advertisement_for(ads: list[Any], expected: tuple[str, ...] | None) -> None:
    """TestIPAdvertisementFor."""
    assert verdict(service("web", "10.20.30.1"), [endpoint()], nodes(*IRIS), *ads).interfaces == expected


# --------------------------------------------------------------------------------------------- beyond


OBJECTIONS = [
    (service("web", "10.20.30.1", type="NodePort"), Unfit.NOT_LOAD_BALANCER, "notLoadBalancer"),
    (service("web"), Unfit.NO_ADDRESS, "noIPAllocated"),
    (service("web", "10.20.30.1", ""), Unfit.INVALID_ADDRESS, "invalidIP"),
    (service("web", "here"), Unfit.INVALID_ADDRESS, "invalidIP"),
    (service("web", "10.20.31.1"), Unfit.NOT_IN_POOL, "ipNotAllowed"),
    (service("web", "10.20.30.1", "10.20.31.1"), Unfit.NOT_IN_POOL, "ipNotAllowed"),
]


@pytest.mark.parametrize(("found", "objection", "word"), OBJECTIONS)
def test_every_refusal_has_a_type_and_metallbs_word(found: Service, objection: Objection, word: str) -> None:
    it = verdict(found, [endpoint()], nodes(*IRIS))
    assert it.objection is objection
    assert it.candidates == ()
    assert objection.reason == word
    assert objection.text


def test_without_configuration_nothing_is_decided() -> None:
    world = view([service("web", "10.20.30.1")], [slice_of("web", endpoint())], nodes(*IRIS), None)
    assert plan(world, "iris1", Rules()).verdicts["default/web"].objection is Unfit.NO_CONFIGURATION


@pytest.mark.parametrize(
    ("ours", "theirs", "served"),
    [
        ("", None, True),
        ("", "x", False),
        ("x", "x", True),
        ("x", None, False),
        ("x", "y", False),
        ("", "", True),
    ],
)
def test_the_load_balancer_class(ours: str, theirs: str | None, served: bool) -> None:
    found = decide(
        service("web", "10.20.30.1", lb_class=theirs), [endpoint()], nodes(*IRIS), rules=Rules(lb_class=ours)
    )
    assert bool(found.verdicts) is served
    assert bool(found.vips) is served


def test_every_node_that_is_no_candidate_says_why() -> None:
    found = verdict(
        service("web", "10.20.30.1", local=True),
        [endpoint("a"), endpoint("b", ready=False)],
        [node("a"), node("b"), node("c", unavailable=True), node("d", excluded=True), node("e", zone="x")],
        ad_object(nodeSelectors=on_node("a", "b", "c", "d")),
    )
    assert found.candidates == ("a",)
    assert found.nodes == {
        "b": NodeObjection.NO_LOCAL_ENDPOINT,
        "c": NodeObjection.NETWORK_UNAVAILABLE,
        "d": NodeObjection.EXCLUDED,
        "e": NodeObjection.NOT_SELECTED,
    }


def test_all_addresses_of_a_service_go_to_the_winner_of_the_first() -> None:
    found = decide(service("web", "10.20.30.2", "fc00:f853:ccd:e799::1"), [endpoint()], nodes(*IRIS))
    assert found.vips == (
        Vip("10.20.30.2", ("default/web",), ("iris1", "iris2")),
        Vip("fc00:f853:ccd:e799::1", ("default/web",), ("iris1", "iris2")),
    )


def test_an_address_shared_by_services_that_differ_has_an_entry_for_each() -> None:
    pair = [service("a", "10.20.30.1"), service("b", "10.20.30.1", local=True)]
    found = decide(pair, {"a": [endpoint("iris1")], "b": [endpoint("iris1")]}, nodes(*IRIS))
    assert found.vips == (
        Vip("10.20.30.1", ("default/a",), ("iris2", "iris1")),
        Vip("10.20.30.1", ("default/b",), ("iris1",)),
    )


# -------------------------------------------------------------------------- preferredNodeSelectors (0.17)


def prefer(*weights: tuple[int, dict[str, str]]) -> list[dict[str, Any]]:
    return [{"weight": weight, "preference": {"matchLabels": labels}} for weight, labels in weights]


ZONED = [
    node("edge-a", role="edge", zone="primary"),
    node("edge-b", role="edge", zone="secondary"),
    node("worker-a", role="worker", zone="primary"),
    node("worker-b", role="worker"),
]


def test_preferred_nodes_come_first_and_the_hash_decides_among_equals() -> None:
    plain = verdict(service("web", "10.20.30.1"), [endpoint()], ZONED).candidates
    found = verdict(
        service("web", "10.20.30.1"),
        [endpoint()],
        ZONED,
        ad_object(preferredNodeSelectors=prefer((100, {"role": "edge"}))),
    ).candidates
    assert set(found[:2]) == {"edge-a", "edge-b"}
    assert found == tuple(sorted(plain, key=lambda name: (not name.startswith("edge"), plain.index(name))))


def test_weights_are_added_up() -> None:
    ad = ad_object(preferredNodeSelectors=prefer((60, {"zone": "primary"}), (50, {"role": "edge"})))
    found = verdict(service("web", "10.20.30.1"), [endpoint()], ZONED, ad).candidates
    assert found == ("edge-a", "worker-a", "edge-b", "worker-b")


def test_weights_are_added_up_over_advertisements_but_only_where_they_select() -> None:
    ads = [
        ad_object("a"),
        ad_object(
            "b",
            nodeSelectors=with_labels(role="worker"),
            preferredNodeSelectors=prefer((1, {"zone": "primary"}), (2, {})),
        ),
    ]
    found = verdict(service("web", "10.20.30.1"), [endpoint()], ZONED, *ads).candidates
    assert found[:2] == ("worker-a", "worker-b")
    assert set(found[2:]) == {"edge-a", "edge-b"}


def test_a_preference_of_an_advertisement_for_other_services_does_not_count() -> None:
    ads = [
        ad_object("a"),
        ad_object(
            "b",
            serviceSelectors=with_labels(app="db"),
            preferredNodeSelectors=prefer((100, {"role": "worker"})),
        ),
    ]
    plain = verdict(service("web", "10.20.30.1"), [endpoint()], ZONED).candidates
    assert verdict(service("web", "10.20.30.1"), [endpoint()], ZONED, *ads).candidates == plain
