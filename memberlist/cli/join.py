"""`python -m memberlist join`: be a member and tell what happens."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

import trio

from memberlist import (
    Config,
    ConfigError,
    Conflict,
    Died,
    Event,
    Joined,
    JoinError,
    Lagged,
    Left,
    Member,
    MemberlistError,
    Node,
    Reachable,
    Refuted,
    Suspected,
    Timeout,
    Unreachable,
    Updated,
    UserMessage,
    open_member,
)
from memberlist.addresses import parse_join
from memberlist.cli import keys
from memberlist.cli.options import add_secrets, keyring, parse_address
from memberlist.config import DEFAULT_PORT

PROFILES: Final[dict[str, Callable[..., Config]]] = {
    "lan": Config.lan,
    "wan": Config.wan,
    "local": Config.local,
}
NAMES: Final[dict[type[Event], str]] = {
    Joined: "join",
    Refuted: "alive",
    Suspected: "suspect",
    Died: "dead",
    Left: "left",
    Unreachable: "unreachable",
    Reachable: "reachable",
    Updated: "update",
    Conflict: "conflict",
    UserMessage: "user",
}
JOIN_AGAIN: Final = 2.0
"""Seconds until the next attempt when nobody answered: members of a new cluster start in any order."""
LEAVE_TIMEOUT: Final = 1.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "join",
        help="be a member and print what happens",
        description="A full member: prints the members it finds and every event until SIGTERM, then leaves."
        "  SIGHUP makes it read --secret-file again.",
    )
    parser.add_argument("--name", default=socket.gethostname(), help="default: the host's name")
    parser.add_argument("--bind", default="0.0.0.0:7946", metavar="HOST:PORT")
    parser.add_argument("--advertise", metavar="HOST:PORT", help="what others shall send to")
    parser.add_argument(
        "--join",
        action="extend",
        nargs="+",
        default=[],
        metavar="HOST:PORT",
        help="members; can be repeated",
    )
    add_secrets(parser)
    parser.add_argument("--profile", choices=PROFILES, default="lan")
    parser.add_argument("--watch", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--observe", action="store_true", help="look on: suspect nobody, confirm nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 after a signal, 2 if the arguments are wrong or the address cannot be bound."""
    try:
        for text in args.join:
            parse_join(text, DEFAULT_PORT)  # what can never be right is told before anything is begun
        config = PROFILES[args.profile](
            name=args.name,
            bind=parse_address(args.bind, "--bind"),
            advertise=parse_address(args.advertise, "--advertise") if args.advertise else None,
            keyring=keyring(args),
            label=args.label,
            watch=args.watch,
            observe=args.observe,
        )
        reload = partial(_reload, config, args) if config.keyring is not None else None
        trio.run(_live, config, args.join, args.json, reload)
    except (MemberlistError, OSError) as problem:
        print(f"memberlist join: {problem}", file=sys.stderr)
        return 2
    return 0


def _reload(config: Config, args: argparse.Namespace) -> None:
    assert config.keyring is not None
    try:
        config.keyring.replace(
            readings[0] for readings in keys.from_file(args.secret_file, metallb=args.metallb_key)
        )
    except ConfigError as problem:
        print(f"memberlist join: {problem}; the keys stay as they were", file=sys.stderr, flush=True)
    else:
        print(f"memberlist join: {len(config.keyring)} keys read", file=sys.stderr, flush=True)


async def _live(config: Config, seeds: list[str], as_json: bool, reload: Callable[[], None] | None) -> None:
    ended = trio.Event()

    def tell(event: Event) -> None:
        try:
            show(event, as_json=as_json)
        except BrokenPipeError:  # nobody reads on: as good as a signal
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ended.set()

    async def heed(signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number != signal.SIGHUP or reload is None:
                break
            reload()
        ended.set()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with open_member(config) as member, trio.open_nursery() as nursery:
            member.observe(tell)
            for node in member.members():
                tell(Joined(node))
            nursery.start_soon(heed, signals)
            if seeds:
                nursery.start_soon(_join, member, seeds)
            await ended.wait()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                try:
                    await member.leave(LEAVE_TIMEOUT)
                except Timeout as problem:
                    print(f"memberlist join: leaving: {problem}", file=sys.stderr)


async def _join(member: Member, seeds: list[str]) -> None:
    while True:
        try:
            await member.join(seeds)
        except JoinError as problem:
            again = f"trying again every {JOIN_AGAIN:g} s"
            print(f"memberlist join: {problem}; {again}", file=sys.stderr, flush=True)
            await trio.sleep(JOIN_AGAIN)
        else:
            return


def describe(event: Event) -> dict[str, Any]:
    """The event as the JSON it is printed as."""
    said: dict[str, Any] = {"t": round(time.time(), 6), "event": NAMES.get(type(event), "lagged")}
    match event:
        case UserMessage():
            said["payload"] = event.payload.hex()
        case Lagged():
            said["count"] = event.count
        case _:
            said |= of_node(event.node)
    match event:
        case Suspected():
            said["by"] = event.by
        case Conflict():
            said |= {"other_addr": event.other_address, "other_port": event.other_port}
    return said


def of_node(node: Node) -> dict[str, Any]:
    return {
        # A name is octets to the protocol; what is no UTF-8 is shown, not carried.
        "name": node.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        "addr": node.address,
        "port": node.port,
        "incarnation": node.incarnation,
        "state": node.state.name.lower(),
        "reachable": node.reachable,
        "meta": None if node.meta is None else node.meta.hex(),
    }


def show(event: Event, *, as_json: bool) -> None:
    said = describe(event)
    if as_json:
        print(json.dumps(said), flush=True)
        return
    at = time.strftime("%H:%M:%S", time.localtime(said["t"])) + f"{said['t'] % 1:.3f}"[1:]
    if "name" not in said:
        print(f"{at} {said['event']:<12}{said.get('payload', said.get('count'))}", flush=True)
        return
    where = f"[{said['addr']}]" if ":" in said["addr"] else said["addr"]
    extra = f" by {said['by']}" if "by" in said else ""
    if "other_addr" in said:
        extra = f" also at {said['other_addr']} port {said['other_port']}: one of them needs another name"
    line = f"{at} {said['event']:<12}{printable(said['name'])} {where}:{said['port']}"
    print(f"{line} incarnation {said['incarnation']} {said['state']}{extra}", flush=True)


def printable(text: str) -> str:
    """Names come from the network; none may move our cursor."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
