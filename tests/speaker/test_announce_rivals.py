"""What an owner makes of other speakers that announce what is its own."""

from __future__ import annotations

import pytest

from speaker.orders import Orders
from speaker.reflex.announce import DEFER, Announcer
from speaker.reflex.effects import Announce, Answer, Silence
from speaker.reflex.strangers import (
    CONFLICT_INTERVAL_MAX,
    CONFLICT_INTERVAL_MIN,
    CONFLICT_ROUNDS,
    CONFLICT_SETTLE,
)
from speaker.reflex.vip import Rival, State
from tests.speaker.announcers import MAC, VIP, acts, member, state


def test_an_owner_speaks_last_but_ever_more_rarely() -> None:
    announcer = member("a", "a", "b")
    assert announcer.heard(VIP, 10.0 - CONFLICT_SETTLE) == []
    assert acts(announcer.tick(10.0)) == [Announce(VIP, CONFLICT_ROUNDS)]
    assert announcer.heard(VIP, 10.1) == []
    assert announcer.heard(VIP, 10.2) == []
    due = announcer.next_deadline()
    assert due == 10.0 + CONFLICT_INTERVAL_MIN
    assert acts(announcer.tick(due)) == [Announce(VIP, CONFLICT_ROUNDS)]
    assert announcer.next_deadline() == float("inf")
    now, answers = due, []
    while now < 3600.0:  # somebody announces it ten times a second for an hour
        now += 0.1
        answers += [now for effect in acts([*announcer.heard(VIP, now), *announcer.tick(now)])]
    assert len(answers) < 3600 / CONFLICT_INTERVAL_MAX + 10
    assert answers[-1] > 3500
    now += 1000.0
    announcer.heard(VIP, now - CONFLICT_SETTLE)
    assert len(acts(announcer.tick(now))) == 1, "after peace, at once again"
    assert announcer.next_deadline() == float("inf")
    announcer.heard(VIP, now + 0.1)
    assert announcer.next_deadline() == pytest.approx(now + CONFLICT_INTERVAL_MIN)


def test_an_announcement_may_outrun_the_news_of_who_made_it() -> None:
    announcer = member("a", "b", "a")
    assert announcer.heard(VIP, 10.0) == []
    assert acts(announcer.members({"b"}, 10.001)) == [Silence(VIP)], "no second word, no waiting"
    assert announcer.next_deadline() == float("inf")


def test_what_others_own_is_not_defended() -> None:
    announcer = member("a", "b", "a", others=["b"])
    assert announcer.heard(VIP, 1.0) == []
    assert announcer.heard("198.51.100.1", 1.0) == []


def test_a_rival_that_comes_back_must_hear_us() -> None:
    announcer = member("a", "a", "b")
    assert announcer.members({"b"}, 5.0) == [Announce(VIP, None)]
    assert announcer.members({"b", "bystander"}, 6.0) == []


BETTER = Rival("02:00:00:00:00:0a", "a")


def deferring() -> Announcer:
    """`b`, which held `a` for dead since second 0 and hears it announce at second 10."""
    announcer = member("b", "a", "b", "c", others={"c"})
    assert acts(announcer.heard(VIP, 10.0, BETTER)) == [Silence(VIP)], "it announced: nothing is broken"
    return announcer


def test_a_better_candidate_that_is_heard_has_it_though_gossip_does_not_know() -> None:
    announcer = deferring()
    assert announcer.members({"a", "c"}, 10.5) == []
    assert announcer.next_deadline() == float("inf"), "gossip agrees"
    assert acts(announcer.members({"c"}, 20.0)) == [Answer(VIP, None)], "and when it dies there is no delay"


def test_a_better_candidate_that_falls_silent_is_not_waited_for_for_ever() -> None:
    announcer = deferring()
    assert announcer.heard(VIP, 12.0, BETTER) == []
    assert announcer.next_deadline() == 12.0 + DEFER
    assert acts(announcer.members(set(), 12.5)) == [], "others come and go meanwhile"
    again = 12.0 + DEFER
    assert acts(announcer.tick(again)) == [Answer(VIP, None)]
    assert announcer.next_deadline() == float("inf")
    assert acts(announcer.heard(VIP, again + 0.2, BETTER)) == [Silence(VIP)], "it was there, after all"


@pytest.mark.parametrize("rival", [Rival(MAC, "c"), Rival(MAC, "z"), Rival(MAC, None), Rival(MAC, "")])
def test_nobody_else_is_deferred_to(rival: Rival) -> None:
    announcer = member("b", "a", "b", "c", others={"c"})
    assert announcer.heard(VIP, 10.0, rival) == []
    assert state(announcer) is State.OURS


def test_the_last_word_of_one_that_left_does_not_take_it_back() -> None:
    announcer = member("b", "a", "b", others={"a"})
    assert acts(announcer.members(set(), 10.0)) == [Answer(VIP, None)]
    assert announcer.heard(VIP, 10.01, BETTER) == []
    assert state(announcer) is State.OURS


def test_one_whose_interfaces_fail_is_not_deferred_to() -> None:
    announcer = member("b", "a", "b", others={"a"})
    announcer.members({"a"}, 1.0, {"a": {0}})
    assert announcer.heard(VIP, 10.0, BETTER) == []
    assert state(announcer) is State.OURS


def test_what_is_deferred_may_leave_the_orders() -> None:
    announcer = deferring()
    assert announcer.orders(Orders(2, ()), 10.5) == []
    assert announcer.next_deadline() == float("inf")
