"""Indirect pings we carry for others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .config import Address
from .messages import Ack, Nack

MAX_RELAYS: Final = 1024
"""Carried at one time."""
NACK_AFTER: Final = 0.8
"""Of the probe timeout.  Upstream answers nack at the end of it, which is when the asker stops listening, and
then blames itself."""
NEVER: Final = float("inf")


@dataclass(slots=True)
class _Relay:
    seq_no: int
    """The asker's."""
    asker: Address
    nack_at: float
    expires_at: float


class Relays:
    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._relays: dict[int, _Relay] = {}

    def __len__(self) -> int:
        return len(self._relays)

    def carry(self, ours: int, seq_no: int, asker: Address, *, nack: bool, now: float) -> bool:
        """Remember that our ping `ours` is the asker's `seq_no`; False when we carry too many already."""
        if len(self._relays) >= MAX_RELAYS:
            return False
        nack_at = now + NACK_AFTER * self._timeout if nack else NEVER
        self._relays[ours] = _Relay(seq_no, asker, nack_at, now + self._timeout)
        return True

    def acked(self, ours: int) -> tuple[Address, Ack] | None:
        relay = self._relays.pop(ours, None)
        return None if relay is None else (relay.asker, Ack(relay.seq_no))

    def next_deadline(self) -> float:
        return min((min(one.nack_at, one.expires_at) for one in self._relays.values()), default=NEVER)

    def tick(self, now: float) -> list[tuple[Address, Nack]]:
        """Nacks that are due.  An answer that comes between the nack and the end is still passed on."""
        nacks = []
        for ours, relay in tuple(self._relays.items()):
            if now >= relay.nack_at:
                relay.nack_at = NEVER
                nacks.append((relay.asker, Nack(relay.seq_no)))
            if now >= relay.expires_at:
                del self._relays[ours]
        return nacks
