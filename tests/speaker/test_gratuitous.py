from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.reflex.l2.gratuitous import INTERVAL, ROUNDS, Schedule


def play(schedule: Schedule[str], until: float, now: float = 0.0) -> list[tuple[float, str]]:
    """What an ideal driver would send."""
    sent: list[tuple[float, str]] = []
    while (at := max(schedule.next_deadline(), now)) <= until:
        now = at
        sent += [(round(now, 6), key) for key in schedule.due(now, 100)]
    return sent


def test_metallbs_cadence_and_two_early_ones() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.start("a", 0.0)
    assert [at for at, _ in play(schedule, 100.0)] == [0.0, 0.05, 0.2, 1.1, 2.2, 3.3, 4.4]
    assert len(schedule) == 0
    assert schedule.next_deadline() == float("inf")


def test_starting_again_while_under_way_is_at_once_and_as_long_as_asked() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.start("a", 0.0)
    assert schedule.due(0.0, 10) == ["a"]
    assert [at for at, _ in play(schedule, 0.3)] == [0.05, 0.2]
    schedule.start("a", 0.5)
    assert [at for at, _ in play(schedule, 100.0, 0.5)] == [0.5, 0.55, 0.7, 1.6, 2.7, 3.8, 4.9]


def test_many_reasons_to_start_again_in_one_moment_are_one() -> None:
    schedule: Schedule[str] = Schedule()
    for number in range(10):
        schedule.start("a", number / 1000)
    assert schedule.due(0.01, 10) == ["a"]
    for number in range(10):
        schedule.start("a", 0.01 + number / 1000, rounds=1)
    assert schedule.due(0.02, 10) == []
    assert [at for at, _ in play(schedule, 100.0, 0.02)] == [0.05, 0.2, 1.1, 2.2, 3.3, 4.4]


def test_stopped_is_silent_and_starting_anew_is_at_once() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.start("a", 0.0)
    schedule.due(0.0, 10)
    schedule.stop("a")
    assert "a" not in schedule
    assert schedule.due(5.0, 10) == []
    schedule.start("a", 5.5, rounds=2)
    assert play(schedule, 100.0, 5.5) == [(5.5, "a"), (6.6, "a")]


def test_what_was_just_gained_goes_before_what_is_repeated() -> None:
    schedule: Schedule[str] = Schedule()
    for key in "abc":
        schedule.start(key, 0.0, rounds=2)
    schedule.due(0.0, 10)
    schedule.start("new", 1.2)
    assert schedule.due(1.2, 2) == ["new", "a"]
    assert schedule.due(1.2, 2) == ["b", "c"]


def test_a_late_wake_up_neither_drifts_nor_bunches_rounds() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.start("a", 0.0, rounds=4)
    schedule.due(0.0, 10)
    assert schedule.due(1.3, 10) == ["a"]
    assert schedule.next_deadline() == pytest.approx(2.2)
    assert schedule.due(9.0, 10) == ["a"]
    assert schedule.next_deadline() >= 9.0 + INTERVAL / 2


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["start", "stop", "due"]), st.floats(0.0, 2.0)),
        max_size=60,
    ),
    st.integers(1, 3),
)
def test_never_more_rounds_than_starts_allow_and_none_after_a_stop(
    steps: list[tuple[str, str, float]], limit: int
) -> None:
    schedule: Schedule[str] = Schedule()
    allowed = dict.fromkeys("abcd", 0)
    now = 0.0
    for key, action, wait in steps:
        now += wait
        if action == "start":
            schedule.start(key, now)
            allowed[key] += ROUNDS
        elif action == "stop":
            schedule.stop(key)
            allowed[key] = 0
        else:
            due = schedule.due(now, limit)
            assert len(due) <= limit
            assert len(set(due)) == len(due), "one round of a key at a time"
            for sent in due:
                allowed[sent] -= 1
    assert all(left >= 0 for left in allowed.values())
    left = {key for _, key in play(schedule, now + 100.0, now)}
    assert left <= {key for key, count in allowed.items() if count > 0}
