"""What is done about hosts that are no speakers and use an address of ours."""

from __future__ import annotations

import pytest

from speaker.orders import Orders
from speaker.reflex.announce import YIELD_QUIET, Announcer
from speaker.reflex.effects import Announce, Answer, Effect, Happened, Silence
from speaker.reflex.strangers import (
    CONFLICT_ROUNDS,
    CONFLICT_SETTLE,
)
from speaker.reflex.vip import Rival, State
from speaker.settings import ConflictPolicy
from tests.speaker.announcers import MAC, PEER, STRANGER, UNKNOWN, VIP, acts, member, orders, state


def alone(policy: ConflictPolicy) -> Announcer:
    announcer = Announcer("a", membership=False, policy=policy)
    announcer.orders(orders("a"), 0.0)
    return announcer


def told(effects: list[Effect]) -> list[tuple[str, str]]:
    return [(effect.what, effect.mac) for effect in effects if isinstance(effect, Happened)]


@pytest.mark.parametrize(
    ("policy", "met"),
    [
        (ConflictPolicy.DEFEND, [Announce(VIP, CONFLICT_ROUNDS)]),
        (ConflictPolicy.REPORT, []),
        (ConflictPolicy.YIELD, [Silence(VIP)]),
    ],
)
def test_a_stranger_is_met_by_policy_and_told_with_its_address(
    policy: ConflictPolicy, met: list[Effect]
) -> None:
    announcer = alone(policy)
    assert announcer.heard(VIP, 10.0, STRANGER) == []
    effects = announcer.tick(10.0 + CONFLICT_SETTLE)
    assert acts(effects) == met
    assert told(effects)[0] == ("conflict", MAC)
    view = announcer.view(VIP)
    assert view is not None
    assert (view.claimed_by, view.claimed_at) == (MAC, 10.0)


@pytest.mark.parametrize("policy", list(ConflictPolicy))
@pytest.mark.parametrize(("rival", "what"), [(PEER, "contradicted"), (UNKNOWN, "conflict")])
def test_who_is_or_may_be_a_speaker_is_always_answered(
    policy: ConflictPolicy, rival: Rival, what: str
) -> None:
    announcer = alone(policy)
    announcer.heard(VIP, 10.0, rival)
    effects = announcer.tick(10.0 + CONFLICT_SETTLE)
    assert acts(effects) == [Announce(VIP, CONFLICT_ROUNDS)]
    assert told(effects) == [(what, MAC)]
    view = announcer.view(VIP)
    assert view is not None
    assert view.claimed_by == ""


def test_what_was_left_to_a_stranger_is_answered_again_when_it_is_quiet() -> None:
    announcer = alone(ConflictPolicy.YIELD)
    announcer.heard(VIP, 10.0, STRANGER)
    announcer.tick(11.0)
    announcer.heard(VIP, 40.0, STRANGER)
    announcer.orders(orders("a", "b", generation=2), 50.0)
    assert announcer.next_deadline() == 40.0 + YIELD_QUIET
    assert announcer.tick(99.9) == []
    assert acts(announcer.tick(40.0 + YIELD_QUIET)) == [Answer(VIP, None)]
    assert announcer.next_deadline() == float("inf")


def test_what_was_left_to_a_stranger_may_leave_the_orders() -> None:
    announcer = alone(ConflictPolicy.YIELD)
    announcer.heard(VIP, 10.0, STRANGER)
    announcer.tick(11.0)
    assert announcer.orders(Orders(2, ()), 12.0) == []
    assert announcer.next_deadline() == float("inf")


def test_a_stranger_is_not_the_successor() -> None:
    announcer = member("a", "a", "b", others={"b"})
    announcer.orders(orders("b", "a", generation=2), 1.0)
    assert announcer.heard(VIP, 1.1, STRANGER) == []
    assert state(announcer) is State.YIELDING
    assert acts(announcer.heard(VIP, 1.2, PEER)) == [Silence(VIP)]
