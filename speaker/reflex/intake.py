"""Standing orders on their way in: read, checked and compared a few at a time, so that ten thousand of them
hold nobody up.

An entry whose octets are those of the last time is the same entry: it needs no reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from speaker.orders import BadOrder, SealedOrders, Vip, unseal
from speaker.reflex.effects import Interfaces
from speaker.reflex.l2.bpf import block
from speaker.reflex.l2.core import pack

SLICE: Final = 32
MAX_CANDIDATES: Final = 16384
MAX_NAME: Final = 255


@dataclass(slots=True)
class Reading:
    """What the orders come to."""

    entries: dict[str, tuple[Vip, ...]] = field(default_factory=dict)
    """By address."""
    texts: dict[bytes, str] = field(default_factory=dict)
    """Address by its octets."""
    blocks: dict[int, set[int]] = field(default_factory=dict)
    """`bpf.block`s of the addresses, by their length in octets."""
    restrictions: dict[int, Interfaces] = field(default_factory=dict)
    """The interfaces here for each restriction under which this node is a candidate."""
    known: dict[bytes, tuple[Vip, bytes]] = field(default_factory=dict)
    """Entries and the octets of their addresses, by their encoding."""


class Intake:
    def __init__(self, node: str) -> None:
        self._node = node
        self._known: dict[bytes, tuple[Vip, bytes]] = {}

    def read(self, orders: SealedOrders, reading: Reading) -> Iterator[None]:
        """`reading` is filled when this ends; at each step others may have a turn.  Raises BadOrder."""
        for number, sealed in enumerate(orders.vips, 1):
            self._read(sealed, reading)
            if number % SLICE == 0:
                yield
        self._known = reading.known

    def _read(self, sealed: msgspec.Raw, reading: Reading) -> None:
        octets = bytes(sealed)
        known = self._known.get(octets) or _checked(unseal(sealed))
        reading.known[octets] = known
        vip, address = known
        if reading.texts.setdefault(address, vip.address) != vip.address:
            raise BadOrder(f"vips: {vip.address!r} and {reading.texts[address]!r} are the same address")
        reading.blocks.setdefault(len(address), set()).add(block(address))
        before = reading.entries.get(vip.address)
        reading.entries[vip.address] = (vip,) if before is None else (*before, vip)
        if vip.restriction not in reading.restrictions and self._node in vip.candidates:
            names = vip.interfaces
            reading.restrictions[vip.restriction] = None if names is None else frozenset(names)


def _checked(vip: Vip) -> tuple[Vip, bytes]:
    """The entry, if it makes sense to us.  Raises BadOrder."""
    try:
        address = pack(vip.address)
    except ValueError:
        raise BadOrder(f"vips: {vip.address!r} is not an IP address") from None
    if len(vip.candidates) > MAX_CANDIDATES:
        raise BadOrder(f"{vip.address}: {len(vip.candidates)} candidates")
    for name in (*vip.candidates, *(vip.interfaces or ())):
        if not 0 < len(name) <= MAX_NAME:
            raise BadOrder(f"{vip.address}: a name of {len(name)} characters")
    return vip, address
