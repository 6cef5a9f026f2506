"""What the world gets to hear: which services this node announces, since when, and why no longer.

A core: snapshots of the reflex and plans go in, news comes out; it talks to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from speaker.orders import Members, MemberView, Vips
from speaker.planner.plan import Plan, Verdict, why_not


@dataclass(frozen=True, slots=True)
class Announced:
    """A service this node answers for."""

    addresses: tuple[str, ...]
    interfaces: tuple[str, ...]
    """The configured list; empty means everywhere."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """This node now announces a service."""

    service: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """This node no longer announces a service."""

    service: str
    addresses: tuple[str, ...]
    reason: str
    """MetalLB's word."""
    text: str


@dataclass(frozen=True, slots=True)
class NoInterface:
    """It is our turn, but none of the interfaces asked for exists here."""

    service: str
    address: str


News: TypeAlias = Assigned | Withdrawn | NoInterface


class Reporter:
    def __init__(self, me: str, *, membership: bool = True) -> None:
        self._me = me
        self._membership = membership
        self._missing: set[tuple[str, str]] = set()
        self.announced: Mapping[str, Announced] = {}
        """By `namespace/name`."""

    def update(self, plan: Plan, generation: int, members: Members | None, vips: Vips | None) -> list[News]:
        """Take in the state of things.  `generation` is that of the orders made from `plan`."""
        states = {state.address: state for state in (vips.vips if vips else ())}
        current = vips is not None and vips.generation == generation
        reachable = {
            member.name: member for member in (members.members if members else ()) if member.reachable
        }
        announced: dict[str, Announced] = {}
        missing: set[tuple[str, str]] = set()
        for key, verdict in plan.verdicts.items():
            if not verdict.candidates or self.owner(verdict, reachable) != self._me:
                continue
            # A snapshot that is older than the plan may not make news, only keep what was
            if not current and key not in self.announced:
                continue
            mine = [states[address] for address in verdict.addresses if address in states]
            missing.update((key, state.address) for state in mine if state.missing_interfaces)
            if any(state.answering or state.missing_interfaces for state in mine):
                announced[key] = Announced(verdict.addresses, verdict.interfaces or ())
        news: list[News] = [
            *self._withdrawals(plan, announced),
            *self._assignments(announced),
            *(NoInterface(key, address) for key, address in sorted(missing - self._missing)),
        ]
        self.announced, self._missing = announced, missing
        return news

    def owner(self, verdict: Verdict, reachable: Mapping[str, MemberView]) -> str | None:
        """Whose turn it is: the first candidate that is reachable and can, as the reflex decides it."""
        if not self._membership:
            return verdict.candidates[0] if verdict.candidates else None
        return next(
            (
                name
                for name in verdict.candidates
                if name in reachable and verdict.restriction not in reachable[name].unable
            ),
            None,
        )

    def _withdrawals(self, plan: Plan, announced: Mapping[str, Announced]) -> Iterable[Withdrawn]:
        for key, was in sorted(self.announced.items()):
            now = announced.get(key)
            if now is not None and now.addresses != was.addresses:
                yield Withdrawn(key, was.addresses, "loadBalancerIPChanged", "its addresses changed")
            elif now is None:
                yield self._withdrawal(key, was, plan.verdicts.get(key))

    def _withdrawal(self, key: str, was: Announced, verdict: Verdict | None) -> Withdrawn:
        if verdict is None:
            return Withdrawn(
                key, was.addresses, "serviceDeleted", "it was deleted, or is of another class now"
            )
        objection = why_not(verdict, self._me)
        if objection is not None:
            return Withdrawn(key, was.addresses, objection.reason, objection.text)
        return Withdrawn(key, was.addresses, "notOwner", "another node comes first")

    def _assignments(self, announced: Mapping[str, Announced]) -> Iterable[Assigned]:
        for key, now in sorted(announced.items()):
            was = self.announced.get(key)
            if was is None or was.addresses != now.addresses:
                yield Assigned(key, now.addresses)
