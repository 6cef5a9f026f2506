"""Who answers, rule by rule."""

from __future__ import annotations

import pytest

from speaker.orders import Orders, Vip
from speaker.reflex.announce import ASK_INTERVAL, HANDOVER_TIMEOUT, JOIN_TIMEOUT, Announcer
from speaker.reflex.effects import Announce, Answer, Ask, Happened, Silence, Yield
from speaker.reflex.vip import Rival, State
from tests.speaker.announcers import MAC, VIP, acts, member, orders, state


def test_the_owner_answers_at_once_and_says_why() -> None:
    announcer = Announcer("a", membership=False)
    assert announcer.orders(orders("a", "b"), 0.0) == [
        Answer(VIP, None),
        Happened("took_over", VIP, "orders"),
    ]
    assert announcer.orders(orders("a", "b", generation=2), 1.0) == []


def test_nothing_is_answered_before_somebody_was_reached_or_the_wait_is_over() -> None:
    announcer = Announcer("a", membership=True)
    assert announcer.orders(orders("a"), 0.0) == []
    assert announcer.tick(100.0) == [], "gossip is not even open"
    announcer.open(100.0)
    assert announcer.tick(100.0 + JOIN_TIMEOUT - 0.01) == []
    assert announcer.next_deadline() == 100.0 + JOIN_TIMEOUT
    assert acts(announcer.tick(100.0 + JOIN_TIMEOUT)) == [Answer(VIP, None)]
    sooner = Announcer("a", membership=True)
    sooner.orders(orders("a"), 0.0)
    sooner.open(0.0)
    assert acts(sooner.joined(0.2)) == [Answer(VIP, None)]
    assert sooner.joined(0.3) == []


def test_a_loser_answers_until_it_hears_the_successor() -> None:
    announcer = member("a", "b", "a")
    assert state(announcer) is State.OURS
    assert announcer.members({"b"}, 1.0) == [Yield(VIP)]
    assert state(announcer) is State.YIELDING
    assert acts(announcer.heard(VIP, 1.2)) == [Silence(VIP)]
    assert announcer.next_deadline() == float("inf")


IN_VAIN = [Silence(VIP), Happened("handed_over", VIP, "waited in vain to hear b")]


def test_a_loser_that_hears_nothing_stops_after_a_second() -> None:
    announcer = member("a", "a", "b", others=["b"])
    announcer.orders(orders("b", "a"), 1.0)
    assert announcer.next_deadline() == 1.0 + HANDOVER_TIMEOUT
    assert announcer.tick(1.9) == []
    assert announcer.tick(2.0) == IN_VAIN


def test_a_leaver_too() -> None:
    announcer = member("a", "a", "b", others=["b"])
    announcer.leave(1.0)
    assert announcer.tick(1.9) == []
    assert announcer.tick(2.0) == [Silence(VIP), Happened("handed_over", VIP, "waited in vain to hear b")]


def test_who_has_just_come_back_is_asked_for_as_long_as_it_may_wait_itself() -> None:
    """It answers pings, and is reachable by that, up to `JOIN_TIMEOUT` before it answers for anything."""
    announcer = member("a", "b", "a")
    announcer.members({"b"}, 1.0)
    now, asked = announcer.next_deadline(), 0
    assert now == 1.0 + HANDOVER_TIMEOUT
    while (effects := announcer.tick(now)) == [Ask(VIP, None)]:
        asked += 1
        now = announcer.next_deadline()
    assert effects == IN_VAIN
    assert now == 1.0 + JOIN_TIMEOUT + HANDOVER_TIMEOUT
    assert asked == JOIN_TIMEOUT / ASK_INTERVAL


def test_who_has_just_come_back_and_answers_is_handed_over_to() -> None:
    announcer = member("a", "b", "a")
    announcer.members({"b"}, 1.0)
    assert announcer.tick(2.0) == [Ask(VIP, None)]
    assert acts(announcer.heard(VIP, 2.001, Rival(MAC, "b"))) == [Silence(VIP)]
    assert announcer.next_deadline() == float("inf")


def test_another_than_the_successor_that_was_heard_is_no_successor() -> None:
    announcer = member("a", "b", "a", "c", others=["c"])
    announcer.heard(VIP, 0.5, Rival(MAC, "c"))
    assert acts(announcer.members({"b", "c"}, 1.0)) == [Yield(VIP)]
    assert state(announcer) is State.YIELDING


def test_a_loser_whose_successor_goes_takes_over_again_and_says_so() -> None:
    announcer = member("a", "b", "a")
    announcer.members({"b"}, 1.0)
    assert acts(announcer.members(set(), 1.1)) == [Answer(VIP, None), Announce(VIP, None)]
    assert announcer.tick(50.0) == []


@pytest.mark.parametrize("after", [(), ("b",), ("z",)], ids=["nobody", "a live one", "a dead one"])
def test_losing_by_orders(after: tuple[str, ...]) -> None:
    announcer = member("a", "a", "b", others=["b"])
    effects = acts(announcer.orders(orders(*after), 1.0))
    assert effects == ([Yield(VIP)] if after == ("b",) else [Silence(VIP)])


def test_a_vip_that_is_gone_from_the_orders_is_silent_at_once() -> None:
    announcer = member("a", "b", "a")
    announcer.members({"b"}, 0.5)
    assert acts(announcer.orders(Orders(2, ()), 0.6)) == [Silence(VIP)]
    assert announcer.view(VIP) is None
    assert announcer.heard(VIP, 0.7) == []


def test_new_interfaces_are_passed_on_without_ado() -> None:
    announcer = member("a")
    assert announcer.orders(orders("a", interfaces=("eth1",)), 1.0) == [Answer(VIP, frozenset({"eth1"}))]


def test_a_shared_address_is_ours_while_any_service_makes_it_ours() -> None:
    announcer = member("a", "a", others=["b"])
    both = Orders(2, (Vip(VIP, ("n/1",), ("b", "a"), None), Vip(VIP, ("n/2",), ("a", "b"), ("eth1",))))
    assert announcer.orders(both, 1.0) == [Answer(VIP, frozenset({"eth1"}))]
    assert announcer.members(set(), 2.0) == [Answer(VIP, None)]


def test_who_leaves_waits_for_an_announcement_made_since() -> None:
    """One heard before is the last word of whoever had it before us."""
    announcer = member("a", "a", "b", others=["b"])
    announcer.heard(VIP, 2.0, Rival(MAC, "b"))
    assert acts(announcer.leave(2.5)) == [Yield(VIP)]
    assert acts(announcer.heard(VIP, 2.6, Rival(MAC, "b"))) == [Silence(VIP)]


def test_an_announcement_may_outrun_the_news_of_its_sender_s_return() -> None:
    announcer = member("a", "b", "a")
    announcer.heard(VIP, 2.0)
    assert acts(announcer.members({"b"}, 2.5)) == [Silence(VIP)]


def test_the_last_word_of_one_that_died_is_not_its_return() -> None:
    """It announced, died, and is back, all within a second: it answers nothing before it has joined."""
    announcer = member("a", "b", "a", others=["b"])
    announcer.heard(VIP, 1.0, Rival(MAC, "b"))
    assert Answer(VIP, None) in announcer.members(set(), 1.3)
    assert acts(announcer.members({"b"}, 1.7)) == [Yield(VIP)]
    assert acts(announcer.heard(VIP, 4.5, Rival(MAC, "b"))) == [Silence(VIP)]


def test_leaving_hands_over_what_another_can_take_and_drops_the_rest() -> None:
    announcer = member("a", "a", "b", others=["b"])
    assert announcer.leave(1.0) == [Yield(VIP)]
    assert acts(announcer.heard(VIP, 1.1)) == [Silence(VIP)]
    assert announcer.answering is False
    alone = member("a", "a", "b")
    assert acts(alone.leave(1.0)) == [Silence(VIP)]
    assert acts(alone.members({"b"}, 1.1)) == []
    without = Announcer("a", membership=False)
    without.orders(orders("a", "b"), 0.0)
    assert acts(without.leave(1.0)) == [Silence(VIP)], "without gossip nobody learns that we go"
