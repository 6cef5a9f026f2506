from __future__ import annotations

from speaker.orders import Members, MemberView, Vips, VipState
from speaker.planner.plan import Plan, Rules, plan
from speaker.planner.report import Announced, Assigned, NoInterface, Reporter, Withdrawn
from tests.speaker.planner.builders import ad_object, configuration, endpoint, nodes, service, slice_of, view

ME, OTHER = "iris1", "iris2"


def members(*reachable: str) -> Members:
    found = tuple(
        MemberView(name, "192.0.2.1", 7946, "alive", name in reachable) for name in sorted((ME, OTHER))
    )
    return Members(found, True)


def state(address: str, *, answering: bool = True, missing: bool = False) -> VipState:
    return VipState(address, ME, answering, (), missing, 0, 0, 0)


def vips(generation: int, *states: VipState) -> Vips:
    return Vips(generation, states)


def made(*ips: str, ready: bool = True, interfaces: list[str] | None = None) -> Plan:
    """By 10.20.30.2 iris1 comes first, by 10.20.30.1 iris2."""
    world = view(
        [service("web", *ips)],
        [slice_of("web", endpoint(ready=ready))],
        nodes(ME, OTHER),
        configuration(ad_object(interfaces=interfaces or [])),
    )
    return plan(world, ME, Rules())


def test_who_answers_and_comes_first_announces() -> None:
    reporter = Reporter(ME)
    news = reporter.update(made("10.20.30.2"), 7, members(ME, OTHER), vips(7, state("10.20.30.2")))
    assert news == [Assigned("default/web", ("10.20.30.2",))]
    assert reporter.announced == {"default/web": Announced(("10.20.30.2",), ())}
    again = reporter.update(made("10.20.30.2"), 7, members(ME, OTHER), vips(7, state("10.20.30.2")))
    assert again == []


def test_who_does_not_answer_yet_does_not_announce() -> None:
    reporter = Reporter(ME)
    assert reporter.update(made("10.20.30.2"), 7, members(ME, OTHER), None) == []
    quiet = vips(7, state("10.20.30.2", answering=False))
    assert reporter.update(made("10.20.30.2"), 7, members(ME, OTHER), quiet) == []
    assert reporter.update(made("10.20.30.2"), 7, members(ME, OTHER), vips(7)) == []


def test_who_still_answers_while_handing_over_no_longer_announces() -> None:
    reporter = Reporter(ME)
    answering = vips(7, state("10.20.30.1"))
    assert reporter.update(made("10.20.30.1"), 7, members(ME), answering) == [
        Assigned("default/web", ("10.20.30.1",))
    ]
    assert reporter.update(made("10.20.30.1"), 7, members(ME, OTHER), answering) == [
        Withdrawn("default/web", ("10.20.30.1",), "notOwner", "another node comes first")
    ]
    assert reporter.announced == {}


def test_a_snapshot_older_than_the_plan_makes_no_news() -> None:
    reporter = Reporter(ME)
    old = vips(6, state("10.20.30.2"))
    assert reporter.update(made("10.20.30.2"), 7, members(ME, OTHER), old) == []
    assert reporter.update(made("10.20.30.2"), 7, members(ME, OTHER), vips(7, *old.vips)) != []
    # but what is announced stays so until something newer says otherwise
    assert reporter.update(made("10.20.30.2"), 8, members(ME, OTHER), vips(7, *old.vips)) == []


def test_without_membership_the_first_candidate_announces() -> None:
    reporter = Reporter(ME, membership=False)
    assert reporter.update(made("10.20.30.1"), 7, None, vips(7, state("10.20.30.1"))) == []
    assert reporter.update(made("10.20.30.2"), 7, None, vips(7, state("10.20.30.2"))) != []


def test_a_changed_address_is_withdrawn_and_announced_anew() -> None:
    reporter = Reporter(ME)
    states = (state("10.20.30.2"), state("10.20.30.5"))
    reporter.update(made("10.20.30.2"), 7, members(ME), vips(7, *states))
    assert reporter.update(made("10.20.30.5"), 8, members(ME), vips(8, *states)) == [
        Withdrawn("default/web", ("10.20.30.2",), "loadBalancerIPChanged", "its addresses changed"),
        Assigned("default/web", ("10.20.30.5",)),
    ]


def test_the_reason_of_a_withdrawal_is_the_plans() -> None:
    reporter = Reporter(ME)
    answering = vips(7, state("10.20.30.2"))
    reporter.update(made("10.20.30.2"), 7, members(ME, OTHER), answering)
    (news,) = reporter.update(made("10.20.30.2", ready=False), 8, members(ME, OTHER), answering)
    assert isinstance(news, Withdrawn)
    assert (news.reason, news.text) == ("notOwner", "no endpoint is ready or serving")
    reporter.update(made("10.20.30.2"), 9, members(ME, OTHER), vips(9, *answering.vips))
    (news,) = reporter.update(Plan(), 10, members(ME, OTHER), answering)
    assert isinstance(news, Withdrawn)
    assert news.reason == "serviceDeleted"


def test_missing_interfaces_are_told_once_and_count_as_announced() -> None:
    """As MetalLB has it: the service counts as announced all the same."""
    reporter = Reporter(ME)
    found = made("10.20.30.2", interfaces=["eth9"])
    lost = vips(7, state("10.20.30.2", answering=False, missing=True))
    assert reporter.update(found, 7, members(ME), lost) == [
        Assigned("default/web", ("10.20.30.2",)),
        NoInterface("default/web", "10.20.30.2"),
    ]
    assert reporter.update(found, 7, members(ME), lost) == []
    assert reporter.announced == {"default/web": Announced(("10.20.30.2",), ("eth9",))}
    back = vips(7, state("10.20.30.2"))
    assert reporter.update(found, 7, members(ME), back) == []
    assert reporter.update(found, 7, members(ME), lost) == [NoInterface("default/web", "10.20.30.2")]
