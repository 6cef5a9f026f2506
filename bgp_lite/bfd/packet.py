"""The BFD control packet (RFC 5880 §4.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

VERSION: Final = 1
POLL, FINAL, INDEPENDENT, AUTHENTICATED, DEMAND, MULTIPOINT = 0x20, 0x10, 0x08, 0x04, 0x02, 0x01

# version+diagnostic, state+flags, detect multiplier, length, then five 32-bit fields
_LAYOUT: Final = struct.Struct("!BBBB5I")
SIZE: Final = _LAYOUT.size


class State(IntEnum):
    """Session state.  The numbers are the wire's."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3


class Diagnostic(IntEnum):
    """Why the session last left UP."""

    NONE = 0
    DETECTION_TIME_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_DOWN = 3
    FORWARDING_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMIN_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8


class BadPacket(Exception):
    """The only thing `ControlPacket.decode` raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPacket:
    state: State
    detect_mult: int
    my_discriminator: int
    your_discriminator: int
    desired_min_tx_us: int
    required_min_rx_us: int
    required_min_echo_rx_us: int = 0
    diagnostic: int = Diagnostic.NONE
    poll: bool = False
    final: bool = False
    independent: bool = False
    """C bit: this end outlives the control plane it reports for."""
    demand: bool = False

    def encode(self) -> bytes:
        flags = POLL * self.poll | FINAL * self.final | INDEPENDENT * self.independent | DEMAND * self.demand
        return _LAYOUT.pack(
            VERSION << 5 | self.diagnostic,
            self.state << 6 | flags,
            self.detect_mult,
            SIZE,
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx_us,
            self.required_min_rx_us,
            self.required_min_echo_rx_us,
        )

    @classmethod
    def decode(cls, data: bytes) -> ControlPacket:
        if len(data) < SIZE:
            raise BadPacket(f"{len(data)} octets, need {SIZE}")
        head, flags, mult, length, mine, yours, tx, rx, echo = _LAYOUT.unpack_from(data)
        state = State(flags >> 6)
        # RFC 5880 §6.8.6, in its order, so the two can be read side by side.
        if head >> 5 != VERSION:
            raise BadPacket(f"version {head >> 5}")
        if not SIZE <= length <= len(data):
            raise BadPacket(f"length field {length} in a datagram of {len(data)}")
        if mult == 0:
            raise BadPacket("detect multiplier 0")
        if flags & MULTIPOINT:
            raise BadPacket("multipoint bit set")
        if mine == 0:
            raise BadPacket("my discriminator 0")
        if yours == 0 and state not in (State.DOWN, State.ADMIN_DOWN):
            raise BadPacket(f"your discriminator 0 in state {state.name}")
        if flags & AUTHENTICATED:
            raise BadPacket("authentication is not in use")
        return cls(
            state=state,
            detect_mult=mult,
            my_discriminator=mine,
            your_discriminator=yours,
            desired_min_tx_us=tx,
            required_min_rx_us=rx,
            required_min_echo_rx_us=echo,
            diagnostic=head & 0x1F,
            poll=bool(flags & POLL),
            final=bool(flags & FINAL),
            independent=bool(flags & INDEPENDENT),
            demand=bool(flags & DEMAND),
        )
