"""One member as the table keeps it, and the addresses it is known by."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import Final

from .config import Address
from .events import Node
from .messages import Alive, PushNodeState, State
from .suspicion import Suspicion

MAPPED: Final = bytes(10) + b"\xff\xff"
"""What an IPv4 address mapped into IPv6 begins with."""


def address_text(addr: bytes) -> str:
    """Four octets, or sixteen, as text.  IPv4 mapped into IPv6 reads as IPv4.  Raises ValueError."""
    if len(addr) not in (4, 16):
        raise ValueError(f"an address of {len(addr)} octets")
    if len(addr) == 4:
        return socket.inet_ntop(socket.AF_INET, addr)
    if addr.startswith(MAPPED):
        return socket.inet_ntop(socket.AF_INET, addr[12:])
    return socket.inet_ntop(socket.AF_INET6, addr)


def address_octets(text: str) -> bytes:
    """The form we announce: four octets for IPv4.  Raises ValueError."""
    return ipaddress.ip_address(text).packed


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    name: str
    addr: bytes
    """Octets as received: a Go peer holds the 4 and the 16 octet form of one address for two addresses."""
    port: int
    meta: bytes | None
    vsn: bytes
    incarnation: int
    state: State
    changed_at: float
    suspicion: Suspicion | None = None
    unreachable: bool = False
    """The watchers' verdict; `Node.reachable` joins it with `state`."""
    conflict: tuple[bytes, int, float] = (b"", 0, 0.0)
    """The address and port of the last conflict about the name, and when it was reported."""
    rtt: float = 0.0
    """Seconds a direct probe took, smoothed as in RFC 6298; 0 before the first."""
    news_at: float = -1e18
    """When news was last put into an answer to it."""
    to: Address = field(init=False)

    def __post_init__(self) -> None:
        self.move(self.addr, self.port)

    def move(self, addr: bytes, port: int) -> None:
        self.addr, self.port = addr, port
        self.to = (address_text(addr), port)

    @property
    def gone(self) -> bool:
        return self.state in (State.DEAD, State.LEFT)

    @property
    def reachable(self) -> bool:
        return not self.unreachable and not self.gone

    def sample(self, rtt: float) -> None:
        self.rtt = self.rtt + (rtt - self.rtt) / 8 if self.rtt else rtt

    def speaks(self, version: int) -> bool:
        """Whether it announced to understand this protocol version: 3 TCP pings, 4 nacks, 5 checksums."""
        return len(self.vsn) > 1 and self.vsn[1] >= version

    def node(self) -> Node:
        return Node(
            name=self.name,
            address=self.to[0],
            port=self.port,
            state=self.state,
            reachable=self.reachable,
            incarnation=self.incarnation,
            meta=self.meta,
            changed_at=self.changed_at,
        )

    def alive(self, incarnation: int | None = None) -> Alive:
        return Alive(
            incarnation=self.incarnation if incarnation is None else incarnation,
            node=self.name,
            addr=self.addr,
            port=self.port,
            meta=self.meta,
            vsn=self.vsn,
        )

    def push_state(self) -> PushNodeState:
        return PushNodeState(
            name=self.name,
            addr=self.addr,
            port=self.port,
            incarnation=self.incarnation,
            state=int(self.state),
            meta=self.meta,
            vsn=self.vsn,
        )


def remote_node(state: PushNodeState) -> Node:
    """A member as somebody's list has it."""
    known = state.state in tuple(State)
    return Node(
        name=state.name,
        address=address_text(state.addr),
        port=state.port,
        state=State(state.state) if known else State.DEAD,
        reachable=known and state.state in (State.ALIVE, State.SUSPECT),
        incarnation=state.incarnation,
        meta=state.meta,
        changed_at=0.0,
    )
