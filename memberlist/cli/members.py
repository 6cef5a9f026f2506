"""`python -m memberlist members`: ask one member whom it knows."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import trio

from memberlist.addresses import resolve
from memberlist.cli.join import printable
from memberlist.cli.options import add_secrets, keyring, parse_address
from memberlist.entry import address_text
from memberlist.errors import ConfigError, JoinError, MemberlistError, reason
from memberlist.messages import Error, PushNodeState, PushPull, State
from memberlist.packet import Wire
from memberlist.streams import exchange


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "members",
        help="ask one member whom it knows",
        description="Exchange states over TCP with one member, without becoming one, and print its list.",
    )
    parser.add_argument("address", metavar="HOST[:PORT]")
    add_secrets(parser)
    parser.add_argument("--timeout", type=float, default=3.0, metavar="S", help="seconds; default: 3")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0, or 1 if no list came back, or 2 if the arguments are wrong."""
    try:
        if not 0 < args.timeout <= 3600:
            raise ConfigError("--timeout: from 0 to 3600 seconds")
        wire = Wire(keyring(args), args.label)
        host, port = parse_address(args.address, "HOST")
    except (MemberlistError, OSError) as problem:
        print(f"memberlist members: {problem}", file=sys.stderr)
        return 2
    try:
        states = trio.run(ask, host, port, wire, args.timeout)
    except (MemberlistError, OSError) as problem:
        print(f"memberlist members: {args.address}: {reason(problem)}", file=sys.stderr)
        return 1
    for state in sorted(states, key=lambda state: state.name):
        print(json.dumps(describe(state)) if args.json else line(state))
    return 0


async def ask(host: str, port: int, wire: Wire, timeout: float) -> tuple[PushNodeState, ...]:
    """Raises MemberlistError and OSError."""
    problem: Exception | None = None
    for to in await resolve(host, port):
        try:
            answer = await exchange(to, PushPull(join=False, nodes=()), wire, timeout=timeout)
        except OSError as failure:
            problem = failure
            continue
        match answer:
            case PushPull():
                return answer.nodes
            case Error():
                raise JoinError(f"remote error: {answer.error}")
        raise JoinError("the answer is no member list")
    raise problem or JoinError("no address")


def describe(state: PushNodeState) -> dict[str, Any]:
    try:
        addr = address_text(state.addr)
    except ValueError:
        addr = state.addr.hex()
    return {
        "name": state.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        "addr": addr,
        "port": state.port,
        "incarnation": state.incarnation,
        "state": State(state.state).name.lower() if state.state in tuple(State) else str(state.state),
        "versions": list(state.vsn),
        "meta": None if state.meta is None else state.meta.hex(),
    }


def line(state: PushNodeState) -> str:
    said = describe(state)
    where = f"[{said['addr']}]" if ":" in said["addr"] else said["addr"]
    return (
        f"{printable(said['name'])} {where}:{said['port']} {said['state']} incarnation {said['incarnation']}"
    )
