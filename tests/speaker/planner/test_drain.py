"""Drain: a node hands over what its annotation names, and says so."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_lite.attributes import GRACEFUL_SHUTDOWN, Path
from crier.kube.model.addresses import parse_address
from crier.kube.model.node import ALL_ADDRESSES, DRAIN_ANNOTATION, MAX_DRAINED, Node, parse_drain
from speaker.planner.plan import NodeObjection, Objection, Plan, Rules, plan, why_not
from speaker.planner.reasons import Unfit
from speaker.planner.routes import Objection as RouteObjection
from speaker.planner.routes import plan_routes
from tests.speaker.planner.builders import (
    ad_object,
    configuration,
    endpoint,
    node,
    service,
    slice_of,
    view,
)
from tests.speaker.planner.test_routes import EVERYWHERE, WEB4, WEB6, ad, bgp, peer, shown

GONE = Path((GRACEFUL_SHUTDOWN,), local_pref=0)


def decoded(annotation: str) -> Node:
    metadata = {"name": "a", "annotations": {DRAIN_ANNOTATION: annotation}}
    return Node.decode(msgspec.json.encode({"metadata": metadata}))


@pytest.mark.parametrize(
    ("annotation", "drained"),
    [
        ("", set()),
        ("*", {ALL_ADDRESSES}),
        ("10.0.0.1", {"10.0.0.1"}),
        (" 10.0.0.1, 2001:DB8:0::1 ,", {"10.0.0.1", "2001:db8::1"}),
        ("10.0.0.1,*", {ALL_ADDRESSES}),
    ],
)
def test_the_annotation_names_addresses_or_all(annotation: str, drained: set[str]) -> None:
    found = decoded(annotation)
    assert (set(found.drained), found.drain_fault) == (drained, "")


def test_a_bad_entry_is_named_and_the_others_count() -> None:
    found = decoded("10.0.0.1,nonsense,10.0.0.0/8")
    assert found.drains("10.0.0.1")
    assert found.drain_fault == ("annotation crier.dev/drain: 'nonsense' is not an address, nor are 1 more")


def test_there_is_an_end_to_the_list() -> None:
    many = ",".join(str(parse_address("10.0.0.0") + number) for number in range(MAX_DRAINED + 1))
    found = decoded(many)
    assert len(found.drained) == MAX_DRAINED
    assert "more than 4096 addresses" in found.drain_fault


@given(st.text())
def test_whatever_it_says_the_node_stays(text: str) -> None:
    drained, _ = parse_drain(text)
    assert drained == {ALL_ADDRESSES} or all(str(parse_address(each)) == each for each in drained)


# -- layer 2


def planned(*drains: str) -> Plan:
    found = [node(name, drain=drain) for name, drain in zip("abc", drains, strict=True)]
    services = [service("web", WEB4), service("dual", "10.20.30.2", WEB6)]
    slices = [slice_of("web", endpoint("a")), slice_of("dual", endpoint("a"))]
    return plan(view(services, slices, found, configuration(ad_object())), "a", Rules())


def test_a_drained_node_is_no_candidate_and_the_text_names_the_annotation() -> None:
    found = planned(ALL_ADDRESSES, "", "")
    for key in ("default/web", "default/dual"):
        assert set(found.verdicts[key].candidates) == {"b", "c"}
        assert why_not(found.verdicts[key], "a") is NodeObjection.DRAINED
    assert DRAIN_ANNOTATION in NodeObjection.DRAINED.text
    assert NodeObjection.DRAINED.reason == "notOwner"


def test_only_what_is_named_moves_and_the_order_of_the_others_stays() -> None:
    before, after = planned("", "", ""), planned(WEB4, "", "")
    assert after.verdicts["default/dual"] == before.verdicts["default/dual"]
    assert after.verdicts["default/web"].candidates == tuple(
        name for name in before.verdicts["default/web"].candidates if name != "a"
    )


def test_the_addresses_of_one_service_move_together() -> None:
    assert "a" not in planned(WEB6, "", "").verdicts["default/dual"].candidates


def test_when_all_are_drained_nobody_announces() -> None:
    assert planned("*", "*", WEB4).verdicts["default/web"].objection is Objection.NO_CANDIDATE


# -- routes


def told(
    me: Node,
    *ads: object,
    rules: Rules = Rules(),  # noqa: B008
) -> tuple[dict[str, Path], Unfit | RouteObjection | None]:
    configured = bgp(peer(), *(ads or (ad(),)), on=me)  # type: ignore[arg-type]
    slices = [EVERYWHERE, slice_of("shop", endpoint("b"))]
    services = [service("web", WEB4), service("shop", "10.20.30.2")]
    seen = view(services, slices, [me, node("b")], configuration())
    found = plan_routes(seen, configured, me.name, rules)
    return shown(found), found.verdicts["default/web"].objection


def test_the_routes_of_drained_addresses_are_the_last_resort() -> None:
    assert told(node("a", drain=WEB4)) == ({f"{WEB4}/32": GONE, "10.20.30.2/32": Path()}, None)
    everything, _ = told(node("a", drain="*"), ad(localPref=200, communities=["1:2"]))
    assert set(everything.values()) == {Path((65538, GRACEFUL_SHUTDOWN), local_pref=0)}


def test_an_aggregate_leaves_with_the_first_of_its_services() -> None:
    assert told(node("a", drain="10.20.30.2"), ad(aggregationLength=24)) == ({"10.20.30.0/24": GONE}, None)
    assert told(node("a", drain=WEB4), ad(aggregationLength=24)) == ({"10.20.30.0/24": GONE}, None)


def test_with_the_label_they_are_withdrawn_even_where_the_label_alone_means_nothing() -> None:
    lax = Rules(ignore_exclude_lb=True)
    assert told(node("a", drain="*", excluded=True)) == ({}, RouteObjection.EXCLUDED)
    assert told(node("a", drain=WEB4, excluded=True), rules=lax) == (
        {"10.20.30.2/32": Path()},
        RouteObjection.EXCLUDED,
    )
    assert told(node("a", excluded=True), rules=lax)[1] is None
