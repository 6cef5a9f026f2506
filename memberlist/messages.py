"""The messages of hashicorp/memberlist, one frozen record each.

Field names are Python's; `codec` maps them to the names on the wire.  Addresses are kept as the octets they
came in (4 or 16), because the two forms of one IPv4 address are different addresses to a Go peer's conflict
detection.  Names are text decoded with `surrogateescape`, so that any octets survive a round trip.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias


class MessageType(IntEnum):
    """First octet of a message."""

    PING = 0
    INDIRECT_PING = 1
    ACK = 2
    SUSPECT = 3
    ALIVE = 4
    DEAD = 5
    PUSH_PULL = 6
    COMPOUND = 7
    USER = 8
    COMPRESS = 9
    ENCRYPT = 10
    NACK = 11
    CRC = 12
    ERROR = 13
    LABEL = 244


class State(IntEnum):
    """SWIM's opinion of a member; the numbers are the wire's (push/pull)."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


VSN: Final = bytes((1, 5, 2, 0, 0, 0))
"""Protocol min, max, current; delegate min, max, current: what a MetalLB speaker sends."""


@dataclass(frozen=True, slots=True)
class Ping:
    seq_no: int
    node: str
    source_addr: bytes = b""
    source_port: int = 0
    source_node: str = ""


@dataclass(frozen=True, slots=True)
class IndirectPing:
    seq_no: int
    target: bytes
    port: int
    node: str
    nack: bool
    source_addr: bytes = b""
    source_port: int = 0
    source_node: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    seq_no: int
    payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class Nack:
    seq_no: int


@dataclass(frozen=True, slots=True)
class Suspect:
    incarnation: int
    node: str
    sender: str
    """`From` on the wire: who accuses."""


@dataclass(frozen=True, slots=True)
class Alive:
    incarnation: int
    node: str
    addr: bytes
    port: int
    meta: bytes | None = None
    vsn: bytes = VSN


@dataclass(frozen=True, slots=True)
class Dead:
    incarnation: int
    node: str
    sender: str
    """`From` on the wire; equal to `node` when it left on purpose."""


@dataclass(frozen=True, slots=True)
class User:
    """On UDP, best effort: raw octets after the type.  On a stream a header with the length comes first."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Error:
    error: str


@dataclass(frozen=True, slots=True)
class PushNodeState:
    name: str
    addr: bytes
    port: int
    incarnation: int
    state: int
    meta: bytes | None = None
    vsn: bytes = VSN


@dataclass(frozen=True, slots=True)
class PushPull:
    join: bool
    nodes: tuple[PushNodeState, ...]
    user_state: bytes = b""


PacketMessage: TypeAlias = Ping | IndirectPing | Ack | Nack | Suspect | Alive | Dead | User
"""What may stand in a UDP packet once every layer is off."""

StreamMessage: TypeAlias = Ping | Ack | PushPull | User | Error
"""What may stand on a TCP connection once every layer is off."""
