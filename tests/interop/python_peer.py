"""Our member, driven by lines of JSON like the Go peer: the same commands, the same events.

Settings come under the names of hashicorp/memberlist's Config, so that one scenario serves both.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import trio

from memberlist import Config, Delegate, Keyring, Member, open_member
from memberlist.events import (
    Conflict,
    Died,
    Event,
    Joined,
    Lagged,
    Left,
    Node,
    Reachable,
    Refuted,
    Suspected,
    Unreachable,
    Updated,
    UserMessage,
)

Line: TypeAlias = dict[str, Any]

EVENTS: Final[dict[type[Any], str]] = {
    Joined: "join",
    Updated: "update",
    Died: "leave",  # Go's event delegate does not tell the two apart
    Left: "leave",
    Suspected: "suspect",
    Refuted: "refuted",
    Unreachable: "unreachable",
    Reachable: "reachable",
}

INVERTED: Final = {"DisableTcpPings": "tcp_pings"}
RENAMED: Final = {
    "EnableCompression": "compress",
    "GossipVerifyIncoming": "verify_incoming",
    "GossipVerifyOutgoing": "verify_outgoing",
    "AwarenessMaxMultiplier": "awareness_max",
    "TCPTimeout": "tcp_timeout",
    "UDPBufferSize": "udp_buffer_size",
}
UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}


def say(line: Line) -> None:
    data = json.dumps(line).encode() + b"\n"
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


def event(kind: str, **fields: Any) -> None:
    say({"event": kind, "at": time.time(), **fields})


def record(node: Node) -> Line:
    return {
        "name": node.name,
        "address": node.address,
        "port": node.port,
        "meta": (node.meta or b"").hex(),
        "state": int(node.state),
        "reachable": node.reachable,
        "incarnation": node.incarnation,
    }


def show(happened: Event) -> None:
    match happened:
        case UserMessage():
            pass  # the delegate has it
        case Lagged(count):
            event("lagged", count=count)
        case Conflict(node, other_address, other_port):
            other = {"name": node.name, "address": other_address, "port": other_port}
            event("conflict", existing=record(node), other=other)
        case _:
            event(EVENTS[type(happened)], node=record(happened.node), how=type(happened).__name__)


class Application(Delegate):
    """Reports every hook, and answers from the start command."""

    def __init__(self, start: Line) -> None:
        self.meta = octets(start.get("meta"))
        self.state = octets(start.get("state")) or b""
        self.payload = octets(start.get("ack_payload"))
        self.refusal: str | None = start.get("refuse_merge")

    def node_meta(self, limit: int) -> bytes | None:
        return self.meta

    def notify_message(self, payload: bytes) -> None:
        event("user", payload=payload.hex())

    def local_state(self, join: bool) -> bytes:
        return self.state

    def merge_remote_state(self, state: bytes, join: bool) -> None:
        event("state", state=state.hex(), join=join)

    def refuse_merge(self, nodes: tuple[Node, ...]) -> str | None:
        event("merge", nodes=[record(node) for node in nodes])
        return self.refusal

    def ack_payload(self) -> bytes | None:
        return self.payload

    def ping_complete(self, node: Node, rtt: float, payload: bytes | None) -> None:
        event("ping", node=record(node), rtt=rtt, payload=(payload or b"").hex())


def octets(digits: str | None) -> bytes | None:
    return None if digits is None else bytes.fromhex(digits)


def seconds(text: str) -> float:
    """A duration as Go writes it, of one unit."""
    found = re.fullmatch(r"([\d.]+)(ms|s|m)", text)
    if found is None:
        raise ValueError(f"{text!r} is no duration")
    return float(found[1]) * UNITS[found[2]]


def config_of(start: Line) -> Config:
    given = dict(start.get("settings", {}))
    settings: Line = {
        "bind": (given.pop("BindAddr"), given.pop("BindPort")),
        "watch": start.get("watch", False),
    }
    versions = [given.pop(f"DelegateProtocol{which}", 0) for which in ("Min", "Max", "Version")]
    settings["delegate_version"] = tuple(versions)
    for name, value in given.items():
        if name in INVERTED:
            settings[INVERTED[name]] = not value
        else:
            ours = RENAMED.get(name) or re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
            timed = ours.endswith(("_interval", "_timeout", "_time"))
            settings[ours] = seconds(value) if timed else value
    keys = [octets(key) for key in (start.get("secret_key"), *start.get("keys", ())) if key]
    if keys:
        settings["keyring"] = Keyring(key for key in keys if key)
    profile: Callable[..., Config] = getattr(Config, start.get("profile", "lan"))
    return profile(**settings)


class Commands:
    """One method a command; the line's other fields are its arguments."""

    def __init__(self, member: Member, application: Application, keyring: Keyring | None) -> None:
        self.member, self.application, self.keyring = member, application, keyring

    async def join(self, addresses: list[str]) -> int:
        return await self.member.join(addresses)

    async def leave(self, timeout: str = "10s") -> None:
        await self.member.leave(seconds(timeout))

    async def members(self) -> list[Line]:
        return [record(node) for node in self.member.members()]

    async def stats(self) -> Line:
        member = self.member
        return {
            "health": member.health,
            "members": len(member.members()),
            "packets_dropped": member.statistics().packets_dropped,
            "late_max": member.statistics().late_max,
        }

    async def send(self, to: str, payload: str, reliable: bool = False) -> None:
        if reliable:
            await self.member.send_reliable(to, bytes.fromhex(payload))
        else:
            self.member.send(to, bytes.fromhex(payload))

    async def meta(self, meta: str, timeout: str = "10s") -> None:
        self.application.meta = octets(meta)
        await self.member.update(seconds(timeout))

    async def key(self, action: str, key: str) -> int:
        if self.keyring is None:
            raise ValueError("started without a key")
        {"add": self.keyring.add, "use": self.keyring.use, "remove": self.keyring.remove}[action](
            bytes.fromhex(key)
        )
        return len(self.keyring)


async def lines() -> Any:
    """Standard input, a line at a time."""
    buffer = bytearray()
    async for chunk in trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())):
        buffer += chunk
        *whole, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        for text in whole:
            yield json.loads(text)


async def answer(number: int, work: Awaitable[Any]) -> None:
    try:
        say({"id": number, "result": await work})
    except Exception as problem:  # noqa: BLE001 (whatever it is, the test wants to read it)
        say({"id": number, "error": f"{type(problem).__name__}: {problem}"})


async def main() -> None:
    event("ready", library="ours", pid=os.getpid())
    commands = lines()
    start = await anext(commands)
    application = Application(start)
    config = config_of(start)
    async with open_member(config, delegate=None if start.get("bare") else application) as member:
        member.observe(show)
        me = next(node for node in member.members() if node.name == config.name)
        event("join", node=record(me), how="Joined")  # as the Go library does
        say({"id": start["id"], "result": record(me)})
        verbs = Commands(member, application, config.keyring)
        async with trio.open_nursery() as nursery:
            async for line in commands:
                number, verb = line.pop("id"), line.pop("command")
                nursery.start_soon(answer, number, getattr(verbs, verb)(**line))
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
