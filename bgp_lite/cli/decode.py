"""`decode`: what messages say, from hex lines or a capture."""

from __future__ import annotations

import argparse
import json
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO, Final

from bgp_lite.attributes import WELL_KNOWN, Attribute
from bgp_lite.core import describe
from bgp_lite.errors import PeerError
from bgp_lite.messages import Keepalive, Message, Notification, Open, RawAttribute, RouteRefresh, Update
from bgp_lite.wire import MAX_EXTENDED, Framer, decode

BGP_PORT: Final = 179
_CAPTURES: Final = frozenset(map(bytes.fromhex, ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "0a0d0d0a")))
"""The first octets of pcap, of either order and either unit of time, and of pcapng."""
_HEAD: Final = 64
_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF \t")
_NAMES: Final = {value: name for name, value in WELL_KNOWN.items()}
_ORIGIN: Final = ("IGP", "EGP", "INCOMPLETE")


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "decode",
        help="show messages from hex or a capture",
        description="A line of hex is whole messages; a capture is read per TCP stream.",
    )
    parser.add_argument(
        "input",
        nargs="?",
        metavar="FILE|HEX",
        help="a capture (pcap or pcapng, needs scapy), a file with lines of hex, or hex; stdin otherwise",
    )
    parser.add_argument("--port", type=int, default=BGP_PORT, help="of BGP in the capture (179)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    given: str | None = arguments.input
    try:
        if given is None or given == "-":
            _read(sys.stdin.buffer, arguments)
        elif _is_hex(given) and not Path(given).exists():
            _show(_from_hex(given), arguments.json)
        else:
            with Path(given).open("rb") as file:
                _read(file, arguments, named=True)
    except (OSError, ImportError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) and problem.strerror else problem
        print(f"decode: {given or 'stdin'}: {why}", file=sys.stderr)
        return 1
    return 0


def _read(file: BinaryIO, arguments: argparse.Namespace, *, named: bool = False) -> None:
    """A capture, or lines of hex.  Raises ValueError for what is neither; stdin is told line by line."""
    head = file.peek(_HEAD)  # type: ignore[attr-defined]  # both kinds of files here are buffered
    if head[:4] in _CAPTURES:
        for flow, data in _streams(file, arguments.port):
            _show(({"flow": flow, **each} for each in messages(data)), arguments.json)
        return
    if named and not _is_hex(head[:_HEAD].decode("ascii", "replace").partition("\n")[0]):
        raise ValueError("neither a capture nor lines of hex")
    for line in file:
        if text := "".join(line.decode("ascii", "replace").split()):
            _show(_from_hex(text), arguments.json)


def _is_hex(text: str) -> bool:
    return set(text.strip()) <= _HEX_DIGITS and bool(text.strip())


def _show(described: Iterator[dict[str, Any]], as_json: bool) -> None:
    for each in described:
        if as_json:
            print(json.dumps(each))
        else:
            head = each.pop("error", None) or each.pop("type")
            print(head, "  ".join(f"{name}={value}" for name, value in each.items()))


def _from_hex(text: str) -> Iterator[dict[str, Any]]:
    try:
        data = bytes.fromhex(text)
    except ValueError as problem:
        yield {"error": f"not hex: {problem}"}
        return
    yield from messages(data)


def messages(data: bytes) -> Iterator[dict[str, Any]]:
    """Each message of a stream described; the last item says what was wrong or left over, if anything."""
    framer = Framer()
    framer.max_message = MAX_EXTENDED
    framer.feed(data)
    used = 0
    try:
        while (frame := framer.next_frame()) is not None:
            used += 19 + len(frame[1])
            yield explain(decode(*frame))
    except PeerError as problem:
        yield {"error": str(problem), "notification": f"{int(problem.code)}/{problem.subcode}"}
        return
    if used < len(data):
        yield {"error": f"{len(data) - used} octets of an unfinished message"}


def explain(message: Message) -> dict[str, Any]:
    match message:
        case Open():
            can = message.capabilities
            restart = can.graceful_restart
            return {
                "type": "open",
                "as": message.real_asn,
                "hold_time": message.hold_time,
                "router_id": str(ip_address(message.router_id.to_bytes(4, "big"))),
                "families": [family.name.lower() for family in sorted(can.families)],
                "route_refresh": can.route_refresh,
                "extended_message": can.extended_message,
                "extended_next_hop": can.extended_next_hop,
                "graceful_restart": restart.restart_time if restart else None,
                "restarting": bool(restart and restart.restarting),
                "hostname": can.hostname,
            }
        case Update():
            described: dict[str, Any] = {"type": "update"}
            if message.end_of_rib is not None:
                described["end_of_rib"] = message.end_of_rib.name.lower()
            if message.withdrawn:
                described["withdrawn"] = [str(prefix) for prefix in message.withdrawn]
            if message.announced:
                described["announced"] = [str(prefix) for prefix in message.announced]
            if message.next_hop:
                hops = [message.next_hop[at : at + 16] for at in range(0, len(message.next_hop), 16)]
                described["next_hop"] = [_address(hop) for hop in hops]
            for attribute in message.attributes:
                described.update(_attribute(attribute))
            return described
        case Notification():
            return {
                "type": "notification",
                "code": message.code,
                "subcode": message.subcode,
                "meaning": describe(message),
                "data": message.data.hex(),
            }
        case Keepalive():
            return {"type": "keepalive"}
        case RouteRefresh():
            return {
                "type": "route_refresh",
                "afi": message.afi,
                "safi": message.safi,
                "subtype": message.subtype,
            }


def _attribute(attribute: RawAttribute) -> dict[str, Any]:
    value = attribute.value
    match attribute.type:
        case Attribute.ORIGIN if value and value[0] < len(_ORIGIN):
            return {"origin": _ORIGIN[value[0]]}
        case Attribute.AS_PATH | Attribute.AS4_PATH:
            name = "as_path" if attribute.type == Attribute.AS_PATH else "as4_path"
            return {name: _as_path(value, wide=attribute.type == Attribute.AS4_PATH)}
        case Attribute.NEXT_HOP if len(value) == 4:
            return {"next_hop": [_address(value)]}
        case Attribute.LOCAL_PREF if len(value) == 4:
            return {"local_pref": int.from_bytes(value, "big")}
        case Attribute.COMMUNITIES if len(value) % 4 == 0:
            each = struct.unpack(f"!{len(value) // 4}I", value)
            return {"communities": [_NAMES.get(one, f"{one >> 16}:{one & 0xFFFF}") for one in each]}
        case Attribute.LARGE_COMMUNITIES if len(value) % 12 == 0:
            triples = struct.iter_unpack("!III", value)
            return {"large_communities": [":".join(map(str, triple)) for triple in triples]}
        case kind:
            return {f"attribute_{kind}": value.hex()}


def _as_path(value: bytes, *, wide: bool) -> list[int] | str:
    """Whether AS numbers have two or four octets was agreed in OPENs we may not have seen: what fits, is."""
    for size in (4,) if wide else (4, 2):
        path: list[int] = []
        at = 0
        while at + 2 <= len(value):
            end = at + 2 + value[at + 1] * size
            path += (int.from_bytes(value[i : i + size], "big") for i in range(at + 2, end, size))
            at = end
        if at == len(value):
            return path
    return value.hex()


def _address(octets: bytes) -> str:
    return str(ip_address(octets)) if len(octets) in (4, 16) else octets.hex()


def _streams(file: BinaryIO, port: int) -> Iterator[tuple[str, bytes]]:
    """Octets of each direction of each TCP connection, in order and without repetition."""
    from scapy.error import Scapy_Exception
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.utils import rdpcap

    segments: dict[str, dict[int, bytes]] = {}
    try:
        packets = rdpcap(file)
    except (Scapy_Exception, EOFError) as problem:
        raise ValueError(problem) from None
    for packet in packets:
        if TCP not in packet or port not in (packet[TCP].sport, packet[TCP].dport):
            continue
        layer = packet[IP] if IP in packet else packet[IPv6]
        tcp = packet[TCP]
        payload = bytes(tcp.payload)[: _payload_length(layer, tcp)]
        if payload:
            flow = f"{layer.src}:{tcp.sport} > {layer.dst}:{tcp.dport}"
            known = segments.setdefault(flow, {})
            if len(payload) > len(known.get(tcp.seq, b"")):
                known[tcp.seq] = payload
    for flow, pieces in segments.items():
        first = min(pieces)
        data = bytearray()
        for seq in sorted(pieces):
            at = seq - first
            if at > len(data):
                break  # a gap: what follows cannot be placed
            data[at:] = pieces[seq] if at + len(pieces[seq]) > len(data) else data[at:]
        yield flow, bytes(data)


def _payload_length(layer: Any, tcp: Any) -> int:
    """Without the padding of short Ethernet frames."""
    header = tcp.dataofs * 4
    return int(layer.len - layer.ihl * 4 - header if layer.version == 4 else layer.plen - header)
