"""Who watches whom: what is remembered from one change to the next gives the same as all of it anew."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist import rendezvous
from memberlist.rendezvous import Rendezvous, rank

ME = "me"
NAMES = [f"n{number}" for number in range(14)]


def anew(names: Iterable[str], reachable: Iterable[str], watchers: int) -> list[str]:
    """The definition: fewer than W of the others come before us."""
    others = list(reachable)

    def ahead(name: str) -> int:
        return sum(rank(name, other) > rank(name, ME) for other in others if other != name)

    return [name for name in names if ahead(name) < watchers]


@given(st.sets(st.text(min_size=1, max_size=5), min_size=5, max_size=12), st.integers(0, 100))
def test_who_goes_moves_only_its_own_watches(members: set[str], pick: int) -> None:
    def first(among: set[str], watched: str) -> set[str]:
        return set(sorted(among - {watched}, key=lambda one: rank(watched, one), reverse=True)[:3])

    gone = sorted(members)[pick % len(members)]
    for watched in members - {gone}:
        before, after = first(members, watched), first(members - {gone}, watched)
        assert before == after if gone not in before else before - {gone} <= after


def test_the_order_is_the_same_everywhere_for_ever() -> None:
    """Members of different versions must agree, so the weight is pinned."""
    assert rank("n1", "n2").hex() == "f1beecf889ec8eff"
    assert rank("n2", "n1") != rank("n1", "n2")


SOME = st.lists(st.sampled_from(NAMES), unique=True)


@given(st.lists(st.tuples(SOME, SOME), min_size=1, max_size=12), st.integers(1, 4))
def test_after_any_changes_we_watch_whom_we_would_watch_had_we_just_come(
    history: list[tuple[list[str], list[str]]], watchers: int
) -> None:
    order = Rendezvous(ME, watchers)
    for present, reachable in history:
        assert order.watched(present, reachable) == anew(present, reachable, watchers)
        assert order._ahead.keys() == set(present), "nothing is remembered of those who are no members"
        assert all(len(ahead.names) <= watchers for ahead in order._ahead.values())


@given(st.lists(st.integers(0, len(NAMES) - 1), max_size=60), st.integers(1, 4))
def test_one_at_a_time_the_same(steps: list[int], watchers: int) -> None:
    """Each goes, or comes back, alone; here most of what is remembered stays right."""
    order, reachable = Rendezvous(ME, watchers), list(NAMES)
    for step in steps:
        name = NAMES[step]
        reachable = [n for n in reachable if n != name] if name in reachable else [*reachable, name]
        assert order.watched(NAMES, reachable) == anew(NAMES, reachable, watchers)


def test_who_comes_or_goes_among_a_thousand_costs_few_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = 0

    def counted(watched: str, watcher: str) -> bytes:
        nonlocal hashes
        hashes += 1
        return rank.__wrapped__(watched, watcher)

    monkeypatch.setattr(rendezvous, "rank", counted)
    everybody = [f"n{number}" for number in range(1000)]
    order = Rendezvous(ME, 3)
    order.watched(everybody, everybody)
    at_first, dearest = hashes, 0
    assert at_first > 10_000
    for gone in everybody[::50]:
        rest = [name for name in everybody if name != gone]
        for now in (rest, everybody):
            hashes = 0
            order.watched(now, now)
            dearest = max(dearest, hashes)
    assert dearest < at_first / 5
