"""Whose hardware address this is: another speaker's, or a stranger's.

Crier's speakers tell theirs in gossip.  Of the others the kernel's ARP table knows it, as long as they gossip
with us on the same network; where it does not, nobody may be called a stranger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from speaker.reflex.l2.ethernet import render_mac

ARP_TABLE: Final = Path("/proc/net/arp")
MAX_TABLE: Final = 1 << 20
"""Octets."""
KEEP: Final = 1.0
"""Seconds a reading is good for: a flood of strangers must not make us read without end."""

MAX_REMEMBERED: Final = 4096
"""Addresses of speakers, present and past."""

_MIN_COLUMNS: Final = 4


@dataclass(frozen=True, slots=True)
class Peer:
    """A member other than ourselves."""

    name: str
    address: str
    macs: tuple[bytes, ...]
    """Empty for speakers that do not tell."""
    gone: bool = False
    """It left: what is known of it helps, what is not known of it makes nobody else less of a stranger."""


@dataclass(slots=True)
class Peers:
    table: Path = ARP_TABLE
    _names: Mapping[bytes, str] = field(default_factory=dict)
    _macs: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    """By address; gossip forgets the dead sooner than we do."""
    _told: frozenset[str] = frozenset()
    _silent: tuple[Peer, ...] = ()
    _resolved: Mapping[bytes, str] = field(default_factory=dict)
    _all_resolved: bool = False
    _read_at: float = -float("inf")

    def update(self, peers: Iterable[Peer]) -> None:
        known = tuple(peers)
        self._names = {mac: peer.name for peer in known for mac in peer.macs}
        self._macs.update((peer.address, peer.macs) for peer in known if peer.macs)
        while len(self._macs) > MAX_REMEMBERED:
            del self._macs[next(iter(self._macs))]
        self._told = frozenset(map(render_mac, self._names))
        self._silent = tuple(peer for peer in known if not peer.macs)
        self._read_at = -float("inf")

    def macs(self, address: str) -> tuple[bytes, ...]:
        """The hardware addresses that a speaker at this address told last."""
        return self._macs.get(address, ())

    def is_speaker(self, mac: str) -> bool:
        """Whether one of them told this hardware address in gossip."""
        return mac in self._told

    def who(self, mac: bytes, now: float) -> str | None:
        """The speaker's name; "" for a stranger, None when that cannot be told."""
        name = self._names.get(mac)
        if name is not None or not self._silent:
            return name or ""
        if now - self._read_at >= KEEP:
            self._resolve()
            self._read_at = now
        return self._resolved.get(mac) or ("" if self._all_resolved else None)

    def _resolve(self) -> None:
        try:
            with self.table.open("rb") as opened:
                found = arp_table(opened.read(MAX_TABLE).decode("ascii", "replace"))
        except OSError:
            found = {}
        known = [(found.get(peer.address), peer) for peer in self._silent]
        self._resolved = {bytes.fromhex(mac.replace(":", "")): peer.name for mac, peer in known if mac}
        self._all_resolved = all(mac for mac, peer in known if not peer.gone)


def arp_table(text: str) -> dict[str, str]:
    """Hardware addresses by IPv4 address, of the neighbours that answered (proc(5), `/proc/net/arp`)."""
    found: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) < _MIN_COLUMNS or len(columns[3]) != len(render_mac(bytes(6))):
            continue
        try:
            mac = bytes.fromhex(columns[3].replace(":", ""))
        except ValueError:
            continue
        if any(mac):
            found[columns[0]] = render_mac(mac)
    return found
