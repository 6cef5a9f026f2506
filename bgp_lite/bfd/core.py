"""One BFD session: packets and the time in, packets and state changes out.

Times are seconds on the caller's clock.  `handle` takes the time a packet *arrived* (the kernel's receive
timestamp where there is one): a process that was kept from running must not take its own lateness for the
peer's.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final, TypeAlias

from bgp_lite.bfd.packet import ControlPacket, Diagnostic, State
from bgp_lite.bfd.state import next_state

SLOW_TX: Final = 1.0
"""Seconds at least between packets while the session is not up (RFC 5880 §6.8.3)."""
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one end wants.  Raises ValueError, naming the field, on construction."""

    transmit_interval: float = 0.3
    """Seconds between the packets we would like to send, 0.010..60."""
    receive_interval: float = 0.3
    """Seconds between packets we can take, 0.010..60."""
    detect_multiplier: int = 3
    """Packets the peer may miss of ours, 2..255 (RFC 5880 allows 1; one lost packet is no failure)."""
    passive: bool = False
    """Say nothing until the peer has (RFC 5880 §6.1)."""
    minimum_ttl: int = 254
    """Multihop only: packets that arrive with less are dropped, 1..254."""

    def __post_init__(self) -> None:
        for name in ("transmit_interval", "receive_interval"):
            if not 0.010 <= getattr(self, name) <= 60:
                raise ValueError(f"{name}: {getattr(self, name)} s is not in 0.010..60")
        if not 2 <= self.detect_multiplier <= 255:
            raise ValueError(f"detect_multiplier: {self.detect_multiplier} is not in 2..255")
        if not 1 <= self.minimum_ttl <= 254:
            raise ValueError(f"minimum_ttl: {self.minimum_ttl} is not in 1..254")


@dataclass(frozen=True, slots=True)
class Send:
    packet: ControlPacket


@dataclass(frozen=True, slots=True)
class Changed:
    old: State
    new: State
    diagnostic: Diagnostic


Effect: TypeAlias = Send | Changed


class Session:
    """RFC 5880 §6.8, asynchronous mode; names of the variables are the RFC's."""

    def __init__(self, profile: Profile, discriminator: int, *, rng: random.Random, now: float) -> None:
        assert discriminator != 0
        self.profile = profile
        self.local_discr = discriminator
        self.remote_discr = 0
        self.state = State.DOWN
        self.remote_state = State.DOWN
        self.local_diag = Diagnostic.NONE
        self.remote_min_rx = 1 / _US
        """Seconds; RFC 5880 §6.8.1 starts it at 1 µs."""
        self._remote_min_tx = 0.0
        self._remote_mult = 0
        self._remote_demand = False
        self._rng = rng
        self._polling = False
        self._tx_at = now + rng.random() * SLOW_TX * 0.1
        self._detect_at = math.inf
        # What applies until a poll sequence ends (RFC 5880 §6.8.3).
        self._tx_in_force = SLOW_TX
        self._rx_in_force = profile.receive_interval

    # -- what comes in ------------------------------------------------------------------------------

    def handle(self, packet: ControlPacket, now: float) -> list[Effect]:
        """A packet that was found to belong to this session."""
        self.remote_discr = packet.my_discriminator
        self.remote_state = packet.state
        self._remote_demand = packet.demand
        self.remote_min_rx = packet.required_min_rx_us / _US
        self._remote_min_tx = packet.desired_min_tx_us / _US
        self._remote_mult = packet.detect_mult
        if packet.final and self._polling:
            self._polling = False
            self._tx_in_force, self._rx_in_force = self._desired_min_tx, self.profile.receive_interval
        effects: list[Effect] = []
        if self.state is State.ADMIN_DOWN:
            return effects
        new = next_state(self.state, packet.state)
        if new is not self.state:
            diagnostic = Diagnostic.NEIGHBOR_DOWN if new is State.DOWN else self.local_diag
            effects += self._enter(new, diagnostic, now)
        self._detect_at = now + self.detection_time
        self._pace(now)
        if packet.poll:
            effects.append(Send(self._packet(final=True)))
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Do whatever is due.  The caller has read every packet that had arrived by `now`."""
        effects: list[Effect] = []
        if self._detect_at <= now:
            if self.state in (State.INIT, State.UP):
                # The peer's discriminator is remembered for one more detection time (RFC 5880 §6.8.1).
                self._detect_at = now + self.detection_time
                effects += self._enter(State.DOWN, Diagnostic.DETECTION_TIME_EXPIRED, now)
            else:
                self._detect_at, self.remote_discr = math.inf, 0
        if self._tx_at <= now:
            if self._may_send:
                effects.append(Send(self._packet()))
            self._tx_at = now + self._jittered(self.transmit_interval)
        return effects

    def next_deadline(self) -> float:
        return min(self._tx_at, self._detect_at)

    def set_admin_down(self, now: float) -> list[Effect]:
        """Say goodbye for good.  Routers take it for a failure: not for a planned restart."""
        return self._enter(State.ADMIN_DOWN, Diagnostic.ADMIN_DOWN, now)

    def change(self, profile: Profile, now: float) -> None:
        """Other intervals: in force once the peer has answered a poll (RFC 5880 §6.8.3)."""
        self.profile = profile
        if self.state is State.UP:
            self._polling = True
            # Getting faster is safe at once in one direction each.
            self._tx_in_force = min(self._tx_in_force, self._desired_min_tx)
            self._rx_in_force = max(self._rx_in_force, profile.receive_interval)
            self._tx_at = min(self._tx_at, now)

    # -- what follows from it -----------------------------------------------------------------------

    @property
    def transmit_interval(self) -> float:
        return max(self._tx_in_force, self.remote_min_rx)

    @property
    def detection_time(self) -> float:
        return self._remote_mult * max(self._rx_in_force, self._remote_min_tx)

    @property
    def _desired_min_tx(self) -> float:
        wanted = self.profile.transmit_interval
        return wanted if self.state is State.UP else max(wanted, SLOW_TX)

    @property
    def _may_send(self) -> bool:
        if self.remote_min_rx == 0 or (self.profile.passive and self.remote_discr == 0):
            return False
        quiet = self._remote_demand and self.state is State.UP and self.remote_state is State.UP
        return not quiet or self._polling

    def _enter(self, new: State, diagnostic: Diagnostic, now: float) -> list[Effect]:
        old, self.state, self.local_diag = self.state, new, diagnostic
        self._polling = new is State.UP
        # Going up means going faster, going down slower with nobody counting: both hold at once.
        self._tx_in_force, self._rx_in_force = self._desired_min_tx, self.profile.receive_interval
        self._tx_at = now + self._jittered(self.transmit_interval)
        effects: list[Effect] = [Changed(old, new, diagnostic)]
        if self._may_send:
            effects.append(Send(self._packet()))  # the peer learns of it now, not an interval later
        return effects

    def _pace(self, now: float) -> None:
        """An interval that became shorter counts from now on."""
        self._tx_at = min(self._tx_at, now + self.transmit_interval)

    def _jittered(self, interval: float) -> float:
        """RFC 5880 §6.8.7: 75 to 100 %, at most 90 % when one packet is the whole detection time."""
        return interval * self._rng.uniform(0.75, 0.90 if self.profile.detect_multiplier == 1 else 1.0)

    def _packet(self, *, final: bool = False) -> ControlPacket:
        return ControlPacket(
            state=self.state,
            detect_mult=self.profile.detect_multiplier,
            my_discriminator=self.local_discr,
            your_discriminator=self.remote_discr,
            desired_min_tx_us=round(self._desired_min_tx * _US),
            required_min_rx_us=round(self.profile.receive_interval * _US),
            diagnostic=self.local_diag,
            poll=self._polling and not final,
            final=final,
            independent=True,
        )
