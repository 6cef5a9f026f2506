"""`announce`: sessions with one or more peers, prefixes from stdin."""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path as FilePath
from typing import Final

import trio

from bgp_lite import addresses
from bgp_lite.attributes import Path, parse_community
from bgp_lite.bfd.core import Changed as BfdChanged
from bgp_lite.bfd.core import Profile
from bgp_lite.bfd.driver import Driver as BfdDriver
from bgp_lite.bfd.driver import Peer as BfdPeer
from bgp_lite.bfd.driver import Running
from bgp_lite.bfd.packet import State as BfdState
from bgp_lite.cli import prompt
from bgp_lite.cli.report import Report
from bgp_lite.config import PeerAs, PeerConfig
from bgp_lite.core import Changed, Session
from bgp_lite.driver import Driver, canonical
from bgp_lite.errors import Cease, UsageError
from bgp_lite.fsm import State
from bgp_lite.listener import Listener
from bgp_lite.prefix import Family, parse_prefix

MAX_LINE: Final = 4096
READ: Final = 1 << 16
GOODBYE: Final = 1.0
"""Seconds for the withdrawals and the last words."""
SOON: Final = 0.001
"""Seconds of graceful shutdown when none is wanted: everything is withdrawn all the same."""
MAX_GRACEFUL: Final = 600
RESTART_TIME: Final = 120
"""Seconds, as routers have it by default."""

DESCRIPTION = """Lines on stdin: '+ PREFIX [community=A:B|large:A:B:C|NAME]... [local-pref=N]' announces,
'- PREFIX' withdraws.  SIGTERM and SIGINT ask routers to prefer other paths (RFC 8326), withdraw everything
and say goodbye; with --restart they close without a word, so that routers with graceful restart keep the
routes."""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("announce", help="announce prefixes read from stdin", description=DESCRIPTION)
    parser.add_argument("--peer", action="append", default=[], metavar="ADDR", help="router; repeatable")
    parser.add_argument(
        "--interface", action="append", default=[], metavar="NAME", help="unnumbered: the router heard there"
    )
    parser.add_argument("--peer-as", type=_peer_as, required=True, metavar="N|internal|external")
    parser.add_argument("--local-as", type=int, required=True, metavar="N")
    parser.add_argument("--router-id", metavar="IPV4", help="default: our IPv4 address towards the peer")
    parser.add_argument("--port", type=int, default=179)
    parser.add_argument("--source", metavar="ADDR")
    parser.add_argument("--device", metavar="NAME", help="interface or VRF")
    parser.add_argument(
        "--password-file", type=FilePath, metavar="FILE", help="TCP MD5 key (trailing newline ignored)"
    )
    parser.add_argument("--hold", type=int, default=90, metavar="S", help="hold time, 0 or 3..65535 (90)")
    parser.add_argument("--keepalive", type=int, metavar="S", help="at most, and by default, a third of it")
    parser.add_argument("--connect-time", type=float, default=30, metavar="S", help="longest pause (30)")
    parser.add_argument("--listen", type=int, metavar="PORT", help="also take connections that routers make")
    parser.add_argument("--passive", action="store_true", help="with --listen: never connect")
    parser.add_argument("--multihop", action="store_true")
    parser.add_argument("--ttl-security", action="store_true", help="drop what comes from farther away")
    parser.add_argument(
        "--bfd",
        type=_bfd,
        metavar="MSxN",
        help="such as 50x3: interval in ms, multiplier; takes real-time priority where it may",
    )
    parser.add_argument(
        "--graceful-restart",
        type=int,
        nargs="?",
        const=RESTART_TIME,
        metavar="S",
        help=f"routes are kept so long, 1..4095 ({RESTART_TIME})",
    )
    parser.add_argument(
        "--graceful-shutdown",
        type=float,
        default=1.0,
        metavar="S",
        help="at the end, ask routers to prefer others for so long before withdrawing, 0..600 (1)",
    )
    parser.add_argument("--restart", action="store_true", help="this is a restart, and so is the end")
    parser.add_argument("--next-hop", action="append", default=[], metavar="ADDR", help="one a family")
    parser.add_argument("--community", action="append", default=[], metavar="C", help="on every prefix")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        _check(arguments)
        configs = [_config(arguments, peer=peer) for peer in arguments.peer]
        configs += [_config(arguments, interface=each) for each in arguments.interface]
        base = _path({}, arguments.community)
    except (UsageError, OSError) as problem:
        print(f"announce: {problem}", file=sys.stderr)
        return 2
    try:
        return trio.run(partial(_announce, configs, base, arguments))
    except* OSError as problems:
        for each in _leaves(problems):
            print(f"announce: {each}", file=sys.stderr)
    return 1


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


@dataclass(slots=True)
class _Peer:
    config: PeerConfig
    session: Session
    driver: Driver
    watch: Callable[[str], None] | None = None
    """Starts BFD with an address."""
    watched: str | None = None
    running: Running | None = None


@dataclass(slots=True)
class _Run:
    report: Report
    prompt: bool
    """BFD runs here: nothing may take long."""
    peers: list[_Peer] = field(default_factory=list)


async def _announce(configs: list[PeerConfig], base: Path, arguments: argparse.Namespace) -> int:
    report = Report(as_json=arguments.json)
    state = _Run(report, arguments.bfd is not None)
    rng = random.SystemRandom()
    bfd = BfdDriver(rng=rng)
    async with trio.open_nursery() as nursery:
        for config in configs:
            session = Session(config, rng=rng)
            number = len(state.peers)
            changed, synced = partial(_changed, state, number), partial(_synced, state, number)
            state.peers.append(_Peer(config, session, Driver(session, changed, synced)))
        if arguments.bfd is not None:
            await nursery.start(bfd.run)
            prompt.be_prompt()
            nursery.start_soon(prompt.keep_prompt)
            for peer in state.peers:
                peer.watch = partial(_watch, bfd, arguments.bfd, report, peer)
                if peer.config.interface is None:
                    peer.watch(peer.config.peer)
        if arguments.listen is not None:
            listener = Listener(port=arguments.listen)
            for peer in state.peers:
                listener.add(peer.driver)
            await nursery.start(listener.run)
        for peer in state.peers:
            nursery.start_soon(peer.driver.run)
        nursery.start_soon(_read_lines, state, base)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        with trio.move_on_after(arguments.graceful_shutdown + GOODBYE):
            await _goodbye(state, restart=arguments.restart, graceful=arguments.graceful_shutdown)
        nursery.cancel_scope.cancel()
    return 0


async def _goodbye(state: _Run, *, restart: bool, graceful: float) -> None:
    async with trio.open_nursery() as nursery:
        for peer in state.peers:
            if restart:
                nursery.start_soon(peer.driver.stop, None)
            else:
                stop = partial(peer.driver.stop, graceful=max(graceful, SOON))
                nursery.start_soon(stop, Cease.ADMIN_SHUTDOWN, "announcer stopped")
    state.report("stopped", restart=restart)


def _changed(state: _Run, number: int, change: Changed) -> None:
    peer = state.peers[number]
    state.report("state", peer=peer.config.name, old=change.old.name, new=change.new.name, why=change.why)
    if change.new is State.ESTABLISHED and peer.watch and peer.driver.peer_address != peer.watched:
        assert peer.driver.peer_address is not None
        peer.watch(peer.driver.peer_address)


def _watch(bfd: BfdDriver, profile: Profile, report: Report, peer: _Peer, address: str) -> None:
    """Have BFD watch the peer at this address; an unnumbered one is known when its session is."""
    config = peer.config
    if peer.running is not None:
        bfd.remove(peer.running)
    where = BfdPeer(address, config.source, config.device, config.multihop)
    peer.watched = canonical(address, config.scope)
    peer.running = bfd.add(where, profile, partial(_bfd_changed, report, peer))


def _bfd_changed(report: Report, peer: _Peer, change: BfdChanged) -> None:
    report("bfd", peer=peer.config.name, old=change.old.name, new=change.new.name, why=change.diagnostic.name)
    if change.old is BfdState.UP and change.new is BfdState.DOWN:
        peer.driver.bfd_down()


def _synced(state: _Run, number: int) -> None:
    peer = state.peers[number]
    state.report("synced", peer=peer.config.name, prefixes=len(peer.session.rib.sent))


async def _read_lines(state: _Run, base: Path) -> None:
    paths: dict[tuple[str, ...], Path] = {}
    rest = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        while True:
            try:
                data = await stdin.receive_some(READ)
            except (trio.BrokenResourceError, OSError):
                return
            # the last line may have no end; the announcements stand until we are stopped
            *lines, rest = (rest + (data or b"\n")).split(b"\n")
            if len(rest) > MAX_LINE:
                state.report("bad_line", why=f"longer than {MAX_LINE} octets")
                rest = b""
            for line in lines:
                try:
                    _take(state, line.decode().split(), base, paths)
                except (UsageError, UnicodeDecodeError) as problem:
                    state.report("bad_line", why=str(problem))
            if state.prompt:
                prompt.keep()
            for number, peer in enumerate(state.peers):
                if peer.session.synced:
                    _synced(state, number)  # who waits for it shall not wait for ever when nothing was new
                peer.driver.poke()
            if not data:
                return


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


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.peer and not arguments.interface:
        raise UsageError("--peer or --interface: at least one is needed")
    for flag in ("peer", "interface"):
        given = getattr(arguments, flag)
        for each in {each for each in given if given.count(each) > 1}:
            raise UsageError(f"--{flag} {each}: given twice")
    if arguments.listen is not None and not 1 <= arguments.listen <= 65535:
        raise UsageError(f"--listen {arguments.listen}: must be 1..65535")
    if arguments.listen is not None and arguments.interface:
        raise UsageError("--listen: contradicts --interface")
    if arguments.passive and arguments.listen is None:
        raise UsageError("--passive: needs --listen")
    if not 0 <= arguments.graceful_shutdown <= MAX_GRACEFUL:
        raise UsageError(f"--graceful-shutdown {arguments.graceful_shutdown}: must be 0..{MAX_GRACEFUL}")


def _config(arguments: argparse.Namespace, *, peer: str = "", interface: str | None = None) -> PeerConfig:
    next_hops: dict[Family, bytes] = {}
    for text in arguments.next_hop:
        prefix = parse_prefix(text)
        if prefix.length != prefix.family.bits:
            raise UsageError(f"--next-hop {text}: must be an address")
        next_hops[prefix.family] = prefix.nlri[1:]
    password = None
    if arguments.password_file is not None:
        try:
            password = arguments.password_file.read_bytes().rstrip(b"\r\n")
        except OSError as problem:
            raise UsageError(f"--password-file {arguments.password_file}: {problem.strerror}") from None
    return PeerConfig(
        peer=peer,
        interface=interface,
        port=arguments.port,
        local_as=arguments.local_as,
        peer_as=arguments.peer_as,
        router_id=arguments.router_id or _router_id(peer, arguments.port, arguments.source),
        source=arguments.source,
        device=arguments.device,
        hold_time=arguments.hold,
        keepalive_time=arguments.keepalive,
        connect_time=arguments.connect_time,
        passive=arguments.passive,
        next_hops=next_hops,
        password=password,
        multihop=arguments.multihop,
        ttl_security=arguments.ttl_security,
        restart_time=arguments.graceful_restart,
        restarted=arguments.restart,
        hostname=socket.gethostname(),
    )


def _router_id(peer: str, port: int, source: str | None) -> str:
    """Our IPv4 address towards the peer, as routers choose it; any of ours where the peer has no IPv4."""
    if not peer or ":" in peer:
        for each in addresses.addresses():
            if each.ip.version == 4 and each.universal:
                return str(each.ip)
        raise UsageError("--router-id is needed: this host has no IPv4 address to take it from")
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
