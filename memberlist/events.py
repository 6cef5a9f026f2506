"""What a member sees happen, and the public picture of a member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .messages import State


@dataclass(frozen=True, slots=True)
class Node:
    """One member at one moment."""

    name: str
    address: str
    """IP address as text."""
    port: int
    state: State
    """SWIM's opinion."""
    reachable: bool
    """The watchers' opinion joined with SWIM's: False as soon as a majority of the member's watchers suspects
    it, or SWIM says dead or left."""
    incarnation: int
    meta: bytes | None
    changed_at: float
    """When `state` last changed, on this process's clock (seconds, arbitrary start)."""


@dataclass(frozen=True, slots=True)
class Joined:
    """New to us, or back from the dead."""

    node: Node


@dataclass(frozen=True, slots=True)
class Updated:
    """Its metadata, or where it left its address, changed."""

    node: Node


@dataclass(frozen=True, slots=True)
class Suspected:
    """SWIM suspects it; it still counts as a member."""

    node: Node
    by: str


@dataclass(frozen=True, slots=True)
class Refuted:
    """A suspect proved to be alive."""

    node: Node


@dataclass(frozen=True, slots=True)
class Died:
    node: Node


@dataclass(frozen=True, slots=True)
class Left:
    """It said goodbye."""

    node: Node


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The watchers agree that nobody hears it, long before SWIM would say dead."""

    node: Node


@dataclass(frozen=True, slots=True)
class Reachable:
    """It was unreachable and is heard again.  After `Died`, `Joined` says so instead."""

    node: Node


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two members claim one name; the newcomer is ignored.  `node.name` may be our own."""

    node: Node
    other_address: str
    other_port: int


@dataclass(frozen=True, slots=True)
class UserMessage:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Lagged:
    """The reader of `Member.events` was too slow: so many events were dropped before the next one."""

    count: int


MemberEvent: TypeAlias = (
    Joined | Updated | Suspected | Refuted | Died | Left | Unreachable | Reachable | Conflict
)
Event: TypeAlias = MemberEvent | UserMessage | Lagged
