"""Which interfaces we announce on, followed from what the kernel tells.

MetalLB's rules: not excluded by name, up, in no bridge, bond or VRF, and it does ARP; ARP where there is
broadcast, NDP where there is an IPv6 link-local address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from speaker.reflex.l2 import netlink
from speaker.reflex.l2.netlink import AddressGone, AddressSeen, DumpDone, LinkGone, LinkSeen, News

_IFF_UP, _IFF_BROADCAST, _IFF_LOOPBACK, _IFF_NOARP, _IFF_LOWER_UP = 0x1, 0x2, 0x8, 0x80, 0x10000
_ARPHRD_ETHER: Final = 1
_IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x08, 0x40


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """An interface that qualifies.  Any difference makes it another link, to be announced on anew."""

    index: int
    name: str
    mac: bytes
    arp: bool
    """It has broadcast."""
    ndp: bool
    """It has an IPv6 link-local address."""
    carrier: bool
    """False: nobody would hear an announcement now."""
    source: bytes = b""
    """An IPv6 link-local address of it, if it has one."""


class Excluded:
    """The names of `announcedInterfacesToExclude`: patterns that match anywhere unless anchored."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises ValueError naming the pattern that is no regular expression."""
        self._patterns: list[re.Pattern[str]] = []
        for pattern in patterns:
            try:
                self._patterns.append(re.compile(pattern))
            except re.error as problem:
                raise ValueError(f"{pattern!r} is not a regular expression: {problem}") from None

    def __contains__(self, name: str) -> bool:
        return any(pattern.search(name) for pattern in self._patterns)


class Table:
    """What the kernel told, and which links follow from it."""

    def __init__(self, excluded: Excluded) -> None:
        self._excluded = excluded
        self._links: dict[int, LinkSeen] = {}
        self._link_locals: dict[int, dict[bytes, int]] = {}
        self._seen: set[tuple[int, bytes]] | None = None

    def handle(self, news: News) -> None:
        match news:
            case LinkSeen(index):
                self._mark(index, b"")
                if news.name in self._excluded:
                    self._links.pop(index, None)  # a rename may exclude it
                else:
                    self._links[index] = news
            case LinkGone(index):
                self._links.pop(index, None)
                self._link_locals.pop(index, None)
            case AddressSeen(index, address, flags) if _is_link_local(address):
                self._mark(index, address)
                self._link_locals.setdefault(index, {})[address] = flags
            case AddressGone(index, address):
                self._link_locals.get(index, {}).pop(address, None)
            case _:
                pass

    def begin_dump(self) -> None:
        """A whole answer follows; what it does not mention is gone."""
        self._seen = set()

    def end_dump(self) -> None:
        seen, self._seen = self._seen or set(), None
        self._links = {index: link for index, link in self._links.items() if (index, b"") in seen}
        self._link_locals = {
            index: {address: flags for address, flags in addresses.items() if (index, address) in seen}
            for index, addresses in self._link_locals.items()
        }

    def _mark(self, index: int, address: bytes) -> None:
        if self._seen is not None:
            self._seen.add((index, address))

    def qualified(self) -> tuple[Link, ...]:
        """Sorted by index."""
        found = (self._qualify(self._links[index]) for index in sorted(self._links))
        return tuple(link for link in found if link is not None)

    def _qualify(self, seen: LinkSeen) -> Link | None:
        if not seen.flags & _IFF_UP or seen.flags & (_IFF_NOARP | _IFF_LOOPBACK) or seen.master:
            return None
        if seen.hardware != _ARPHRD_ETHER or len(seen.mac) != 6 or not any(seen.mac):
            return None
        does_arp = bool(seen.flags & _IFF_BROADCAST)
        source = self._link_local(seen.index)
        if not does_arp and not source:
            return None
        carrier = bool(seen.flags & _IFF_LOWER_UP)
        return Link(seen.index, seen.name, seen.mac, does_arp, bool(source), carrier, source)

    def _link_local(self, index: int) -> bytes:
        """A usable one: duplicate address detection is over, and found none (RFC 4862); or empty."""
        addresses = self._link_locals.get(index, {})
        unusable = _IFA_F_TENTATIVE | _IFA_F_DADFAILED
        return min((address for address, flags in addresses.items() if not flags & unusable), default=b"")


class Follower:
    """Keeps a table true: asks for everything once, then listens; asks again when something was lost."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._sequence = 0
        self._links_asked = self._addresses_asked = 0

    @property
    def synced(self) -> bool:
        """Whether the table is whole; until then, nothing may be concluded from it."""
        return self._sequence > 0 and not self._links_asked and not self._addresses_asked

    def ask(self) -> bytes:
        """The request that starts the table anew."""
        self._table.begin_dump()
        self._links_asked, self._addresses_asked = self._next(), 0
        return netlink.ask_links(self._links_asked)

    def handle(self, datagram: bytes) -> bytes | None:
        """Take in what the kernel says; returns the request to send next.  Raises BadNetlink."""
        request: bytes | None = None
        for news in netlink.decode(datagram):
            match news:
                case DumpDone(sequence, intact) if sequence in (self._links_asked, self._addresses_asked):
                    request = self._done(intact)
                case _:
                    self._table.handle(news)
        return request

    def _done(self, intact: bool) -> bytes | None:
        if not intact:
            return self.ask()
        if self._links_asked:
            self._links_asked, self._addresses_asked = 0, self._next()
            return netlink.ask_addresses(self._addresses_asked)
        self._addresses_asked = 0
        self._table.end_dump()
        return None

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence


def _is_link_local(address: bytes) -> bool:
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80
