"""What the announcer knows of one address."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from speaker.orders import Vip
from speaker.reflex.effects import Interfaces

NEVER: Final = -float("inf")


class State(Enum):
    IDLE = "not ours"
    ASKING = "ours, but first we ask whether anybody has it"
    OURS = "ours"
    YIELDING = "another's, but we answer until it is heard"

    @property
    def answering(self) -> bool:
        return self is State.OURS or self is State.YIELDING


@dataclass(frozen=True, slots=True)
class Rival:
    """Another station that announced a VIP, answered for it or asked for it; by its hardware address."""

    mac: str = ""
    speaker: str | None = None
    """A speaker's name; "" when it is none, None when that cannot be told."""
    asks: bool = False
    """It has not got the address, but is asking, as we do, whether anybody has."""

    @property
    def stranger(self) -> bool:
        return self.speaker == ""


NOBODY: Final = Rival()


@dataclass(slots=True)
class Address:
    text: str
    entries: tuple[Vip, ...] = ()
    owners: tuple[str | None, ...] = ()
    """Of each entry."""
    state: State = State.IDLE
    interfaces: Interfaces = None
    """Where we answer or ask, unless idle."""
    ask_first: bool = False
    """Nobody of us is known to have announced it."""
    probes_left: int = 0
    heard_at: float = NEVER
    """When another speaker announced it last."""
    heard_from: str | None = None
    """Who that was; None when it cannot be told."""
    conflict_quiet_until: float = NEVER
    """We have spoken; another's announcement is answered no earlier."""
    conflict_interval: float = 0.0
    rival: Rival = NOBODY
    """Whom the pending conflict is with."""
    claimed_by: str = ""
    """Hardware address of the last stranger that used it."""
    claimed_at: float = NEVER
    yields_until: float = NEVER
    """While yielding: when to stop, heard or not."""
    left_to_stranger: bool = False
    gained_at: float = NEVER
    deferred_to: str = ""
    """A speaker that comes before us and announces it, though gossip says that it is away."""
    better: str = ""
    """The last of those, until gossip agrees."""

    @property
    def owner(self) -> str | None:
        return next((owner for owner in self.owners if owner is not None), None)


@dataclass(frozen=True, slots=True)
class View:
    """One address, for reports."""

    address: str
    owner: str | None
    state: State
    interfaces: Interfaces
    conflicting: bool
    claimed_by: str = ""
    claimed_at: float = NEVER
