"""What we say to one frame: a reply, or the reason why not.  Pure, and hot.

The rules are MetalLB's, in its order, plus unicast neighbour solicitations (how a neighbour checks that we
are still there, RFC 4861 section 7.3), which need no source link-layer option since the frame itself says
who asked, and duplicate address detection of an address that is ours, which is defended.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

from speaker.reflex.l2 import arp, ndp
from speaker.reflex.l2.ethernet import BROADCAST, BadFrame, is_group


class Drop(Enum):
    """Why a frame got no answer."""

    MALFORMED = "not a well-formed ARP or neighbour message"
    OWN = "sent by one of our own interfaces"
    ARP_REPLY = "an ARP reply asks for nothing"
    MESSAGE_TYPE = "an advertisement asks for nothing"
    ETHERNET_DESTINATION = "sent to another station"
    NO_SOURCE_LL = "a solicitation that does not say where to answer"
    ANNOUNCE_IP = "not an address we answer for"
    NOT_MATCH_INTERFACE = "an address we answer for on other interfaces only"


class Reply(NamedTuple):
    address: bytes
    frame: bytes


class Kind(Enum):
    """What another station did with a watched address."""

    ANNOUNCED = "told everybody that it has it: a gratuitous ARP or an unsolicited advertisement"
    ANSWERED = "told us that it has it"
    PROBED = "asked, as we are asking, whether anybody has it"


class Heard(NamedTuple):
    """Somebody else has to do with a watched address."""

    address: bytes
    mac: bytes
    reply: bytes | None
    """A gratuitous ARP request is a request too, and so answered while the address is ours."""
    kind: Kind = Kind.ANNOUNCED


Outcome: TypeAlias = Reply | Heard | Drop


@dataclass(slots=True)
class Station:
    """One interface as the frames meet it.  Its tables are replaced when orders or links change."""

    mac: bytes
    arp: Mapping[bytes, bytes] = field(default_factory=dict)
    """IPv4 address we answer for here: the prebuilt middle of its reply."""
    ndp: Mapping[bytes, ndp.Template] = field(default_factory=dict)
    """IPv6 address we answer for here: the prebuilt advertisement."""
    answered: AbstractSet[bytes] = frozenset()
    """Addresses we answer for on any interface."""
    watched: AbstractSet[bytes] = frozenset()
    """Addresses whose announcements by others matter."""
    probed: AbstractSet[bytes] = frozenset()
    """Addresses we are asking for before we answer for them."""
    own_macs: AbstractSet[bytes] = frozenset()
    """Of every interface here; two may be on the same wire."""

    def _refusal(self, address: bytes) -> Drop:
        return Drop.NOT_MATCH_INTERFACE if address in self.answered else Drop.ANNOUNCE_IP


def respond_arp(frame: bytes, station: Station) -> Outcome:
    try:
        asked = arp.decode(frame)
    except BadFrame:
        return Drop.MALFORMED
    address = asked.target_ip
    if asked.sender_ip == address and address in station.watched:
        if asked.sender_mac in station.own_macs:
            return Drop.OWN
        answer = _arp_answer(asked, station)
        return Heard(address, asked.sender_mac, answer if isinstance(answer, bytes) else None)
    if asked.operation == arp.Operation.REPLY and asked.sender_ip in station.watched:
        # told to us alone, yet a claim all the same (RFC 5227 section 2.4)
        claimed = asked.sender_mac not in station.own_macs
        return Heard(asked.sender_ip, asked.sender_mac, None, Kind.ANSWERED) if claimed else Drop.OWN
    answer = _arp_answer(asked, station)
    if isinstance(answer, bytes):
        return Reply(address, answer)
    if address in station.probed and asked.operation == arp.Operation.REQUEST and not any(asked.sender_ip):
        # RFC 5227 section 2.1.1: two that probe for the same address at the same time
        own = asked.sender_mac in station.own_macs
        return Drop.OWN if own else Heard(address, asked.sender_mac, None, Kind.PROBED)
    return answer


def _arp_answer(asked: arp.Arp, station: Station) -> bytes | Drop:
    if asked.operation != arp.Operation.REQUEST:
        return Drop.ARP_REPLY
    if asked.ether_destination not in (BROADCAST, station.mac):
        return Drop.ETHERNET_DESTINATION
    middle = station.arp.get(asked.target_ip)
    if middle is None:
        return station._refusal(asked.target_ip)
    return arp.reply(middle, asked.sender_mac, asked.sender_ip)


def respond_ndp(frame: bytes, station: Station) -> Outcome:
    try:
        asked = ndp.decode(frame)
    except BadFrame:
        return Drop.MALFORMED
    if asked.ether_source in station.own_macs:
        return Drop.OWN
    to_group = is_group(asked.ether_destination)
    if isinstance(asked, ndp.Advertisement):
        if asked.target not in station.watched or not (to_group or asked.ether_destination == station.mac):
            return Drop.MESSAGE_TYPE
        mac = asked.target_link_layer or asked.ether_source
        kind = Kind.ANNOUNCED if to_group else Kind.ANSWERED
        return Drop.OWN if mac in station.own_macs else Heard(asked.target, mac, None, kind)
    if not to_group and asked.ether_destination != station.mac:
        return Drop.ETHERNET_DESTINATION
    where = asked.source_link_layer
    if where is None and not to_group and any(asked.source):
        where = asked.ether_source
    if where is None:
        if not any(asked.source) and asked.target in station.ndp:
            # somebody is about to give our address to itself (RFC 4862 section 5.4.4): told to all, unasked,
            # for who asks has no address yet (RFC 4861 section 7.2.4)
            return Reply(asked.target, ndp.unsolicited(station.mac, asked.target))
        if not any(asked.source) and asked.target in station.probed:  # RFC 4862 section 5.4.3
            return Heard(asked.target, asked.ether_source, None, Kind.PROBED)
        return Drop.NO_SOURCE_LL
    made = station.ndp.get(asked.target)
    if made is None:
        return station._refusal(asked.target)
    return Reply(asked.target, ndp.advertise(made, where, asked.source))
