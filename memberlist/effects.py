"""What the core wishes to be done; the driver, or a simulation, does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .config import Address
from .events import MemberEvent, UserMessage
from .messages import PacketMessage, Ping


@dataclass(frozen=True, slots=True)
class SendPacket:
    """One datagram.  News from the queue comes encoded, because it is sent many times."""

    to: Address
    parts: tuple[PacketMessage | bytes, ...]
    crc: bool = False


@dataclass(frozen=True, slots=True)
class StartPushPull:
    """Exchange full state with this member; the answer goes to `Core.merge`."""

    to: Address


@dataclass(frozen=True, slots=True)
class StartStreamPing:
    """Ping over TCP; the answer, if one comes before `deadline_at`, goes to `Core.stream_acked`."""

    to: Address
    ping: Ping
    deadline_at: float


@dataclass(frozen=True, slots=True)
class Notify:
    event: MemberEvent | UserMessage


@dataclass(frozen=True, slots=True)
class BroadcastFinished:
    """The broadcast of the command that returned this token was sent often enough."""

    token: int


@dataclass(frozen=True, slots=True)
class PingAnswered:
    """The ping of `Core.ping` that has this number was answered after `rtt` seconds."""

    seq_no: int
    rtt: float


Effect: TypeAlias = SendPacket | StartPushPull | StartStreamPing | Notify | BroadcastFinished | PingAnswered
