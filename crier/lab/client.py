"""The client on the lab's LAN: probes every VIP, asks the wire who answers for it, and keeps the record.

    python -m crier.lab.client --target '{"address": "172.30.0.200", "udp": 8000, "tcp": 80}' --mac MAC=node-1

One process, one loop, so that its timing depends on nothing else.  To each VIP goes a UDP probe each 5 ms,
an HTTP request on a connection of its own 20 times a second, and each 20 ms an ARP or NDP question from an
asker the kernel does not know (see `frames`).  It reads commands and writes results, a line of JSON each, on
its standard input and output, and ends when its input does.  All times are CLOCK_MONOTONIC, which this
machine's processes share.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

import h11

from crier.lab import frames
from crier.lab.frames import IPAddress
from crier.lab.ontime import Arrivals, be_first
from crier.lab.probes import Log, Segment

INTERFACE: Final = "eth0"
PROBE_INTERVAL: Final = 0.005
PROBE_DEADLINE: Final = 0.1
"""An answer takes well under a millisecond; one slower than this is no service."""
REQUEST_INTERVAL: Final = 0.05
REQUEST_DEADLINE: Final = 1.0
ASK_INTERVAL: Final = 0.02
ASK_DEADLINE: Final = 0.1
LATE: Final = 0.02
"""A loop later than this is on record: what it did not send cannot have been lost.  So is a backend's."""
MAX_ANNOUNCEMENTS: Final = 2000
MAX_COMMAND: Final = 64 * 1024

Handler: TypeAlias = Callable[[float], None]


@dataclass(slots=True)
class Target:
    """One VIP and everything known about it."""

    address: IPAddress
    udp: int | None
    tcp: int | None
    probes: Log = field(default_factory=lambda: Log(PROBE_DEADLINE))
    requests: Log = field(default_factory=lambda: Log(REQUEST_DEADLINE))
    asks: Log = field(default_factory=lambda: Log(ASK_DEADLINE, several=True))
    sock: socket.socket | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        fields = json.loads(text)
        return cls(ip_address(fields["address"]), fields.get("udp"), fields.get("tcp"))

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET if self.address.version == 4 else socket.AF_INET6

    def logs(self) -> dict[str, Log]:
        return {"probes": self.probes, "requests": self.requests, "asks": self.asks}


class Exchange:
    """One HTTP request on a connection of its own."""

    def __init__(self, target: Target, now: float) -> None:
        assert target.tcp is not None
        self.number = target.requests.send(now)
        self.started_at = now
        self.target = target
        self.sock = socket.socket(target.family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self._http = h11.Connection(h11.CLIENT)
        self._body = b""
        self._host = str(target.address)
        with suppress(BlockingIOError):
            self.sock.connect((self._host, target.tcp))

    def write(self) -> None:
        """Connected: ask.  Raises OSError when it is not."""
        problem = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, os.strerror(problem))
        request = h11.Request(
            method="GET", target="/", headers=[("Host", self._host), ("Connection", "close")]
        )
        data = (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        self.sock.send(data)

    def read(self) -> str | None:
        """The node that served, once the answer is whole.  Raises OSError, h11.ProtocolError, ValueError."""
        self._http.receive_data(self.sock.recv(4096))
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Response) and event.status_code != 200:
                raise OSError(f"HTTP {event.status_code}")
            if isinstance(event, h11.Data):
                self._body = (self._body + bytes(event.data))[:4096]
            if isinstance(event, h11.EndOfMessage):
                return _node(self._body)
            if isinstance(event, h11.ConnectionClosed):
                raise OSError("closed before it answered")


def _node(answer: bytes) -> str:
    """The node in a backend's JSON answer.  Raises ValueError."""
    document = json.loads(answer)
    if not isinstance(document, dict) or not isinstance(document.get("node"), str):
        raise ValueError("no node in the answer")  # noqa: TRY004
    return str(document["node"])


def decode_answer(datagram: bytes) -> tuple[int, str, float]:
    """A probe's number, the node that served it, and the seconds it lay there before the backend looked.

    Raises ValueError whatever the datagram.
    """
    try:
        document = json.loads(datagram)
        number, node, waited = int(document["echo"]), document["node"], float(document["waited"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as problem:
        raise ValueError(f"not a backend's answer: {problem}") from None
    if not isinstance(node, str):
        raise ValueError("not a backend's answer: node is no text")  # noqa: TRY004
    return number, node, waited


class Client:
    def __init__(self, targets: list[Target], nodes: dict[str, str]) -> None:
        self.targets = targets
        self._by_address = {target.address: target for target in targets}
        self._nodes = nodes  # MAC -> name
        self._selector = selectors.DefaultSelector()
        self._exchanges: deque[Exchange] = deque()
        self._open: set[Exchange] = set()
        self._announcements: deque[tuple[float, str, str]] = deque(maxlen=MAX_ANNOUNCEMENTS)
        self._late: deque[tuple[float, float]] = deque(maxlen=MAX_ANNOUNCEMENTS)
        self._waits: deque[tuple[float, float]] = deque(maxlen=MAX_ANNOUNCEMENTS)
        self._commands = b""
        self._ended = False
        self._arrivals = Arrivals()
        self._drained_at = 0.0  # whatever arrived before has been read, so what is missing is lost

    # -- the loop

    def run(self) -> None:
        self._listen()
        start = time.monotonic()
        # Staggered, so that one tick's work does not delay another's.
        ticks: list[tuple[float, float, Handler]] = [
            (start, PROBE_INTERVAL, self._probe),
            (start + 0.0015, ASK_INTERVAL, self._ask),
            (start + 0.0035, REQUEST_INTERVAL, self._request),
        ]
        due = [first for first, _, _ in ticks]
        while not self._ended:
            looking_at = time.monotonic()
            for key, events in self._selector.select(max(0.0, min(due) - time.monotonic())):
                key.data(key.fileobj, events, time.monotonic())
            self._drained_at = looking_at
            now = time.monotonic()
            for index, (_, interval, handler) in enumerate(ticks):
                if due[index] <= now:
                    if now - due[index] > LATE:
                        self._late.append((now, now - due[index]))
                    handler(now)
                    # Never a burst to catch up: what was not sent in time was not sent.
                    due[index] += interval * (1 + (now - due[index]) // interval)

    def _listen(self) -> None:
        os.set_blocking(sys.stdin.fileno(), False)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._on_command)
        versions = {target.address.version for target in self.targets}
        self._askers = {}
        for version, ethertype in ((4, frames.ETH_ARP), (6, frames.ETH_IPV6)):
            if version in versions:
                self._askers[version] = frames.listen(ethertype, INTERFACE)
                self._arrivals.note_on(self._askers[version])
                self._selector.register(self._askers[version], selectors.EVENT_READ, self._on_frame)
        for target in self.targets:
            if target.udp is not None:
                target.sock = socket.socket(target.family, socket.SOCK_DGRAM)
                target.sock.setblocking(False)
                self._arrivals.note_on(target.sock)
                target.sock.connect((str(target.address), target.udp))
                self._selector.register(target.sock, selectors.EVENT_READ, partial(self._on_answer, target))

    # -- sending

    def _probe(self, _: float) -> None:
        for target in self.targets:
            if target.sock is not None:
                number = target.probes.send(time.monotonic())  # this moment: earlier targets took a while
                with suppress(
                    OSError
                ):  # no neighbour, or an old probe's ICMP error: lost, as the log will say
                    target.sock.send(b"%d" % number)
                target.probes.decide(self._drained_at)

    def _ask(self, _: float) -> None:
        for target in self.targets:
            number = target.asks.send(time.monotonic())
            with suppress(OSError):
                self._askers[target.address.version].send(
                    frames.question(target.address, number % frames.ASKERS)
                )
            target.asks.decide(self._drained_at)

    def _request(self, now: float) -> None:
        self._arrivals.calibrate()
        while self._exchanges and now - self._exchanges[0].started_at > REQUEST_DEADLINE:
            self._close(self._exchanges.popleft())
        for target in self.targets:
            if target.tcp is not None:
                try:
                    exchange = Exchange(target, now)
                except OSError:  # refused or unreachable at once
                    continue
                self._exchanges.append(exchange)
                self._open.add(exchange)
                self._selector.register(
                    exchange.sock, selectors.EVENT_WRITE, partial(self._on_exchange, exchange)
                )
                target.requests.decide(self._drained_at)

    # -- receiving

    def _on_answer(self, target: Target, sock: socket.socket, _: int, __: float) -> None:
        with suppress(OSError):
            while True:
                datagram, at, _ = self._arrivals.receive(sock)
                with suppress(ValueError):
                    number, node, waited = decode_answer(datagram)
                    if waited > LATE:
                        self._waits.append((at, waited))
                    target.probes.answer(number, at, node)

    def _on_frame(self, sock: socket.socket, _: int, __: float) -> None:
        with suppress(OSError):
            while True:
                frame, at, origin = self._arrivals.receive(sock)
                if origin[2] != socket.PACKET_OUTGOING:
                    with suppress(frames.BadFrame):
                        self._on_claim(frames.decode(frame), at)

    def _on_claim(self, claim: frames.Claim | None, now: float) -> None:
        if claim is None or (target := self._by_address.get(claim.address)) is None:
            return
        who = self._nodes.get(claim.mac, claim.mac)
        if claim.gratuitous:
            self._announcements.append((now, str(claim.address), who))
        elif claim.asker is not None:
            number = target.asks.newest(frames.ASKERS, claim.asker)
            if number is not None:
                target.asks.answer(number, now, who)

    def _on_exchange(self, exchange: Exchange, sock: socket.socket, events: int, now: float) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                exchange.write()
                self._selector.modify(sock, selectors.EVENT_READ, partial(self._on_exchange, exchange))
            elif (node := exchange.read()) is not None:
                exchange.target.requests.answer(exchange.number, now, node)
                self._close(exchange)
        except (OSError, h11.ProtocolError, ValueError, RecursionError):
            self._close(exchange)

    def _close(self, exchange: Exchange) -> None:
        if exchange in self._open:
            self._open.discard(exchange)
            self._selector.unregister(exchange.sock)
            exchange.sock.close()

    # -- commands

    def _on_command(self, _: int, __: int, now: float) -> None:
        data = os.read(sys.stdin.fileno(), 65536)
        self._commands += data
        *lines, self._commands = self._commands.split(b"\n")
        if not data or len(self._commands) > MAX_COMMAND:
            self._ended = True
        for line in lines:
            command = json.loads(line)
            reply = getattr(self, f"do_{command['do']}")(now, **command.get("with", {}))
            print(json.dumps(reply), flush=True)

    def do_state(self, now: float) -> list[dict[str, Any]]:
        """How every VIP is at this moment."""
        return [
            {
                "address": str(target.address),
                "good_since": None if target.udp is None else target.probes.good_since,
                "served_by": _last(target.probes.segments),
                "owners": list(target.asks.summary(now - 0.5, now).answerers),
                "owners_now": _last(target.asks.segments),
            }
            for target in self.targets
        ]

    def do_result(self, _: float, since: float, until: float) -> dict[str, Any]:
        """Figures for what was sent between two times; ask when the last deadline has passed."""
        return {
            "late_max": max((late for at, late in self._late if since <= at <= until), default=0.0),
            "waited_max": max((waited for at, waited in self._waits if since <= at <= until), default=0.0),
            "vips": [
                {
                    "address": str(target.address),
                    **{kind: asdict(log.summary(since, until)) for kind, log in target.logs().items()},
                    "announcements": [
                        [at, who]
                        for at, address, who in self._announcements
                        if address == str(target.address) and since <= at <= until
                    ],
                }
                for target in self.targets
            ],
        }

    def do_segments(self, _: float, since: float) -> list[dict[str, Any]]:
        """Who served and who answered on the wire, as segments of time."""
        return [
            {
                "address": str(target.address),
                "served": [_plain(s) for s in target.probes.segments if s.end >= since],
                "owners": [_plain(s) for s in target.asks.segments if s.end >= since],
            }
            for target in self.targets
        ]


def _last(segments: deque[Segment]) -> list[str]:
    return list(segments[-1].answerers) if segments else []


def _plain(segment: Segment) -> list[Any]:
    return [segment.start, segment.end, list(segment.answerers)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m crier.lab.client", description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", required=True, type=Target.parse, metavar="JSON")
    parser.add_argument("--mac", action="append", default=[], metavar="MAC=NODE", help="who has which MAC")
    options = parser.parse_args(argv)
    be_first()
    client = Client(options.target, dict(pair.split("=", 1) for pair in options.mac))
    gc.freeze()
    client.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
