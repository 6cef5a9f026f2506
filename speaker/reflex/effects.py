"""What the announcer wishes to be done.  Addresses are canonical text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Interfaces: TypeAlias = frozenset[str] | None
"""Names; None is all that qualify."""


@dataclass(frozen=True, slots=True)
class Answer:
    """From now on answer for it on these interfaces, and announce it wherever that is new."""

    address: str
    interfaces: Interfaces


@dataclass(frozen=True, slots=True)
class Yield:
    """Go on answering, but announce no more: another is about to."""

    address: str


@dataclass(frozen=True, slots=True)
class Silence:
    """Stop answering, and stop asking."""

    address: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce again what we answer for."""

    address: str
    rounds: int | None
    """None: as many as after a take-over."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask on these interfaces, once, whether anybody has it; the answers, and questions like ours, are heard
    until `Answer` or `Silence`."""

    address: str
    interfaces: Interfaces


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask on these interfaces, once, who answers for it."""

    address: str
    interfaces: Interfaces


@dataclass(frozen=True, slots=True)
class Happened:
    what: str
    subject: str
    why: str
    mac: str = ""


Effect: TypeAlias = Answer | Yield | Silence | Announce | Probe | Ask | Happened
