"""What the wire is asked, how often, and what follows from the answers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.reflex.selfcheck import (
    AGAIN_AFTER,
    MAX_QUESTIONS,
    MAX_WITNESSES,
    TICK,
    Contradiction,
    Finding,
    SelfCheck,
    Subject,
    Verdict,
    Witness,
)

VIP = "192.0.2.1"
A, B, C = (Witness(f"02:00:00:00:00:0{n}", name) for n, name in enumerate("abc"))
A_TOO = Witness("02:00:00:00:01:00", "a")
STRANGER, UNKNOWN = Witness("02:00:00:00:00:99", ""), Witness("02:00:00:00:00:98", None)


@dataclass
class Asking:
    """A speaker `me` that asks for one address, again and again."""

    me: str
    owner: str
    candidates: tuple[str, ...] = ("a", "b", "c")
    now: float = 0.0
    check: SelfCheck = field(init=False)

    def __post_init__(self) -> None:
        self.check = SelfCheck(self.me, 60.0, random.Random(1))

    def ask(self, *witnesses: Witness, owner_after: str | None = None) -> list[Finding | Contradiction]:
        self.check.asked(Subject(VIP, self.owner, self.candidates), self.now)
        for witness in witnesses:
            assert self.check.heard(VIP, witness)
        self.now += TICK
        return self.check.conclude(self.now, lambda _: owner_after or self.owner)

    def ask_twice(self, *witnesses: Witness) -> list[Finding | Contradiction]:
        assert self.ask(*witnesses) == [], "once may be a hand-over"
        return self.ask(*witnesses)


@pytest.mark.parametrize(
    ("me", "owner", "witnesses", "verdict", "mac"),
    [
        ("b", "a", (), Verdict.SILENT, ""),
        ("b", "a", (A, C), Verdict.TWICE, C.mac),
        ("b", "a", (A, STRANGER), Verdict.TWICE, STRANGER.mac),
        ("b", "a", (B, C), Verdict.TWICE, B.mac),
        ("b", "a", (C,), Verdict.WRONG, C.mac),
        ("b", "a", (STRANGER,), Verdict.WRONG, STRANGER.mac),
        ("a", "a", (STRANGER,), Verdict.TWICE, STRANGER.mac),
    ],
)
def test_what_is_amiss_is_told_once_and_that_it_ended(
    me: str, owner: str, witnesses: tuple[Witness, ...], verdict: Verdict, mac: str
) -> None:
    asking = Asking(me, owner)
    (finding,) = asking.ask_twice(*witnesses)
    assert isinstance(finding, Finding)
    assert (finding.verdict, finding.mac) == (verdict, mac)
    assert all(witness.name in finding.why for witness in witnesses)
    for _ in range(5):
        assert asking.ask(*witnesses) == []
        assert asking.check.state(VIP)[1] == verdict.value
    well = () if me == owner else (A,)
    (finding,) = asking.ask(*well)
    assert isinstance(finding, Finding)
    assert finding.verdict is Verdict.WELL
    assert asking.check.state(VIP) == (("a",), "")


@pytest.mark.parametrize(
    "witnesses", [(A,), (A, A_TOO), (UNKNOWN,)], ids=["owner", "two interfaces", "unknown"]
)
def test_what_is_well_is_not_told(witnesses: tuple[Witness, ...]) -> None:
    asking = Asking("b", "a")
    for _ in range(5):
        assert asking.ask(*witnesses) == []
    assert asking.check.state(VIP)[0] == tuple(sorted({witness.name for witness in witnesses}))


def test_silence_means_nothing_where_we_would_not_announce() -> None:
    asking = Asking("z", "a")
    for _ in range(5):
        assert asking.ask() == []
    (finding,) = asking.ask_twice(C)
    assert isinstance(finding, Finding)
    assert finding.verdict is Verdict.WRONG


def test_what_moved_meanwhile_is_not_judged() -> None:
    asking = Asking("b", "a")
    asking.ask()
    assert asking.ask(owner_after="c") == []
    assert asking.ask() == [], "and counts anew"
    assert len(asking.ask()) == 1


def test_two_different_faults_are_not_one_twice() -> None:
    asking = Asking("b", "a")
    assert asking.ask() == []
    assert asking.ask(C) == []
    assert asking.ask() == []


@pytest.mark.parametrize(("rival", "again"), [(C, True), (A, False), (Witness("02::9", "z"), True)])
def test_an_owner_contradicts_only_speakers_that_come_after_it(rival: Witness, again: bool) -> None:
    asking = Asking("b", "b")
    found = asking.ask_twice(rival)
    assert [each for each in found if isinstance(each, Contradiction)] == (
        [Contradiction(VIP, rival)] if again else []
    )
    assert len([each for each in found if isinstance(each, Finding)]) == 1
    later = asking.ask(rival)
    assert later == ([Contradiction(VIP, rival)] if again else []), "until it is well"


def test_answers_nobody_asked_for_are_not_ours() -> None:
    check = SelfCheck("a", 60.0, random.Random(1))
    assert not check.heard(VIP, B)


def test_a_flood_of_answers_is_bounded() -> None:
    asking = Asking("b", "a")
    asking.check.asked(Subject(VIP, "a", ("a", "b")), 0.0)
    for number in range(1000):
        assert asking.check.heard(VIP, Witness(f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}", ""))
    asking.check.conclude(TICK, lambda _: "a")
    assert len(asking.check.state(VIP)[0]) == MAX_WITNESSES


@given(st.integers(0, 500), st.floats(5.0, 3600.0), st.integers(0, 2**32))
def test_everything_is_asked_for_in_turn_and_never_more_than_so_much(
    count: int, interval: float, seed: int
) -> None:
    check = SelfCheck("a", interval, random.Random(seed))
    addresses = {f"10.0.{n >> 8}.{n & 255}" for n in range(count)}
    asked: dict[str, int] = dict.fromkeys(addresses, 0)
    round_takes = max(interval / TICK, count / MAX_QUESTIONS)
    for tick in range(int(2 * round_takes) + 3):
        chosen = check.choose(addresses, tick * TICK)
        assert len(chosen) <= MAX_QUESTIONS
        assert len(chosen) == len(set(chosen))
        for address in chosen:
            asked[address] += 1
    assert all(1 <= times <= 3 for times in asked.values()), "as good as equally often"


def test_what_is_suspected_is_asked_for_again_soon_and_first() -> None:
    check = SelfCheck("b", 3600.0, random.Random(1))
    check.asked(Subject(VIP, "a", ("a", "b")), 0.0)
    assert check.conclude(TICK, lambda _: "a") == []
    assert check.choose({VIP, "192.0.2.2"}, TICK + AGAIN_AFTER - 0.1) == []
    assert check.choose({VIP, "192.0.2.2"}, TICK + AGAIN_AFTER) == [VIP]


def test_addresses_that_are_gone_are_forgotten() -> None:
    asking = Asking("b", "a")
    asking.ask(A)
    for _ in range(200):
        asking.check.choose(frozenset({"192.0.2.2"}), 0.0)
    assert asking.check.state(VIP)[0] == ()


def test_rounds_do_not_march_in_step() -> None:
    check = SelfCheck("a", 60.0, random.Random(1))
    pauses = {check.pause() for _ in range(100)}
    assert len(pauses) > 50
    assert all(0.8 * TICK <= pause <= 1.2 * TICK for pause in pauses)
