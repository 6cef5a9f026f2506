"""The formulas against tables computed by hashicorp/memberlist's own code."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist import timing
from memberlist.awareness import EXCUSE_INTERVAL, MAX_EXCUSES, Awareness, Excuses
from memberlist.suspicion import Suspicion

TABLES: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "data" / "memberlist_formulas_and_tolerance.json").read_text()
)["formulas"]


def test_the_tables_are_there() -> None:
    assert {name: len(rows) for name, rows in TABLES.items()} == {
        "pushPullScale": 13,
        "remainingSuspicionTime": 42,
        "retransmitLimit": 48,
        "suspicionTimeout": 156,
    }


def test_push_pull_interval() -> None:
    for row in TABLES["pushPullScale"]:
        assert timing.push_pull_interval(row["interval_s"], row["n"]) == row["scaled_s"], row


def test_remaining_suspicion() -> None:
    for row in TABLES["remainingSuspicionTime"]:
        left = timing.remaining_suspicion(row["n"], row["k"], row["elapsed_s"], row["min_s"], row["max_s"])
        assert left * 1000 == pytest.approx(row["remaining_ms"], abs=0.5), row


def test_retransmit_limit() -> None:
    for row in TABLES["retransmitLimit"]:
        assert timing.retransmit_limit(row["n"], mult=row["mult"]) == row["limit"], row


def test_suspicion_timeout() -> None:
    for row in TABLES["suspicionTimeout"]:
        timeout = timing.suspicion_timeout(
            row["n"], mult=row["mult"], probe_interval=row["interval_ms"] / 1000
        )
        assert timeout * 1e6 == pytest.approx(row["timeout_us"], abs=0.5), row


@pytest.mark.parametrize(
    ("members", "mult", "wanted"),
    [(1, 4, 0), (2, 4, 0), (3, 4, 0), (4, 4, 1), (5, 4, 2), (100, 4, 2), (100, 6, 4), (5, 3, 1), (9, 1, 0)],
)
def test_one_survivor_may_stay_silent(members: int, mult: int, wanted: int) -> None:
    assert timing.confirmations_wanted(members, mult=mult) == wanted


@pytest.mark.parametrize(("accusers", "due_ms"), [(0, 2000), (1, 1250), (2, 810), (3, 500)])
def test_confirmations_shorten_a_suspicion(accusers: int, due_ms: int) -> None:
    suspicion = Suspicion("first", wanted=3, shortest=0.5, longest=2.0, now=10.0)
    for number in range(accusers):
        assert suspicion.confirm(f"n{number}", 10.0)
    assert suspicion.due_at == pytest.approx(10 + due_ms / 1000, abs=0.001)


def test_repeats_the_first_accuser_and_surplus_are_no_news() -> None:
    suspicion = Suspicion("first", wanted=2, shortest=1.0, longest=6.0, now=0.0)
    assert not suspicion.confirm("first", 0.1)
    assert suspicion.confirm("a", 0.2)
    assert not suspicion.confirm("a", 0.3)
    assert suspicion.confirm("b", 0.4)
    assert not suspicion.confirm("c", 0.5)
    assert suspicion.due_at == pytest.approx(1.0)


def test_with_nobody_to_confirm_the_shortest_time_counts() -> None:
    assert Suspicion("a", wanted=0, shortest=4.0, longest=24.0, now=1.0).due_at == 5.0


def test_a_late_confirmation_makes_it_due_at_once() -> None:
    suspicion = Suspicion("first", wanted=1, shortest=0.1, longest=30.0, now=0.0)
    assert suspicion.confirm("a", 5.0)
    assert suspicion.due_at == 5.0


@given(st.lists(st.integers(-20, 20)), st.integers(1, 10))
def test_the_health_score_stays_in_range(deltas: list[int], limit: int) -> None:
    health = Awareness(limit)
    for delta in deltas:
        before = health.score
        health.adjust(delta)
        assert health.score == min(max(before + delta, 0), limit - 1)
        assert health.scale(0.5) == 0.5 * (health.score + 1)


def test_excuses_run_out_and_come_back() -> None:
    excuses = Excuses(0.0)
    assert [excuses.take(0.1) for _ in range(MAX_EXCUSES + 1)] == [*[True] * MAX_EXCUSES, False]
    assert not excuses.take(0.1 + EXCUSE_INTERVAL / 2)
    assert excuses.take(0.1 + EXCUSE_INTERVAL)
    assert not excuses.take(0.1 + EXCUSE_INTERVAL)
    assert [excuses.take(100.0) for _ in range(MAX_EXCUSES + 1)].count(True) == MAX_EXCUSES
