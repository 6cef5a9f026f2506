"""What the package raises on purpose: your mistake, or the peer's with the NOTIFICATION that answers it."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """NOTIFICATION error codes (RFC 4271 §4.5, RFC 7313, RFC 9687)."""

    HEADER = 1
    OPEN = 2
    UPDATE = 3
    HOLD_TIMER = 4
    FSM = 5
    CEASE = 6
    ROUTE_REFRESH = 7
    SEND_HOLD_TIMER = 8


class Cease(IntEnum):
    """Subcodes of CEASE (RFC 4486, RFC 8538, RFC 9384)."""

    MAX_PREFIXES = 1
    ADMIN_SHUTDOWN = 2
    DECONFIGURED = 3
    ADMIN_RESET = 4
    REJECTED = 5
    CONFIG_CHANGE = 6
    COLLISION = 7
    OUT_OF_RESOURCES = 8
    HARD_RESET = 9
    BFD_DOWN = 10


class BgpError(Exception):
    """Base of everything this package raises on purpose."""


class UsageError(BgpError):
    """You asked for something impossible.  Nothing was sent; the session lives."""


class PeerError(BgpError):
    """The peer broke a rule.  Send NOTIFICATION `code`/`subcode` with `data`, then close (RFC 4271 §6)."""

    def __init__(self, code: Code, subcode: int, why: str, data: bytes = b"") -> None:
        super().__init__(why)
        self.code, self.subcode, self.data = code, subcode, data
