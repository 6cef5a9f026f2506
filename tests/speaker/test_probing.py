"""What is asked before an address is answered for the first time, and what never waits for it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from speaker.orders import Orders, Vip
from speaker.reflex.announce import RETURN_TIMEOUT, YIELD_QUIET, Announcer
from speaker.reflex.effects import Announce, Answer, Effect, Happened, Probe, Silence, Yield
from speaker.reflex.vip import Rival, State
from speaker.settings import ConflictPolicy

VIP, OTHER = "192.0.2.1", "192.0.2.2"
MAC = "02:00:00:00:00:99"
STRANGER, PEER, UNKNOWN = Rival(MAC, ""), Rival(MAC, "b"), Rival(MAC, None)
TIME = 0.6


def orders(generation: int, *candidates: str, address: str = VIP, interfaces: object = None) -> Orders:
    assert interfaces is None or isinstance(interfaces, tuple)
    return Orders(generation, (Vip(address, ("ns/svc",), candidates, interfaces),))


def member(others: Iterable[str] = (), *, policy: ConflictPolicy = ConflictPolicy.DEFEND) -> Announcer:
    """`a`, joined, with first orders that hold nothing."""
    announcer = Announcer("a", membership=True, policy=policy, probe_time=TIME)
    announcer.open(0.0)
    announcer.members(set(others), 0.0)
    announcer.joined(0.0)
    announcer.orders(Orders(1, ()), 0.0)
    return announcer


def asking(policy: ConflictPolicy = ConflictPolicy.DEFEND, others: Iterable[str] = ("b",)) -> Announcer:
    """One that is asking for an address that came at second 1."""
    announcer = member(others, policy=policy)
    assert announcer.orders(orders(2, "a", "b"), 1.0) == [Probe(VIP, None)]
    assert not announcer.answering
    return announcer


def acts(effects: Iterable[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Happened)]


def told(effects: Iterable[Effect]) -> list[tuple[str, str]]:
    return [(effect.what, effect.mac) for effect in effects if isinstance(effect, Happened)]


def until_quiet(announcer: Announcer, end: float = 50.0) -> list[tuple[float, Effect]]:
    found: list[tuple[float, Effect]] = []
    while (at := announcer.next_deadline()) < end:
        found += [(round(at, 6), effect) for effect in acts(announcer.tick(at))]
    return found


def state(announcer: Announcer, address: str = VIP) -> State:
    view = announcer.view(address)
    assert view is not None
    return view.state


def test_a_new_address_is_asked_for_three_times_and_then_answered() -> None:
    assert until_quiet(asking()) == [
        (1.2, Probe(VIP, None)),
        (1.4, Probe(VIP, None)),
        (1.6, Answer(VIP, None)),
    ]


def test_without_a_probe_time_nothing_is_asked() -> None:
    announcer = Announcer("a", membership=False)
    announcer.orders(Orders(1, ()), 0.0)
    assert acts(announcer.orders(orders(2, "a"), 1.0)) == [Answer(VIP, None)]


def test_the_first_orders_are_not_asked_for_however_they_come() -> None:
    announcer = Announcer("a", membership=False, probe_time=TIME)
    first = {f"192.0.2.{n}": (Vip(f"192.0.2.{n}", ("n/s",), ("a",)),) for n in range(4)}
    effects = [
        *announcer.change({address: first[address] for address in list(first)[:2]}, 0.0, more=True),
        *announcer.change({address: first[address] for address in list(first)[2:]}, 0.0),
    ]
    assert acts(effects) == [Answer(address, None) for address in first]


@pytest.mark.parametrize("how", ["dies", "leaves", "returns", "hands over by orders"])
def test_no_takeover_and_no_handover_waits(how: str) -> None:
    """Whoever came first: the address was new, but it was another's turn to ask."""
    announcer = member({"b"})
    assert announcer.orders(orders(2, "b", "a"), 1.0) == []
    if how in ("dies", "leaves"):
        assert acts(announcer.members(set(), 1.1)) == [Answer(VIP, None)]
    elif how == "hands over by orders":
        assert acts(announcer.orders(orders(3, "a", "b"), 1.1)) == [Answer(VIP, None)]
    else:
        assert acts(announcer.members(set(), 1.1)) == [Answer(VIP, None)]
        assert acts(announcer.members({"b"}, 2.0)) == [Yield(VIP)]
        assert acts(announcer.tick(2.0 + RETURN_TIMEOUT)) == [Silence(VIP)]
        assert acts(announcer.members(set(), 7.0)) == [Answer(VIP, None)]


def test_the_asker_dies_and_the_next_does_not_ask() -> None:
    a, b = asking(), Announcer("b", membership=True, probe_time=TIME)
    b.open(0.0)
    b.members({"a"}, 0.0)
    b.joined(0.0)
    b.orders(Orders(1, ()), 0.0)
    assert b.orders(orders(2, "a", "b"), 1.0) == []
    assert acts(b.members(set(), 1.2)) == [Answer(VIP, None)]
    assert state(a) is State.ASKING


def test_what_is_not_joined_yet_does_not_ask() -> None:
    announcer = Announcer("a", membership=True, probe_time=TIME)
    announcer.orders(Orders(1, ()), 0.0)
    announcer.open(0.0)
    announcer.orders(orders(2, "a"), 0.5)
    assert acts(announcer.joined(1.0)) == [Answer(VIP, None)]


@pytest.mark.parametrize("policy", list(ConflictPolicy))
@pytest.mark.parametrize("asks", [False, True], ids=["has it", "asks, too"])
def test_a_stranger_is_told_and_met_by_policy(policy: ConflictPolicy, asks: bool) -> None:
    announcer = asking(policy)
    effects = announcer.heard(VIP, 1.1, Rival(MAC, "", asks))
    assert told(effects)[0] == ("conflict", MAC)
    view = announcer.view(VIP)
    assert view is not None
    assert view.claimed_by == MAC
    if policy is ConflictPolicy.YIELD:
        assert acts(effects) == [Silence(VIP)], "nobody listens for who asks any more"
        assert not announcer.answering
    else:
        assert acts(effects) == [Answer(VIP, None)]
    assert until_quiet(announcer) == []


def test_what_was_left_to_a_stranger_is_asked_for_before_it_is_answered() -> None:
    announcer = asking(ConflictPolicy.YIELD)
    announcer.heard(VIP, 1.1, STRANGER)
    again = 1.1 + YIELD_QUIET
    assert announcer.next_deadline() == again
    assert acts(announcer.tick(again)) == [Probe(VIP, None)]
    assert acts(announcer.heard(VIP, again + 0.1, STRANGER)) == [Silence(VIP)]
    later = announcer.next_deadline()
    assert later == again + 0.1 + YIELD_QUIET
    assert until_quiet(announcer, later + 5.0)[-1] == (round(later + TIME, 6), Answer(VIP, None))


def test_another_speaker_that_has_it_hands_it_over() -> None:
    announcer = asking()
    assert acts(announcer.heard(VIP, 1.1, PEER)) == [Answer(VIP, None)]
    assert until_quiet(announcer) == []


def test_one_that_may_be_a_speaker_is_a_conflict_after_the_answer() -> None:
    announcer = asking()
    assert acts(announcer.heard(VIP, 1.1, UNKNOWN)) == [Answer(VIP, None)]
    assert told(announcer.tick(2.0)) == [("conflict", MAC)]


@pytest.mark.parametrize("rival", [Rival(MAC, "b", asks=True), Rival(MAC, None, asks=True)])
def test_who_asks_and_may_be_a_speaker_is_no_conflict(rival: Rival) -> None:
    announcer = asking()
    assert announcer.heard(VIP, 1.1, rival) == []
    assert state(announcer) is State.ASKING


def test_a_question_for_what_we_answer_is_no_conflict() -> None:
    announcer = asking()
    until_quiet(announcer)
    assert announcer.heard(VIP, 9.0, Rival(MAC, "", asks=True)) == []
    assert announcer.next_deadline() == float("inf")


def test_an_address_seen_before_is_not_asked_for_again() -> None:
    announcer = asking()
    until_quiet(announcer)
    announcer.orders(Orders(3, ()), 6.0)
    assert acts(announcer.orders(orders(4, "a"), 7.0)) == [Answer(VIP, None)]


def test_withdrawn_while_asking_it_leaves_nothing_behind() -> None:
    for end in (Orders(3, ()), orders(3, "b")):
        announcer = asking()
        assert announcer.orders(end, 1.1) == [Silence(VIP)]
        assert announcer.next_deadline() == float("inf")
    announcer = asking()
    assert announcer.leave(1.1) == [Silence(VIP)]
    assert not announcer.answering
    announcer = asking(others=())
    assert announcer.members({"b"}, 1.1) == [], "still the first"


def test_other_interfaces_while_asking_are_asked_on() -> None:
    announcer = asking()
    assert announcer.orders(orders(3, "a", "b", interfaces=("eth1",)), 1.1) == []
    eth1 = frozenset({"eth1"})
    assert until_quiet(announcer) == [
        (1.2, Probe(VIP, eth1)),
        (1.4, Probe(VIP, eth1)),
        (1.6, Answer(VIP, eth1)),
    ]


def test_many_at_once_are_asked_for_in_groups() -> None:
    announcer = member()
    many = Orders(2, tuple(Vip(f"10.0.{n >> 8}.{n & 255}", ("n/s",), ("a",)) for n in range(1000)))
    asked: dict[float, int] = {}
    first: dict[str, float] = {}
    answered: dict[str, float] = {}
    now, effects = 1.0, announcer.orders(many, 1.0)
    while True:
        for effect in effects:
            if isinstance(effect, Probe):
                asked[round(now, 6)] = asked.get(round(now, 6), 0) + 1
                first.setdefault(effect.address, now)
            elif isinstance(effect, Answer):
                answered[effect.address] = now
        if (at := announcer.next_deadline()) == float("inf"):
            break
        now = max(now, at)
        effects = announcer.tick(now)
    assert len(first) == len(answered) == 1000
    assert max(asked.values()) <= 2 * 64
    assert all(answered[address] >= first[address] + TIME - 1e-6 for address in first)
    assert max(answered.values()) < 1.0 + TIME + 1000 / 64 * 0.03


def test_defending_goes_on_after_the_asking() -> None:
    announcer = asking()
    announcer.heard(VIP, 1.1, STRANGER)
    announcer.heard(VIP, 2.0, STRANGER)
    assert Announce(VIP, 2) in announcer.tick(2.3)
