"""`announce`: sessions with one or more peers, prefixes from stdin."""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path as FilePath
from typing import Final

import trio

from bgp_lite.attributes import Path, parse_community
from bgp_lite.bfd.core import Changed as BfdChanged
from bgp_lite.bfd.core import Profile
from bgp_lite.bfd.driver import Driver as BfdDriver
from bgp_lite.bfd.driver import Peer as BfdPeer
from bgp_lite.bfd.packet import State as BfdState
from bgp_lite.cli.report import Report
from bgp_lite.config import PeerAs, PeerConfig
from bgp_lite.core import Changed, Session
from bgp_lite.driver import Driver
from bgp_lite.errors import Cease, UsageError
from bgp_lite.fsm import State
from bgp_lite.prefix import Family, parse_prefix

MAX_LINE: Final = 4096
READ: Final = 1 << 16
GOODBYE: Final = 1.0
"""Seconds for the withdrawals and the last words."""

DESCRIPTION = """Lines on stdin: '+ PREFIX [community=A:B|large:A:B:C|NAME]... [local-pref=N]' announces,
'- PREFIX' withdraws.  SIGTERM and SIGINT withdraw everything and say goodbye; with --restart they close
without a word, so that routers with graceful restart keep the routes."""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("announce", help="announce prefixes read from stdin", description=DESCRIPTION)
    parser.add_argument("--peer", action="append", required=True, metavar="ADDR", help="router; repeatable")
    parser.add_argument("--peer-as", type=_peer_as, required=True, metavar="N|internal|external")
    parser.add_argument("--local-as", type=int, required=True, metavar="N")
    parser.add_argument("--router-id", metavar="IPV4", help="default: our address towards the first peer")
    parser.add_argument("--port", type=int, default=179)
    parser.add_argument("--source", metavar="ADDR")
    parser.add_argument("--device", metavar="NAME", help="interface or VRF")
    parser.add_argument(
        "--password-file", type=FilePath, metavar="FILE", help="TCP MD5 key (trailing newline ignored)"
    )
    parser.add_argument("--hold", type=int, default=90, metavar="S", help="hold time, 0 or 3..65535 (90)")
    parser.add_argument("--multihop", action="store_true")
    parser.add_argument("--ttl-security", action="store_true", help="drop what comes from farther away")
    parser.add_argument("--bfd", type=_bfd, metavar="MSxN", help="such as 50x3: interval in ms, multiplier")
    parser.add_argument("--graceful-restart", type=int, metavar="S", help="routes are kept so long, 1..4095")
    parser.add_argument("--restart", action="store_true", help="this is a restart, and so is the end")
    parser.add_argument("--next-hop", action="append", default=[], metavar="ADDR", help="one a family")
    parser.add_argument("--community", action="append", default=[], metavar="C", help="on every prefix")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        configs = [_config(arguments, peer) for peer in arguments.peer]
        base = _path({}, arguments.community)
    except (UsageError, OSError) as problem:
        print(f"announce: {problem}", file=sys.stderr)
        return 2
    return trio.run(partial(_announce, configs, base, arguments))


@dataclass(slots=True)
class _Peer:
    config: PeerConfig
    session: Session
    driver: Driver

    @property
    def behind(self) -> bool:
        return self.session.state is State.ESTABLISHED and not self.session.synced


@dataclass(slots=True)
class _Run:
    report: Report
    peers: list[_Peer] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)


async def _announce(configs: list[PeerConfig], base: Path, arguments: argparse.Namespace) -> int:
    report = Report(as_json=arguments.json)
    state = _Run(report)
    rng = random.SystemRandom()
    bfd = BfdDriver(rng=rng)
    async with trio.open_nursery() as nursery:
        for config in configs:
            session = Session(config, rng=rng)
            changed, synced = partial(_changed, state, config.peer), partial(_synced, state, config.peer)
            state.peers.append(_Peer(config, session, Driver(session, changed, synced)))
        if arguments.bfd is not None:
            await nursery.start(bfd.run)
            for peer in state.peers:
                multihop = peer.config.multihop
                where = BfdPeer(peer.config.peer, peer.config.source, peer.config.device, multihop)
                bfd.add(where, arguments.bfd, partial(_bfd_changed, report, peer))
        for peer in state.peers:
            nursery.start_soon(peer.driver.run)
        nursery.start_soon(_read_lines, state, base)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        with trio.move_on_after(GOODBYE):
            await _goodbye(state, restart=arguments.restart)
        nursery.cancel_scope.cancel()
    return 0


async def _goodbye(state: _Run, *, restart: bool) -> None:
    if not restart:
        for peer in state.peers:
            peer.session.rib.replace({})
            peer.driver.poke()
        while any(
            peer.session.state is State.ESTABLISHED and not peer.session.synced for peer in state.peers
        ):
            await state.news.wait()
            state.news = trio.Event()
    for peer in state.peers:
        cease = None if restart else Cease.ADMIN_SHUTDOWN
        await peer.driver.stop(cease, "" if restart else "announcer stopped")
    state.report("stopped", restart=restart)


def _changed(state: _Run, peer: str, change: Changed) -> None:
    state.report("state", peer=peer, old=change.old.name, new=change.new.name, why=change.why)
    state.news.set()


def _bfd_changed(report: Report, peer: _Peer, change: BfdChanged) -> None:
    report("bfd", peer=peer.config.peer, old=change.old.name, new=change.new.name, why=change.diagnostic.name)
    if change.old is BfdState.UP and change.new is BfdState.DOWN:
        peer.driver.bfd_down()


def _synced(state: _Run, name: str) -> None:
    peer = next(peer for peer in state.peers if peer.config.peer == name)
    state.report("synced", peer=name, prefixes=len(peer.session.rib.sent))
    state.news.set()


async def _read_lines(state: _Run, base: Path) -> None:
    paths: dict[tuple[str, ...], Path] = {}
    rest = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        while True:
            try:
                data = await stdin.receive_some(READ)
            except (trio.BrokenResourceError, OSError):
                return
            if not data:
                return  # the announcements stand until we are stopped
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > MAX_LINE:
                state.report("bad_line", why=f"longer than {MAX_LINE} octets")
                rest = b""
            for line in lines:
                try:
                    _take(state, line.decode().split(), base, paths)
                except (UsageError, UnicodeDecodeError) as problem:
                    state.report("bad_line", why=str(problem))
            for peer in state.peers:
                peer.driver.poke()


def _take(state: _Run, words: list[str], base: Path, paths: dict[tuple[str, ...], Path]) -> None:
    match words:
        case ["+", prefix_text, *options]:
            key = tuple(options)
            path = paths.get(key)
            if path is None:
                path = paths[key] = _path(_options(options), [], base)
            prefix = parse_prefix(prefix_text)
            for peer in state.peers:
                peer.session.rib.announce(prefix, path)
        case ["-", prefix_text]:
            prefix = parse_prefix(prefix_text)
            for peer in state.peers:
                peer.session.rib.withdraw(prefix)
        case []:
            pass
        case _:
            raise UsageError(f"{' '.join(words)!r}: a line is '+ PREFIX [community=C]...' or '- PREFIX'")


def _options(words: list[str]) -> Mapping[str, list[str]]:
    options: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in ("community", "local-pref"):
            raise UsageError(f"{word!r}: expected community=C or local-pref=N")
        options.setdefault(name, []).append(value)
    return options


def _path(options: Mapping[str, list[str]], communities: list[str], base: Path | None = None) -> Path:
    standard = set(base.communities if base else ())
    large = set(base.large_communities if base else ())
    for text in [*communities, *options.get("community", [])]:
        match parse_community(text):
            case int() as value:
                standard.add(value)
            case triple:
                large.add(triple)
    preference: int | None = None
    for text in options.get("local-pref", []):
        if not (text.isascii() and text.isdigit()) or int(text) > 0xFFFFFFFF:
            raise UsageError(f"local-pref={text}: must be 0..4294967295")
        preference = int(text)
    return Path(tuple(sorted(standard)), tuple(sorted(large)), preference)


def _config(arguments: argparse.Namespace, peer: str) -> PeerConfig:
    next_hops: dict[Family, bytes] = {}
    for text in arguments.next_hop:
        prefix = parse_prefix(text)
        if prefix.length != prefix.family.bits:
            raise UsageError(f"--next-hop {text}: must be an address")
        next_hops[prefix.family] = prefix.nlri[1:]
    password = None
    if arguments.password_file is not None:
        password = arguments.password_file.read_bytes().rstrip(b"\r\n")
    return PeerConfig(
        peer=peer,
        port=arguments.port,
        local_as=arguments.local_as,
        peer_as=arguments.peer_as,
        router_id=arguments.router_id or _router_id(peer, arguments.port, arguments.source),
        source=arguments.source,
        device=arguments.device,
        hold_time=arguments.hold,
        next_hops=next_hops,
        password=password,
        multihop=arguments.multihop,
        ttl_security=arguments.ttl_security,
        restart_time=arguments.graceful_restart,
        restarted=arguments.restart,
        hostname=socket.gethostname(),
    )


def _router_id(peer: str, port: int, source: str | None) -> str:
    """Our IPv4 address towards the peer, as routers choose it."""
    if ":" in peer:
        raise UsageError("--router-id is needed with an IPv6 peer")
    if source is not None:
        return source
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, port))
        return str(probe.getsockname()[0])


def _peer_as(text: str) -> PeerAs:
    match text:
        case "internal":
            return "internal"
        case "external":
            return "external"
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is neither an AS number nor internal nor external")
    return int(text)


def _bfd(text: str) -> Profile:
    interval, x, multiplier = text.partition("x")
    if not x or not interval.isdigit() or not multiplier.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected MSxN, such as 50x3")
    seconds = int(interval) / 1000
    try:
        return Profile(transmit_interval=seconds, receive_interval=seconds, detect_multiplier=int(multiplier))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{text!r}: {problem}") from None
