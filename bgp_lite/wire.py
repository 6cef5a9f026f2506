"""Octets to messages and back (RFC 4271 §4 and §6, RFC 4760, RFC 7606, RFC 8654).

`Framer` cuts a stream into frames; `decode` turns one frame into a message.  Both raise PeerError with the
NOTIFICATION that answers the mistake, and nothing else, whatever the octets.
"""

from __future__ import annotations

import struct
from typing import Final

from bgp_lite import capabilities
from bgp_lite.attributes import EXTENDED_LENGTH, OPTIONAL, Attribute, encode_raw
from bgp_lite.errors import Code, PeerError
from bgp_lite.messages import Keepalive, Message, Notification, Open, RawAttribute, RouteRefresh, Type, Update
from bgp_lite.prefix import UNICAST, Family, Prefix, decode_prefixes

MARKER: Final = b"\xff" * 16
HEADER: Final = 19
MAX_MESSAGE: Final = 4096
MAX_EXTENDED: Final = 65535
"""When both sides sent capability 6 (RFC 8654); OPEN and KEEPALIVE stay within `MAX_MESSAGE`."""

_LEAST: Final = {
    Type.OPEN: 29,
    Type.UPDATE: 23,
    Type.NOTIFICATION: 21,
    Type.KEEPALIVE: 19,
    Type.ROUTE_REFRESH: 23,
}
KEEPALIVE: Final = MARKER + struct.pack("!HB", HEADER, Type.KEEPALIVE)


class Framer:
    """Cuts the received stream into frames.  Holds at most one message and what one read brought."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.max_message = MAX_MESSAGE
        """Raise to `MAX_EXTENDED` once capability 6 is negotiated."""

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_frame(self) -> tuple[Type, bytes] | None:
        """Type and body of the next message, or None when more octets are needed.  Raises PeerError 1/x."""
        buffer = self._buffer
        if len(buffer) < HEADER:
            # A wrong marker shows before the header is whole: somebody speaks another protocol to us.
            if buffer and not MARKER.startswith(buffer[:16]):
                raise PeerError(Code.HEADER, 1, "connection not synchronised: wrong marker")
            return None
        if buffer[:16] != MARKER:
            raise PeerError(Code.HEADER, 1, "connection not synchronised: wrong marker")
        length, kind = struct.unpack_from("!HB", buffer, 16)
        try:
            message_type = Type(kind)
        except ValueError:
            raise PeerError(Code.HEADER, 3, f"message type {kind}", bytes((kind,))) from None
        most = MAX_MESSAGE if message_type in (Type.OPEN, Type.KEEPALIVE) else self.max_message
        exact = message_type is Type.KEEPALIVE
        if not _LEAST[message_type] <= length <= most or (exact and length != HEADER):
            raise PeerError(
                Code.HEADER, 2, f"{message_type.name} of {length} octets", struct.pack("!H", length)
            )
        if len(buffer) < length:
            return None
        body = bytes(buffer[HEADER:length])
        del buffer[:length]
        return message_type, body


def decode(kind: Type, body: bytes) -> Message:
    """The message of a frame.  Raises PeerError."""
    match kind:
        case Type.OPEN:
            return _decode_open(body)
        case Type.UPDATE:
            return decode_update(body)
        case Type.NOTIFICATION:
            return Notification(body[0], body[1], body[2:])
        case Type.KEEPALIVE:
            return Keepalive()
        case Type.ROUTE_REFRESH:
            afi, subtype, safi = struct.unpack_from("!HBB", body)
            return RouteRefresh(afi, safi, subtype)


def encode(message: Message) -> bytes:
    match message:
        case Open():
            parameters = capabilities.encode(message.capabilities)
            if parameters:
                parameters = bytes((2, len(parameters))) + parameters
            head = struct.pack(
                "!BHHIB", 4, message.asn, message.hold_time, message.router_id, len(parameters)
            )
            return _frame(Type.OPEN, head + parameters)
        case Update():
            return _frame(Type.UPDATE, _encode_update(message))
        case Notification(code, subcode, data):
            return _frame(Type.NOTIFICATION, bytes((code, subcode)) + data)
        case Keepalive():
            return KEEPALIVE
        case RouteRefresh(afi, safi, subtype):
            return _frame(Type.ROUTE_REFRESH, struct.pack("!HBB", afi, subtype, safi))


def frame_update(body: bytes) -> bytes:
    return _frame(Type.UPDATE, body)


def _frame(kind: Type, body: bytes) -> bytes:
    return MARKER + struct.pack("!HB", HEADER + len(body), kind) + body


def _decode_open(body: bytes) -> Open:
    version, asn, hold_time, router_id, length = struct.unpack_from("!BHHIB", body)
    if version != 4:
        raise PeerError(Code.OPEN, 1, f"BGP version {version}", struct.pack("!H", 4))
    parameters = body[10:]
    # RFC 9072 §2: with the extended form the one-octet length is not to be believed.
    if not (length == 255 and parameters[:1] == b"\xff") and len(parameters) != length:
        raise PeerError(Code.OPEN, 0, f"optional parameters of {len(parameters)} octets, {length} announced")
    if hold_time in (1, 2):
        raise PeerError(Code.OPEN, 6, f"hold time {hold_time} s")
    if router_id == 0:
        raise PeerError(Code.OPEN, 3, "BGP identifier 0")
    return Open(asn, hold_time, router_id, capabilities.decode(parameters))


def split_update(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Withdrawn routes, path attributes and NLRI of an UPDATE, undecoded.

    All an announcer needs of a full table: that the lengths fit.  Raises PeerError 3/1.
    """
    (withdrawn,) = struct.unpack_from("!H", body)
    if 4 + withdrawn > len(body):
        raise PeerError(Code.UPDATE, 1, "withdrawn routes longer than the message")
    (attributes,) = struct.unpack_from("!H", body, 2 + withdrawn)
    start = 4 + withdrawn
    if start + attributes > len(body):
        raise PeerError(Code.UPDATE, 1, "path attributes longer than the message")
    return body[2 : 2 + withdrawn], body[start : start + attributes], body[start + attributes :]


def decode_update(body: bytes) -> Update:
    """An UPDATE taken apart, multiprotocol attributes folded in.  Raises PeerError 3/x."""
    withdrawn_field, attributes_field, nlri_field = split_update(body)
    withdrawn = decode_prefixes(withdrawn_field, Family.IPV4)
    announced = decode_prefixes(nlri_field, Family.IPV4)
    attributes: list[RawAttribute] = []
    next_hop = b""
    end_of_rib = Family.IPV4 if not (withdrawn_field or attributes_field or nlri_field) else None
    for attribute in _raw_attributes(attributes_field):
        match attribute.type:
            case Attribute.MP_REACH:
                family, next_hop, nlri = _decode_reach(attribute.value)
                if family is not None:
                    announced += decode_prefixes(nlri, family)
            case Attribute.MP_UNREACH:
                family, nlri = _decode_unreach(attribute.value)
                if family is not None:
                    withdrawn += decode_prefixes(nlri, family)
                    alone = len(attributes_field) <= 7 and not (withdrawn_field or nlri_field)
                    end_of_rib = family if alone and not nlri else end_of_rib
            case _:
                attributes.append(attribute)
    return Update(tuple(withdrawn), tuple(attributes), tuple(announced), next_hop, end_of_rib)


def _raw_attributes(data: bytes) -> list[RawAttribute]:
    attributes: list[RawAttribute] = []
    at = 0
    while at < len(data):
        wide = 2 if data[at] & EXTENDED_LENGTH else 1
        start = at + 2 + wide
        length = int.from_bytes(data[at + 2 : start], "big")
        if start > len(data) or start + length > len(data):
            raise PeerError(Code.UPDATE, 1, "path attribute cut short")
        attributes.append(
            RawAttribute(data[at] & ~EXTENDED_LENGTH, data[at + 1], data[start : start + length])
        )
        at = start + length
    return attributes


def _family(value: bytes) -> Family | None:
    if len(value) < 3:
        raise PeerError(Code.UPDATE, 9, "multiprotocol attribute cut short")
    afi, safi = struct.unpack_from("!HB", value)
    return Family(afi) if safi == UNICAST and afi in set(Family) else None


def _decode_reach(value: bytes) -> tuple[Family | None, bytes, bytes]:
    family = _family(value)
    if len(value) < 5 or 5 + value[3] > len(value):
        raise PeerError(Code.UPDATE, 9, "MP_REACH_NLRI cut short")
    return family, value[4 : 4 + value[3]], value[5 + value[3] :]


def _decode_unreach(value: bytes) -> tuple[Family | None, bytes]:
    return _family(value), value[3:]


def reach(family: Family, next_hop: bytes, nlri: bytes) -> RawAttribute:
    """MP_REACH_NLRI (RFC 4760 §3)."""
    head = struct.pack("!HBB", family, UNICAST, len(next_hop))
    return RawAttribute(OPTIONAL, Attribute.MP_REACH, head + next_hop + b"\0" + nlri)


def unreach(family: Family, nlri: bytes) -> RawAttribute:
    """MP_UNREACH_NLRI (RFC 4760 §4); without NLRI and alone in a message, the end-of-RIB of a family."""
    return RawAttribute(OPTIONAL, Attribute.MP_UNREACH, struct.pack("!HB", family, UNICAST) + nlri)


def _encode_update(update: Update) -> bytes:
    def nlri(prefixes: tuple[Prefix, ...], family: Family) -> bytes:
        return b"".join(prefix.nlri for prefix in prefixes if prefix.family is family)

    # IPv4 with an IPv6 next hop goes into MP_REACH too (RFC 8950).
    classic = len(update.next_hop) in (0, 4)
    multi = b""
    for family in Family:
        new, gone = nlri(update.announced, family), nlri(update.withdrawn, family)
        if new and (family is Family.IPV6 or not classic):
            multi += encode_raw(reach(family, update.next_hop, new))
        if family is Family.IPV6 and (gone or update.end_of_rib is family):
            multi += encode_raw(unreach(family, gone))
    withdrawn = nlri(update.withdrawn, Family.IPV4)
    attributes = multi + b"".join(encode_raw(each) for each in update.attributes)
    announced = nlri(update.announced, Family.IPV4) if classic else b""
    return (
        struct.pack("!H", len(withdrawn))
        + withdrawn
        + struct.pack("!H", len(attributes))
        + attributes
        + announced
    )
