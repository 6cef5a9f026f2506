"""`python -m memberlist decode`: what was said, from captured packets or streams."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from memberlist.cli import keys, pcap
from memberlist.cli.describe import Description, describe, render
from memberlist.errors import ConfigError, DecodeError, MemberlistError
from memberlist.keyring import TAG_SIZE, Keyring, overhead
from memberlist.layout import measure
from memberlist.messages import MessageType
from memberlist.packet import Wire, split_label
from memberlist.stream import Reader

EPILOG: Final = """\
Without FILE, packets (with --stream, TCP streams: all that one side sent) are read from standard input, one
in hexadecimal on each line.  FILE is a classic pcap file, of which all UDP is read.  Captured packets of a
MetalLB cluster: --secret-file secretkey --metallb-key, where the file holds the secret as the speaker has it.

Keys may be hexadecimal or base64; one that can be read in several ways is tried in all of them.

Exit status: 0 when all could be decoded, 1 when something could not, 2 when nothing could be read.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "decode",
        help="show what captured packets say",
        description="Decode packets of hashicorp/memberlist.",
        epilog=EPILOG,
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="a pcap file; default: hex lines on stdin")
    parser.add_argument("--stream", action="store_true", help="the lines are TCP streams")
    parser.add_argument("--json", action="store_true", help="one JSON object for each input")
    parser.add_argument("--port", type=int, help="of a pcap file, only datagrams from or to this port")
    parser.add_argument("--label", help="refuse other labels; default: whatever label the input has")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="KEY",
        help="16, 24 or 32 octets as hex or base64; can be repeated",
    )
    keys.add_arguments(parser)
    parser.set_defaults(run=run, told_by="memberlist decode")


def run(args: argparse.Namespace) -> int:
    """0 if all could be decoded, 1 if something could not, 2 if the arguments or the file are wrong."""
    any_label = args.label is None
    try:
        _check(args)
        wire = Wire(_keyring(args), args.label or "", verify_incoming=False)
        if args.file:
            with Path(args.file).open("rb") as file:
                results = _from_pcap(pcap.read(file), wire, any_label=any_label, port=args.port)
                shown, status = _show(results, as_json=args.json)
            if not shown:
                where = f" from or to port {args.port}" if args.port is not None else ""
                print(f"{args.told_by}: {args.file}: no UDP datagrams{where}", file=sys.stderr)
            return status
        results = _from_lines(sys.stdin, wire, any_label=any_label, streams=args.stream)
        return _show(results, as_json=args.json)[1]
    except BrokenPipeError:
        raise  # nobody wants more output: no error of ours
    except OSError as problem:
        print(f"{args.told_by}: {problem.filename or args.file}: {problem.strerror}", file=sys.stderr)
        return 2
    except pcap.PcapError as problem:
        print(f"{args.told_by}: {args.file}: {problem}", file=sys.stderr)
        return 2
    except MemberlistError as problem:
        print(f"{args.told_by}: {problem}", file=sys.stderr)
        return 2


def _check(args: argparse.Namespace) -> None:
    if args.stream and args.file:
        raise ConfigError("--stream: streams are read from standard input, not from a pcap file")
    if args.port is not None and not args.file:
        raise ConfigError("--port: only a pcap file has ports")


def _keyring(args: argparse.Namespace) -> Keyring | None:
    """All readings of all keys: one too many does no harm to who only reads."""
    found = [key for text in args.key for key in keys.from_text(text)]
    for readings in keys.from_file(args.secret_file, metallb=args.metallb_key):
        found += readings
    return Keyring(found) if found else None


# --- one input, one result --------------------------------------------------------------------------------


def _from_lines(lines: TextIO, wire: Wire, *, any_label: bool, streams: bool) -> Iterator[Description]:
    decode = decode_stream if streams else decode_packet
    for line in lines:
        if not line.strip():
            continue
        try:
            data = bytes.fromhex(line)
        except ValueError:
            yield {"error": "not hexadecimal"}
            continue
        yield decode(data, wire, any_label=any_label)


def _from_pcap(
    datagrams: Iterable[pcap.Datagram], wire: Wire, *, any_label: bool, port: int | None
) -> Iterator[Description]:
    for datagram in datagrams:
        if port is not None and port not in (datagram.source_port, datagram.destination_port):
            continue
        where = {"time": datagram.time, "from": datagram.source, "to": datagram.destination}
        if datagram.problem:
            yield {**where, "error": datagram.problem}
        else:
            yield {**where, **decode_packet(datagram.payload, wire, any_label=any_label)}


def decode_packet(data: bytes, wire: Wire, *, any_label: bool = True) -> Description:
    """`{"layers", "messages"}`, with `"problems"` if parts of a compound were lost, or `{"error"}`.

    `any_label` takes the label the packet has in place of the wire's.
    """
    try:
        opened = (_labelled(wire, data) if any_label else wire).examine(data)
    except MemberlistError as problem:
        foreign = _foreign(data, wire, failed=True)
        return {"error": f"{problem} ({foreign})" if foreign else str(problem)}
    if "encrypt" not in opened.layers and (foreign := _foreign(data, wire, failed=False)):
        return {"error": foreign}
    if opened.problems and not opened.messages:
        return {"error": opened.problems[0]}
    lost = {"problems": opened.problems} if opened.problems else {}
    return {"layers": opened.layers, "messages": [describe(message) for message in opened.messages], **lost}


def decode_stream(data: bytes, wire: Wire, *, any_label: bool = True) -> Description:
    """Like `decode_packet`, for all that one side of a connection sent."""
    try:
        # Only the side that dialled sends a label; its absence tells that this is the answer.
        dialled = data[:1] == bytes((MessageType.LABEL,))
        reader = Reader(_labelled(wire, data) if any_label else wire, accepted=dialled)
        message = reader.feed(data)
    except MemberlistError as problem:
        return {"error": str(problem)}
    if message is None:
        return {"error": "cut off: the message is not whole"}
    return {"layers": reader.layers, "messages": [describe(message, on_stream=True)]}


def _foreign(data: bytes, wire: Wire, *, failed: bool) -> str:
    """What to ask of who gave us the packet, if it looks encrypted; else nothing.

    Encryption's version octets are the types of the pings, and chance makes some nonces look like a body.
    But then the ciphertext follows where a ping should end.
    """
    try:
        _, data = split_label(data)
        if data[:1] not in (b"\x00", b"\x01") or len(data) < overhead(1):
            return ""
        if not failed and len(data) - (measure(data, 1) or 0) < TAG_SIZE:
            return ""
    except DecodeError:
        return ""
    return "encrypted with another key?" if wire.keyring else "encrypted? then give the cluster's key"


def _labelled(wire: Wire, data: bytes) -> Wire:
    label, _ = split_label(data)
    return dataclasses.replace(wire, label=label.decode("utf-8", "surrogateescape")) if label else wire


def _show(results: Iterable[Description], *, as_json: bool) -> tuple[int, int]:
    """How many there were, and the exit status."""
    shown, failed = 0, False
    for result in results:
        shown += 1
        failed |= "error" in result
        print(json.dumps(result) if as_json else _line(result), flush=True)
    return shown, 1 if failed else 0


def _line(result: Description) -> str:
    words = []
    if "time" in result:
        time = datetime.fromtimestamp(result["time"], UTC).strftime("%H:%M:%S.%f")
        words.append(f"{time} {result['from']} > {result['to']}:")
    if "error" in result:
        return " ".join([*words, "error:", result["error"]])
    if result["layers"]:
        words.append(f"[{' '.join(result['layers'])}]")
    words.append("; ".join(render(message) for message in result["messages"]) or "no message")
    words += [f"({problem})" for problem in result.get("problems", ())]
    return " ".join(words)
