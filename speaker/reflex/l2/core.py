"""Layer 2 as a whole: which links are used, what is answered on each, what is announced when.  A core.

Something is *served* when we answer for an address on a link.  Whenever such a pair is new (the address was
gained, the interface appeared, its hardware address changed, its carrier came back) it is announced; when it
only goes on, it is not.  That is the whole rule.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from speaker.reflex.l2 import arp, ndp
from speaker.reflex.l2.gratuitous import ROUNDS, Schedule
from speaker.reflex.l2.links import Link
from speaker.reflex.l2.respond import Station

Interfaces: TypeAlias = frozenset[str] | None

_IPV4: Final = 4


@dataclass(frozen=True, slots=True)
class Open:
    """Listen on the link; again, if it was open with other properties."""

    link: Link


@dataclass(frozen=True, slots=True)
class Close:
    link: Link


@dataclass(frozen=True, slots=True)
class JoinGroup:
    index: int
    group: bytes


@dataclass(frozen=True, slots=True)
class LeaveGroup:
    index: int
    group: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Announcement frames, all of one address on one link."""

    link: Link
    address: bytes
    frames: tuple[bytes, ...]


Effect: TypeAlias = Open | Close | JoinGroup | LeaveGroup


@dataclass(slots=True)
class Counters:
    """Of one address, since it first came up."""

    requests_received: int = 0
    responses_sent: int = 0
    gratuitous_sent: int = 0


@dataclass(slots=True)
class _Port:
    """One link in use."""

    link: Link
    station: Station
    arp: dict[bytes, bytes] = field(default_factory=dict)
    ndp: dict[bytes, ndp.Template] = field(default_factory=dict)
    groups: dict[bytes, set[bytes]] = field(default_factory=dict)
    """Solicited-node group: the addresses that need it."""


class L2:
    """Addresses are octets here; `pack` makes them."""

    def __init__(self) -> None:
        self._ports: dict[int, _Port] = {}
        self._answered: dict[bytes, Interfaces] = {}
        self._watched: set[bytes] = set()
        self._probed: dict[bytes, Interfaces] = {}
        self._own_macs: set[bytes] = set()
        self._schedule: Schedule[tuple[bytes, int]] = Schedule()
        self.counters: dict[bytes, Counters] = {}

    # --------------------------------------------------------------------------------- what is wanted

    def set_links(self, links: Iterable[Link], now: float) -> list[Effect]:
        """Every link that qualifies now."""
        wanted = {link.index: link for link in links}
        effects: list[Effect] = []
        for index, port in list(self._ports.items()):
            if wanted.get(index) != port.link:
                del self._ports[index]
                for address in (*port.arp, *port.ndp):
                    self._schedule.stop((address, index))
                if index not in wanted:
                    effects.append(Close(port.link))
        for index, link in wanted.items():
            if index not in self._ports:
                port = self._ports[index] = self._new_port(link)
                effects.append(Open(link))
                for address, interfaces in self._answered.items():
                    self._serve(port, address, interfaces, now, effects)
        self._own_macs.clear()
        self._own_macs.update(port.link.mac for port in self._ports.values())
        return effects

    def watch(self, addresses: Iterable[bytes]) -> None:
        """The addresses whose announcements by others are to be reported; all that may ever be answered."""
        wanted = set(addresses)
        self._watched.difference_update(self._watched - wanted)
        self._watched.update(wanted)
        for address in [
            known for known in self.counters if known not in wanted and known not in self._answered
        ]:
            del self.counters[address]

    def answer(self, address: bytes, interfaces: Interfaces, now: float) -> list[Effect]:
        """Answer for it, on links of these names or on all; announce it where that is new."""
        effects: list[Effect] = []
        self._answered[address] = interfaces
        self._probed.pop(address, None)
        self.counters.setdefault(address, Counters())
        for port in self._ports.values():
            self._serve(port, address, interfaces, now, effects)
        return effects

    def silence(self, address: bytes) -> list[Effect]:
        """Answer for it no more, nor listen for who else asks."""
        effects: list[Effect] = []
        self._answered.pop(address, None)
        self._probed.pop(address, None)
        for port in self._ports.values():
            self._unserve(port, address, effects)
        return effects

    def hush(self, address: bytes) -> None:
        """Announce it no more, but go on answering."""
        for index in self._ports:
            self._schedule.stop((address, index))

    def announce(self, address: bytes, rounds: int | None, now: float) -> None:
        """Announce what is served already; None is the usual number of rounds."""
        for index, port in self._ports.items():
            if (address in port.arp or address in port.ndp) and port.link.carrier:
                self._schedule.start((address, index), now, ROUNDS if rounds is None else rounds)

    # ------------------------------------------------------------------------------------- questions

    def probe(self, address: bytes, interfaces: Interfaces) -> tuple[list[Effect], list[Send]]:
        """Ask whether anybody has it, before we answer for it; others who ask the same are heard from now on.

        Its group is joined first (RFC 4862 section 5.4.2).
        """
        self._probed[address] = interfaces
        effects: list[Effect] = []
        sends: list[Send] = []
        for port in self._asking(address, interfaces):
            mac = port.link.mac
            if len(address) == _IPV4:
                sends.append(Send(port.link, address, (arp.probe(mac, address),)))
            else:
                self._join(port, address, effects)
                sends.append(Send(port.link, address, (ndp.probe(mac, address),)))
        return effects, sends

    def question(self, address: bytes, interfaces: Interfaces) -> list[Send]:
        """Ask who has it, to be told by all that believe to; nobody's neighbour table is changed by it."""
        sends: list[Send] = []
        for port in self._asking(address, interfaces):
            link = port.link
            if len(address) == _IPV4:
                sends.append(Send(link, address, (arp.probe(link.mac, address),)))
            elif link.source:
                sends.append(Send(link, address, (ndp.solicit(link.mac, link.source, address),)))
        return sends

    def _asking(self, address: bytes, interfaces: Interfaces) -> Iterable[_Port]:
        for port in self._ports.values():
            link = port.link
            speaks = link.arp if len(address) == _IPV4 else link.ndp
            if speaks and link.carrier and (interfaces is None or link.name in interfaces):
                yield port

    # ------------------------------------------------------------------------------------ what is due

    def next_deadline(self) -> float:
        return self._schedule.next_deadline()

    def due(self, now: float, limit: int) -> list[Send]:
        """Announcements to send now, of at most `limit` pairs; what was gained last goes first."""
        sends: list[Send] = []
        for address, index in self._schedule.due(now, limit):
            link = self._ports[index].link
            if len(address) == _IPV4:
                sends.append(Send(link, address, arp.gratuitous(link.mac, address)))
            else:
                sends.append(Send(link, address, (ndp.unsolicited(link.mac, address),)))
        return sends

    # ---------------------------------------------------------------------------------- what is known

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(port.link for port in self._ports.values())

    def station(self, index: int) -> Station:
        """What the frames of a link are met with; the same object until the link is opened anew."""
        return self._ports[index].station

    def groups(self, index: int) -> AbstractSet[bytes]:
        """Multicast groups the link must be in."""
        return self._ports[index].groups.keys()

    def interfaces(self, address: bytes) -> tuple[str, ...]:
        """Names of the links on which it is answered, sorted."""
        ports = self._ports.values()
        return tuple(sorted(port.link.name for port in ports if address in port.arp or address in port.ndp))

    # ----------------------------------------------------------------------------------------- inside

    def _new_port(self, link: Link) -> _Port:
        # the station sees our tables as they change; it only reads them
        port = _Port(link, Station(link.mac))
        port.station.arp, port.station.ndp = port.arp, port.ndp
        port.station.answered, port.station.watched = self._answered.keys(), self._watched
        port.station.own_macs = self._own_macs
        port.station.probed = self._probed.keys()
        return port

    def _serve(
        self, port: _Port, address: bytes, interfaces: Interfaces, now: float, effects: list[Effect]
    ) -> None:
        link = port.link
        if interfaces is not None and link.name not in interfaces:
            self._unserve(port, address, effects)
            return
        if address in port.arp or address in port.ndp:
            return
        if len(address) == _IPV4:
            if not link.arp:
                return
            port.arp[address] = arp.reply_middle(link.mac, address)
        else:
            if not link.ndp:
                return
            port.ndp[address] = ndp.template(link.mac, address, ndp.SOLICITED)
            self._join(port, address, effects)
        if link.carrier:
            self._schedule.start((address, link.index), now)

    def _unserve(self, port: _Port, address: bytes, effects: list[Effect]) -> None:
        self._schedule.stop((address, port.link.index))
        port.arp.pop(address, None)
        port.ndp.pop(address, None)
        if len(address) != _IPV4:
            self._leave(port, address, effects)

    @staticmethod
    def _join(port: _Port, address: bytes, effects: list[Effect]) -> None:
        group = ndp.solicited_node(address)
        users = port.groups.setdefault(group, set())
        if not users:
            effects.append(JoinGroup(port.link.index, group))
        users.add(address)

    @staticmethod
    def _leave(port: _Port, address: bytes, effects: list[Effect]) -> None:
        group = ndp.solicited_node(address)
        users = port.groups.get(group)
        if users is None or address not in users:
            return
        users.discard(address)
        if not users:
            del port.groups[group]
            effects.append(LeaveGroup(port.link.index, group))


def pack(address: str) -> bytes:
    """Octets of an IP address.  Raises ValueError."""
    # several times as fast as `ipaddress`, and there may be ten thousand in one message
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError, UnicodeEncodeError):
        raise ValueError(f"{address!r} is not an IP address") from None
