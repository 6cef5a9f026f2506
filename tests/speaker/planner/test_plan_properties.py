"""What holds for every cluster."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from crier.kube.model.node import Node
from crier.kube.model.service import Service
from speaker.planner.plan import NodeObjection, Objection, Planner, Rules, election_order, plan, why_not
from speaker.planner.reasons import Unfit
from speaker.planner.view import View
from tests.speaker.planner.builders import (
    ad_object,
    configuration,
    counted,
    endpoint,
    node,
    on_node,
    pool_object,
    service,
    slice_of,
    view,
    with_labels,
)

T = TypeVar("T")

NAMES = ["a", "b", "c", "d", "e"]
LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["x", "y"]))
IPS = ["10.20.30.1", "10.20.30.2", "192.168.1.1", "fc00:f853:ccd:e799::1", "172.16.0.1", "", "nonsense"]
"""The first two are in every pool there is; most of what is drawn should get as far as the election."""

found_nodes = st.lists(
    st.builds(
        node,
        st.sampled_from(NAMES),
        unavailable=st.sampled_from([False, False, False, True]),
        excluded=st.sampled_from([False, False, False, True]),
        drain=st.sampled_from([*[""] * 9, "10.20.30.1", "10.20.30.2,192.168.1.1", "*"]),
        zone=st.sampled_from(["x", "y"]),
    ),
    unique_by=lambda each: each.name,
    min_size=1,
)
endpoints = st.lists(
    st.builds(
        endpoint,
        st.sampled_from([*NAMES, "", "gone"]),
        ready=st.sampled_from([True, False, None]),
        serving=st.sampled_from([True, False, None]),
    ),
    max_size=4,
)
found_services = st.lists(
    st.builds(
        lambda name, ips, local, labels, type_: service(name, *ips, local=local, labels=labels, type=type_),
        st.sampled_from(["web", "db", "mail"]),
        st.lists(st.sampled_from(IPS[:2]), min_size=1, max_size=1)
        | st.lists(st.sampled_from(IPS), max_size=2),
        st.booleans(),
        LABELS,
        st.sampled_from([*["LoadBalancer"] * 5, "ClusterIP"]),
    ),
    unique_by=lambda each: each.name,
    min_size=1,
)
selectors = st.lists(
    st.sampled_from([*on_node(*NAMES), *with_labels(zone="x"), {}]), max_size=2, unique_by=str
)
ads = st.lists(
    st.builds(
        lambda name, nodes, labels, interfaces, weight: ad_object(
            name,
            nodeSelectors=nodes,
            serviceSelectors=with_labels(**labels) if len(labels) > 1 else [],
            interfaces=interfaces,
            preferredNodeSelectors=[{"weight": weight, "preference": {"matchLabels": {"zone": "y"}}}]
            if weight
            else [],
        ),
        st.sampled_from(["one", "two", "three"]),
        selectors,
        LABELS,
        st.lists(st.sampled_from(["eth0", "eth1"]), max_size=2, unique=True),
        st.integers(0, 100),
    ),
    unique_by=lambda each: each.name,
)
pools = st.sampled_from(
    [
        [pool_object("p", "10.20.30.0/24", "fc00:f853:ccd:e799::/64")],
        [pool_object("p", "10.20.30.0/24"), pool_object("q", "192.168.1.0/24", "fc00:f853:ccd:e799::/64")],
        [pool_object("p", "10.20.30.0/24", "192.168.1.0/24"), pool_object("q", "172.16.0.0/16")],
    ]
)


@st.composite
def views(draw: st.DrawFn) -> View:
    some = draw(found_services)
    return view(
        some,
        [slice_of(each.name, *draw(endpoints)) for each in some],
        draw(found_nodes),
        draw(st.one_of(st.none(), st.builds(lambda p, a: configuration(*a, pools=p), pools, ads))),
    )


@given(views(), st.sampled_from(NAMES))
def test_every_service_has_candidates_or_an_objection(world: View, me: str) -> None:
    found = plan(world, me, Rules())
    assert found.verdicts.keys() == world.services.keys()
    for verdict in found.verdicts.values():
        assert bool(verdict.candidates) is (verdict.objection is None)
        assert len(set(verdict.candidates)) == len(verdict.candidates)
        if verdict.objection in (None, Objection.NO_CANDIDATE):
            # every node is a candidate or says why not, never both
            assert set(verdict.candidates) | verdict.nodes.keys() == world.nodes.keys()
            assert not set(verdict.candidates) & verdict.nodes.keys()
        for name in world.nodes:
            assert (why_not(verdict, name) is None) is (name in verdict.candidates)


@given(views())
def test_every_node_computes_the_same_order(world: View) -> None:
    plans = [plan(world, me, Rules()) for me in NAMES]
    orders = [{key: verdict.candidates for key, verdict in each.verdicts.items()} for each in plans]
    assert all(each == orders[0] for each in orders)


@given(views(), st.randoms(use_true_random=False))
def test_the_same_view_gives_the_same_plan_whatever_the_order_of_things(
    world: View, rng: random.Random
) -> None:
    def shuffled(mapping: Mapping[str, T]) -> dict[str, T]:
        items = list(mapping.items())
        rng.shuffle(items)
        return dict(items)

    again = replace(
        world,
        services=shuffled(world.services),
        slices=shuffled(world.slices),
        nodes=shuffled(world.nodes),
    )
    assert plan(again, "a", Rules()) == plan(world, "a", Rules())


@settings(max_examples=50)
@given(st.lists(views(), min_size=1, max_size=6))
def test_remembering_changes_nothing(worlds: list[View]) -> None:
    """Also not when a part of the world is the same as before."""
    planner = Planner("a", Rules())
    for world in worlds:
        for mixed in (world, replace(world, configuration=worlds[0].configuration), worlds[0]):
            assert planner.plan(mixed) == plan(mixed, "a", Rules())


@settings(max_examples=50)
@given(st.lists(views(), min_size=2, max_size=6), st.data())
def test_looking_only_at_what_is_new_changes_nothing(worlds: list[View], data: st.DataObject) -> None:
    """Mostly services change; and a view that was never planned is made up for."""
    planner = Planner("a", Rules())
    seen: View | None = None
    for world in worlds:
        if seen is not None and data.draw(st.integers(0, 3)):
            world = replace(world, nodes=worlds[0].nodes, configuration=worlds[0].configuration)
        seen = counted(world, seen)
        if data.draw(st.integers(0, 3)):
            assert planner.plan(seen) == plan(seen, "a", Rules())


@given(st.sets(st.text(min_size=1), min_size=2), st.ip_addresses(), st.data())
def test_losing_a_bystander_moves_nothing(names: set[str], address: object, data: st.DataObject) -> None:
    order = election_order(ip_address(str(address)), names)
    bystander = data.draw(st.sampled_from(order[1:]))
    without = election_order(ip_address(str(address)), names - {bystander})
    assert without == tuple(name for name in order if name != bystander)


@given(views())
def test_a_node_that_goes_leaves_the_order_of_the_others(world: View) -> None:
    before = plan(world, "a", Rules())
    for gone in world.nodes:
        rest = {name: each for name, each in world.nodes.items() if name != gone}
        after = plan(replace(world, nodes=rest), "a", Rules())
        for key, verdict in before.verdicts.items():
            kept = tuple(name for name in verdict.candidates if name != gone)
            assert after.verdicts[key].candidates == kept


@given(views())
def test_only_nodes_in_order_are_candidates(world: View) -> None:
    """The obvious, said the other way round than the code says it."""
    for verdict in plan(world, "a", Rules()).verdicts.values():
        for name in verdict.candidates:
            here: Node = world.nodes[name]
            its: Service = world.services[verdict.service]
            assert not here.network_unavailable
            assert not here.excluded
            serving = [
                each
                for found in world.slices.get(verdict.service, ())
                for each in found.endpoints
                if each.ready or each.serving
            ]
            assert serving
            assert not its.is_local or any(each.node_name == name for each in serving)


@given(views())
def test_vips_say_what_the_verdicts_say(world: View) -> None:
    found = plan(world, "a", Rules())
    said = {
        (address, verdict.service, verdict.candidates, verdict.interfaces)
        for verdict in found.verdicts.values()
        if verdict.candidates
        for address in verdict.addresses
    }
    assert said == {
        (vip.address, service_, vip.candidates, vip.interfaces)
        for vip in found.vips
        for service_ in vip.services
    }
    assert list(found.vips) == sorted(found.vips, key=lambda vip: (vip.address, vip.services))


def test_the_strategies_reach_what_they_are_for() -> None:
    """A guard against properties that hold because nothing ever happens."""
    reached: set[object] = set()

    @settings(max_examples=400, database=None, derandomize=True)
    @given(views())
    def look(world: View) -> None:
        for verdict in plan(world, "a", Rules()).verdicts.values():
            reached.add(verdict.objection)
            reached.update(verdict.nodes.values())
            reached.add(len(verdict.candidates))
            reached.add(f"interfaces {verdict.interfaces is not None}")

    look()
    assert reached >= set(NodeObjection)
    assert reached >= {*Objection, *Unfit} - {Unfit.OTHER_CLASS}
    assert reached >= {None, 0, 1, 2, 3, "interfaces True", "interfaces False"}
