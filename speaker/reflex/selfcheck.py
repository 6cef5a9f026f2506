"""Asking the wire who answers for the VIPs: what the speakers believe is one thing, what a client gets is
another.  A core: answers and the time go in, questions and findings come out.

Every address is asked for about once an interval, by an ARP probe or a neighbour solicitation, which change
nobody's tables.  The owner asks for its own as well: there nobody should answer.  What is amiss must be so
twice running, further apart than a hand-over takes, with the same owner all the while; then it is told, and
told again only when it changes.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from speaker.reflex.announce import HANDOVER_TIMEOUT

TICK: Final = 1.0
"""Seconds between two rounds of questions, a fifth more or less; also what is waited for answers."""
MAX_QUESTIONS: Final = 5
"""A round: they are broadcast, and every host of the LAN has to look at each."""
AGAIN_AFTER: Final = 2 * HANDOVER_TIMEOUT
STRIKES: Final = 2
MAX_WITNESSES: Final = 8
"""Answers kept of one question."""


class Verdict(Enum):
    """The values are the names of what happened."""

    WELL = "answered_well"
    SILENT = "unanswered"
    TWICE = "answered_twice"
    WRONG = "answered_by_wrong_host"


@dataclass(frozen=True, slots=True)
class Witness:
    """Who said to have it."""

    mac: str
    speaker: str | None
    """As in `Rival`."""

    @property
    def name(self) -> str:
        return self.speaker or self.mac


@dataclass(frozen=True, slots=True)
class Subject:
    """An address and who should answer for it."""

    address: str
    owner: str
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Told when it changed."""

    address: str
    verdict: Verdict
    why: str
    mac: str = ""
    """Of one that should not have answered."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """The address is ours, yet a speaker that comes after us answers for it: it must hear us again."""

    address: str
    witness: Witness


@dataclass(slots=True)
class _Question:
    subject: Subject
    until: float
    witnesses: list[Witness] = field(default_factory=list)


@dataclass(slots=True)
class _Case:
    """What we know of one address."""

    answered_by: tuple[str, ...] = ()
    verdict: Verdict = Verdict.WELL
    suspected: Verdict = Verdict.WELL
    strikes: int = 0


class SelfCheck:
    """`interval` in seconds, greater than 0."""

    def __init__(self, me: str, interval: float, rng: random.Random) -> None:
        self._me = me
        self._interval = interval
        self._rng = rng
        self._ring: deque[str] = deque()
        self._credit = 0.0
        self._open: dict[str, _Question] = {}
        self._again: dict[str, float] = {}
        self._cases: dict[str, _Case] = {}
        self.changes = 0
        """Grows whenever `state` changes for some address."""

    def pause(self) -> float:
        """Seconds until the next round."""
        return TICK * self._rng.uniform(0.8, 1.2)

    def choose(self, addresses: AbstractSet[str], now: float) -> list[str]:
        """Which of them to ask for now; those that seem amiss go first."""
        chosen = [address for address, at in self._again.items() if at <= now][:MAX_QUESTIONS]
        for address in chosen:
            del self._again[address]
        self._credit = min(self._credit + len(addresses) * TICK / self._interval, MAX_QUESTIONS)
        while self._credit >= 1 and len(chosen) < MAX_QUESTIONS:
            self._credit -= 1
            if not self._ring:
                self._refill(addresses)
            if not self._ring:
                break
            address = self._ring.popleft()
            if address not in self._open and address not in chosen:
                chosen.append(address)
        return chosen

    def _refill(self, addresses: AbstractSet[str]) -> None:
        known = sorted(addresses)
        self._rng.shuffle(known)
        self._ring.extend(known)
        gone = self._cases.keys() - addresses
        for address in gone:
            del self._cases[address]
            self._again.pop(address, None)

    def asked(self, subject: Subject, now: float) -> None:
        """The question is on the wire."""
        self._open[subject.address] = _Question(subject, now + TICK / 2)

    def heard(self, address: str, witness: Witness) -> bool:
        """Somebody told us that it has the address; True when we had asked."""
        question = self._open.get(address)
        if question is None:
            return False
        if witness not in question.witnesses and len(question.witnesses) < MAX_WITNESSES:
            question.witnesses.append(witness)
        return True

    def conclude(self, now: float, owner_of: Callable[[str], str | None]) -> list[Finding | Contradiction]:
        """What follows from the questions whose time is up."""
        found: list[Finding | Contradiction] = []
        for address, question in [*self._open.items()]:
            if question.until <= now:
                del self._open[address]
                if owner_of(address) == question.subject.owner:
                    self._judge(question, now, found)
                else:  # it moved meanwhile: nothing can be said, and what was suspected is of no interest
                    self._cases.pop(address, None)
        return found

    def state(self, address: str) -> tuple[tuple[str, ...], str]:
        """Who answered the last question (names of speakers, hardware addresses of others; sorted), and what
        is amiss, if anything, by the verdict's name.
        """
        case = self._cases.get(address)
        if case is None:
            return (), ""
        return case.answered_by, "" if case.verdict is Verdict.WELL else case.verdict.value

    def _judge(self, question: _Question, now: float, found: list[Finding | Contradiction]) -> None:
        subject = question.subject
        verdict = self._verdict(question)
        if verdict is None:
            return
        case = self._cases.setdefault(subject.address, _Case())
        ours = {self._me} if subject.owner == self._me else set()
        answered_by = tuple(sorted(ours | {witness.name for witness in question.witnesses}))
        self.changes += answered_by != case.answered_by
        case.answered_by = answered_by
        if verdict is case.suspected:
            case.strikes += 1
        else:
            case.suspected, case.strikes = verdict, 1
        if verdict is not Verdict.WELL:
            if case.strikes < STRIKES:
                self._again[subject.address] = now + AGAIN_AFTER
                return
            found.extend(self._contradictions(question))
        if verdict is not case.verdict:
            case.verdict = verdict
            self.changes += 1
            bad = (
                w for w in question.witnesses if w.speaker != subject.owner and verdict is not Verdict.WELL
            )
            intruder = next(bad, None)
            why = _why(verdict, subject.owner, case.answered_by)
            found.append(Finding(subject.address, verdict, why, intruder.mac if intruder else ""))

    def _verdict(self, question: _Question) -> Verdict | None:
        owner = question.subject.owner
        names = {witness.name for witness in question.witnesses}
        if owner == self._me:
            return Verdict.TWICE if names else Verdict.WELL
        if not names:
            # where we would not announce it, we may not be able to hear it either
            return Verdict.SILENT if self._me in question.subject.candidates else None
        if len(names) > 1:
            return Verdict.TWICE
        (witness, *_) = question.witnesses
        # one whose name cannot be told may be the owner
        return Verdict.WELL if witness.speaker in (owner, None) else Verdict.WRONG

    def _contradictions(self, question: _Question) -> Iterable[Contradiction]:
        subject = question.subject
        if subject.owner != self._me:
            return
        rank = {name: number for number, name in enumerate(subject.candidates)}
        mine = rank.get(self._me, math.inf)
        for witness in question.witnesses:
            # strangers have been met by policy as soon as they were heard
            if witness.speaker and rank.get(witness.speaker, math.inf) > mine:
                yield Contradiction(subject.address, witness)


def _why(verdict: Verdict, owner: str, answered_by: tuple[str, ...]) -> str:
    by = " and ".join(answered_by)
    match verdict:
        case Verdict.SILENT:
            return f"nobody answers; {owner} should"
        case Verdict.TWICE:
            return f"answered by {by}; only {owner} should"
        case Verdict.WRONG:
            return f"answered by {by}; {owner} should"
        case Verdict.WELL:
            return f"answered by {by} alone again"
