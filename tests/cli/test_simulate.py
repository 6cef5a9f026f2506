"""What would move where: the speakers' own plan, over objects that are not there yet."""

from __future__ import annotations

import pytest

from crier.cli._common import Complaint, Exit
from crier.cli._handover import Group, groups
from crier.cli.simulate import Shift, Simulation, check_node, simulate
from crier.cli.why import explain, find
from crier.kube.model.states import ServiceBgpStatus
from tests.cli.pictures import NODES, picture
from tests.speaker.planner.builders import service

SOME = {f"s{number}": (f"10.20.30.{number}",) for number in range(20)}


def by_service(found: Simulation) -> dict[str, Shift]:
    return {shift.service: shift for shift in found.shifts}


@pytest.mark.parametrize("action", ["drain", "fail"])
def test_only_what_the_node_has_moves_and_to_the_next_in_line(action: str) -> None:
    seen = picture(SOME)
    candidates = {vip.services[0]: vip.candidates for vip in seen.speakers[0].says.vips}  # type: ignore[union-attr]
    found = simulate(seen, action, "iris1")
    assert found.moves > 0
    assert found.lost == 0
    for key, shift in by_service(found).items():
        order = candidates[key]
        assert shift.before == order[0]
        assert shift.after == next(name for name in order if name != "iris1")
        assert shift.outcome == ("moves" if order[0] == "iris1" else "stays")


@pytest.mark.parametrize("action", ["drain", "fail"])
def test_what_comes_true_is_what_was_said(action: str) -> None:
    """The cluster after it happened, seen anew, has the owners that were foretold."""
    foretold = {
        key: shift.after for key, shift in by_service(simulate(picture(SOME), action, "iris2")).items()
    }
    after = picture(SOME, dead=["iris2"]) if action == "fail" else picture(SOME, drains={"iris2": "*"})
    happened = {
        vip.services[0]: vip.owner
        for vip in after.speakers[0].says.vips  # type: ignore[union-attr]
    }
    assert happened == foretold


def test_a_dead_node_inherits_nothing() -> None:
    found = simulate(picture(SOME, dead=["iris3"]), "fail", "iris1")
    assert {shift.after for shift in found.shifts} == {"iris2"}


def test_the_last_node_takes_everything_with_it() -> None:
    found = simulate(picture(SOME, dead=["iris2", "iris3"]), "fail", "iris1")
    assert found.lost == len(SOME)
    assert all("no speaker on" in shift.why for shift in found.shifts)


def test_a_local_service_goes_with_its_only_endpoint() -> None:
    seen = picture({"web": ("10.20.30.1",)}, local={"web": "iris1"})
    drained, failed = (
        by_service(simulate(seen, action, "iris1"))["default/web"] for action in ("drain", "fail")
    )
    assert (drained.outcome, failed.outcome) == ("lost", "lost")
    assert "externalTrafficPolicy is Local" in drained.why
    assert failed.why == "no endpoint is ready or serving"


def test_without_a_word_from_speakers_it_says_what_it_assumes() -> None:
    found = simulate(picture(silent=NODES), "fail", "iris1")
    assert any("no speaker could be asked" in text for text in found.assumptions)


def test_routers_go_on_with_the_other_nodes() -> None:
    told = tuple(
        ServiceBgpStatus(
            namespace="metallb-system",
            name=f"bgp-{name}",
            node=name,
            status_service_key="default/web",
            peers=("tor",),
        )
        for name in NODES
    )
    (shift,) = simulate(picture(bgp_statuses=told), "fail", "iris1").shifts
    assert shift.bgp_before == NODES
    assert shift.bgp_after == ("iris2", "iris3")


def test_a_wrong_name_is_told_with_the_right_ones() -> None:
    with pytest.raises(Complaint, match="there is no node iris9; there are: iris1, iris2, iris3") as caught:
        check_node(picture(), "iris9")
    assert caught.value.status is Exit.NOT_FOUND


# -------------------------------------------------------------------------------------------- handover


def test_services_that_share_an_address_move_as_one() -> None:
    shared = {"a": ("10.20.30.1", "10.20.30.2"), "b": ("10.20.30.2",), "c": ("10.20.30.3",)}
    assert groups(picture(shared)) == (
        Group(("10.20.30.1", "10.20.30.2"), ("default/a", "default/b")),
        Group(("10.20.30.3",), ("default/c",)),
    )


# -------------------------------------------------------------------------------------------------- why


def steps(links: object) -> dict[str, str]:
    return {link.step: link.state for link in links}  # type: ignore[attr-defined]


def test_the_chain_of_what_is_well() -> None:
    seen = picture()
    found = explain(seen, seen.services["default/web"])
    assert set(steps(found.links).values()) == {"ok"}
    assert [place.rank for place in found.nodes] == [1, 2, 3]
    assert [place.answers for place in found.nodes] == [True, False, False]
    assert found.owner == found.nodes[0].node
    assert found.healthy


def test_the_chain_breaks_where_it_is_broken() -> None:
    other = service("odd", type="ClusterIP")
    seen = picture({"web": ("10.20.30.1",), "lost": ("192.0.2.77",), "waits": ()})
    for key, step in (("default/lost", "allocation"), ("default/waits", "allocation")):
        found = explain(seen, seen.services[key])
        assert steps(found.links)[step] == "fail"
        assert not found.healthy
    assert steps(explain(seen, other).links) == {"service": "fail"}


def test_each_node_that_is_none_is_told_why() -> None:
    seen = picture(drains={"iris1": "*"}, local={"web": "iris1"})
    found = explain(seen, seen.services["default/web"])
    reasons = {place.node: place.objection for place in found.nodes}
    assert "drains it" in reasons["iris1"]
    assert "no endpoint there" in reasons["iris2"]
    assert steps(found.links)["layer 2"] == "fail"


def test_services_are_found_by_either_name() -> None:
    seen = picture()
    assert find(seen, "web") is find(seen, "default/web") is seen.services["default/web"]
    for name, status in (("nope", Exit.NOT_FOUND), ("other/web", Exit.NOT_FOUND)):
        with pytest.raises(Complaint) as caught:
            find(seen, name)
        assert caught.value.status is status
