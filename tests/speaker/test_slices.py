"""Ten thousand addresses at once: bounded work a call, the same outcome as in one go."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from speaker.orders import Orders, Vip
from speaker.reflex.agenda import Agenda, Queue
from speaker.reflex.announce import HANDOVER_TIMEOUT, SLICE, Announcer
from speaker.reflex.effects import Announce, Answer, Effect, Silence, Yield
from speaker.reflex.vip import State

MANY = 10_000


def address(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def plan(*candidates: str, generation: int = 1, count: int = MANY) -> Orders:
    return Orders(generation, tuple(Vip(address(n), (f"n/{n}",), candidates) for n in range(count)))


def cluster_of_two(me: str, other: str, *candidates: str) -> Announcer:
    announcer = Announcer(me, membership=True)
    announcer.open(0.0)
    announcer.members({other}, 0.0)
    announcer.joined(0.0)
    announcer.orders(plan(*candidates), 0.0)
    drain(announcer, 0.0)
    return announcer


def drain(announcer: Announcer, now: float) -> list[Effect]:
    """Everything there is to do at this moment, looking that no call does much of it."""
    found: list[Effect] = []
    while announcer.next_deadline() <= now:
        effects = announcer.tick(now)
        assert sum(isinstance(e, Answer | Yield | Silence | Announce) for e in effects) <= 2 * SLICE
        found += effects
    return found


def test_a_takeover_of_ten_thousand_comes_in_slices_the_first_at_once() -> None:
    announcer = cluster_of_two("b", "a", "a", "b")
    assert not announcer.answering
    first = [e.address for e in announcer.members(set(), 1.0) if isinstance(e, Answer)]
    assert len(first) == SLICE
    rest = [e.address for e in drain(announcer, 1.0) if isinstance(e, Answer)]
    assert sorted(first + rest) == sorted(address(n) for n in range(MANY))


def test_ten_thousand_orders_come_into_force_in_slices() -> None:
    announcer = Announcer("a", membership=False)
    assert len([e for e in announcer.orders(plan("a"), 0.0) if isinstance(e, Answer)]) == SLICE
    assert announcer.busy
    assert sum(isinstance(e, Answer) for e in drain(announcer, 0.0)) == MANY - SLICE
    assert not announcer.changing
    assert announcer.orders(plan("a", generation=2), 1.0) == [], "the same again"
    assert not announcer.busy


def test_a_death_goes_before_orders_that_are_still_waiting() -> None:
    announcer = cluster_of_two("b", "a", "a", "b")
    announcer.orders(Orders(2, (*plan("a", "b").vips, Vip("192.0.2.1", ("n/new",), ("b",)))), 1.0)
    announcer.orders(plan("a", "b", "c", generation=3), 1.0)
    effects = announcer.members(set(), 1.0)
    assert sum(isinstance(e, Answer) for e in effects) == SLICE
    drain(announcer, 1.0)
    assert all(announcer.owns(address(n)) for n in range(MANY))
    assert announcer.view("192.0.2.1") is None


def test_ten_thousand_handed_over_unheard_end_in_slices() -> None:
    announcer = cluster_of_two("a", "b", "a", "b")
    effects = [*announcer.leave(1.0), *drain(announcer, 1.0)]
    assert sum(isinstance(e, Yield) for e in effects) == MANY
    assert announcer.answering
    assert sum(isinstance(e, Silence) for e in drain(announcer, 1.0 + HANDOVER_TIMEOUT)) == MANY
    assert not announcer.answering


def test_a_successor_heard_before_our_own_decision_ends_it_at_once() -> None:
    announcer = cluster_of_two("b", "a", "b", "a")
    announcer.orders(plan("a", "b", generation=2), 1.0)
    last = address(MANY - 1)
    assert announcer.owns(last), "its turn has not come yet"
    effects = announcer.heard(last, 1.0)
    assert [e for e in effects if isinstance(e, Yield | Silence)] == [Yield(last), Silence(last)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_comes_in_between_the_end_is_the_same(seed: int) -> None:
    """News of members and orders interleaved with slices, against everything done at once."""
    rng = random.Random(seed)
    count = 5 * SLICE
    hurried, patient = (Announcer("a", membership=True) for _ in range(2))
    for announcer in (hurried, patient):
        announcer.open(0.0)
        announcer.joined(0.0)
    now = 0.0
    for generation in range(1, 12):
        now += rng.uniform(0.0, 0.2)
        names = ["a", "b", "c"]
        rng.shuffle(names)
        if rng.random() < 0.5:
            news = plan(*names, generation=generation, count=rng.randrange(count))
            hurried.orders(news, now)
            patient.orders(news, now)
        else:
            alive = {name for name in names if rng.random() < 0.6}
            hurried.members(alive, now)
            patient.members(alive, now)
        drain(patient, now)
        if rng.random() < 0.5:
            hurried.tick(now)
    for announcer in (hurried, patient):
        while announcer.next_deadline() < float("inf"):
            announcer.tick(max(now, announcer.next_deadline()))
    assert hurried.addresses() == patient.addresses()
    for each in hurried.addresses():
        mine, other = hurried.view(each), patient.view(each)
        assert mine is not None
        assert other is not None
        assert (mine.owner, mine.state) == (other.owner, other.state)
        assert mine.state in (State.IDLE, State.OURS)
    assert hurried.answering is any(hurried.owns(each) for each in hurried.addresses())


# ----------------------------------------------------------------------------------------- the structures


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 9))), st.integers(0, 9))
def test_an_agenda_has_one_time_for_each_key(steps: list[tuple[str, int | None]], now: int) -> None:
    agenda, model = Agenda(), dict[str, float]()
    for key, at in steps:
        if at is None:
            agenda.drop(key)
            model.pop(key, None)
        else:
            agenda.set(key, at)
            model[key] = at
    assert agenda.next() == min(model.values(), default=float("inf"))
    due = sorted((at, key) for key, at in model.items() if at <= now)
    assert [*agenda.due(now, 2), *agenda.due(now, 99)] == [key for _, key in due]
    assert len(agenda) == len(model) - len(due)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["put", "pop", "take"]))))
def test_a_queue_keeps_the_newest_value_and_the_order(steps: list[tuple[str, str]]) -> None:
    queue: Queue[int] = Queue()
    model: dict[str, int] = {}
    for number, (key, what) in enumerate(steps):
        if what == "put":
            queue.put(key, number)
            model[key] = number
        elif what == "pop":
            assert queue.pop(key) == model.pop(key, None)
        else:
            for taken, value in queue.take(1):
                assert model.pop(taken) == value
        assert len(queue) == len(model)
    assert dict(queue.take(99)) == model
    queue.put_all("xy", 1)
    assert [key for key, _ in queue.take(99)] == ["x", "y"]
