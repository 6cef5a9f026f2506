"""What the planner is told of every VIP: made a few at a time, and written anew only where it changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec
import trio

from speaker.orders import SealedVips, VipState, seal
from speaker.reflex.announce import Announcer
from speaker.reflex.l2.core import L2, pack
from speaker.reflex.vip import State, View

CLAIM_LASTS: Final = 120.0
"""Seconds a stranger's use of an address is told about: longer than two answers to it are apart."""
_CHUNK: Final = 64
"""VIPs reported in one go."""

AnsweredBy: TypeAlias = Callable[[str], tuple[tuple[str, ...], str]]
"""Who answers for an address, and what is amiss about it, on the wire."""


class VipReport:
    def __init__(
        self, announcer: Announcer, l2: L2, answered_by: AnsweredBy, is_speaker: Callable[[str], bool]
    ) -> None:
        """`is_speaker`: whether a hardware address is a speaker's, as far as is known by now."""
        self._announcer = announcer
        self._is_speaker = is_speaker
        self._l2 = l2
        self._answered_by = answered_by
        self._sealed: dict[str, tuple[VipState, msgspec.Raw]] = {}

    async def make(self, generation: int) -> SealedVips:
        """Of every VIP in the orders of this generation, sorted by address."""
        sealed: dict[str, tuple[VipState, msgspec.Raw]] = {}
        for number, address in enumerate(sorted(self._announcer.addresses())):
            if number % _CHUNK == 0:
                await trio.lowlevel.checkpoint()
            view = self._announcer.view(address)
            if view is None:
                continue  # dropped while we were away, or not decided yet
            state = self._state(view)
            known = self._sealed.get(address)
            sealed[address] = known if known and known[0] == state else (state, seal(state))
        self._sealed = sealed
        return SealedVips(generation=generation, vips=tuple(octets for _, octets in sealed.values()))

    def _state(self, view: View) -> VipState:
        address = pack(view.address)
        answering = view.state.answering
        interfaces = self._l2.interfaces(address) if answering else ()
        counters = self._l2.counters.get(address)
        answered_by, amiss = self._answered_by(view.address)
        return VipState(
            address=view.address,
            owner=view.owner,
            answering=answering,
            interfaces=interfaces,
            missing_interfaces=view.state is State.OURS and not interfaces,
            requests_received=counters.requests_received if counters else 0,
            responses_sent=counters.responses_sent if counters else 0,
            gratuitous_sent=counters.gratuitous_sent if counters else 0,
            claimed_by=self._claimant(view),
            answered_by=answered_by,
            amiss=amiss,
        )

    def _claimant(self, view: View) -> str:
        """The stranger on the address, if any: not one whose frames outran the news that it is a speaker."""
        if trio.current_time() - view.claimed_at >= CLAIM_LASTS or self._is_speaker(view.claimed_by):
            return ""
        return view.claimed_by
