"""The demo's end of the client process: start it in the client's namespace, ask it, read what it says."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import Any, Final

import trio

from crier.lab.errors import LabError
from crier.lab.lan import Host, Lan
from crier.lab.probes import Segment, Summary
from crier.lab.process import Processes
from crier.lab.router import Router
from crier.lab.services import LabService

ANSWER_PATIENCE: Final = 20.0


@dataclass(frozen=True, slots=True)
class Vip:
    service: LabService
    address: str


@dataclass(frozen=True, slots=True)
class VipState:
    """How the client sees a VIP at this moment."""

    address: str
    good_since: float | None
    """Since when no probe was lost; None while the last one was."""
    owners: tuple[str, ...]
    """Who answered ARP or NDP in the last half second; or the nodes a router sends packets to."""
    served_by: str | None


@dataclass(frozen=True, slots=True)
class VipRecord:
    """What happened to a VIP in a window of time."""

    probes: Summary
    requests: Summary
    asks: Summary
    announcements: tuple[tuple[float, str], ...]
    """Gratuitous frames: when, and who they name."""


@dataclass(frozen=True, slots=True)
class VipSegments:
    served: tuple[Segment, ...]
    owners: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late the measuring side was at worst, in seconds; below `client.LATE` it counts as none."""

    client: float
    backend: float


class Prober:
    def __init__(self, processes: Processes, lan: Lan, vips: tuple[Vip, ...]) -> None:
        self.vips = vips
        command = [sys.executable, "-m", "crier.lab.client"]
        for vip in vips:
            target = {
                "address": vip.address,
                "udp": vip.service.port("UDP"),
                "tcp": vip.service.port("TCP"),
            }
            command += ["--target", json.dumps(target)]
        for host in lan.nodes.values():
            command += ["--mac", f"{host.mac}={host.name}"]
        self.process = processes.start(
            "client", command, namespace=lan.client.netns, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = trio.Lock()

    async def state(self) -> dict[str, VipState]:
        """By address."""
        return {
            entry["address"]: VipState(
                entry["address"],
                entry["good_since"],
                tuple(entry["owners"]),
                entry["served_by"][0] if entry["served_by"] else None,
            )
            for entry in await self._ask("state")
        }

    async def result(self, since: float, until: float) -> tuple[dict[str, VipRecord], Lateness]:
        """Records by address, and how far they are to be trusted."""
        answer = await self._ask("result", since=since, until=until)
        records = {
            entry["address"]: VipRecord(
                **{kind: _summary(entry[kind]) for kind in ("probes", "requests", "asks")},
                announcements=tuple((at, who) for at, who in entry["announcements"]),
            )
            for entry in answer["vips"]
        }
        return records, Lateness(answer["late_max"], answer["waited_max"])

    async def segments(self, since: float) -> dict[str, VipSegments]:
        return {
            entry["address"]: VipSegments(_segments(entry["served"]), _segments(entry["owners"]))
            for entry in await self._ask("segments", since=since)
        }

    async def _ask(self, what: str, **arguments: float) -> Any:
        async with self._lock:
            return await trio.to_thread.run_sync(self._exchange, what, arguments)

    def _exchange(self, what: str, arguments: Mapping[str, float]) -> Any:
        pipe_in, pipe_out = self.process.popen.stdin, self.process.popen.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        line = b""
        try:
            pipe_in.write(json.dumps({"do": what, "with": arguments}).encode() + b"\n")
            pipe_in.flush()
            deadline = time.monotonic() + ANSWER_PATIENCE
            with selectors.DefaultSelector() as selector:
                selector.register(pipe_out, selectors.EVENT_READ)
                while not line.endswith(b"\n"):
                    if not selector.select(deadline - time.monotonic()):
                        raise LabError(f"the client did not answer `{what}` within {ANSWER_PATIENCE:g} s")
                    piece = os.read(pipe_out.fileno(), 1 << 20)
                    if not piece:
                        break
                    line += piece
            return json.loads(line)
        except (OSError, ValueError):
            raise LabError(f"the client is gone\n{self.process.tail()}") from None


class RoutedProber(Prober):
    """Behind a router: what it sends to which nodes, instead of who answers ARP or NDP."""

    def __init__(self, processes: Processes, lan: Lan, vips: tuple[Vip, ...], router: Router) -> None:
        super().__init__(processes, lan, vips)
        self._router = router
        self._nodes = {hop: host.name for host in lan.nodes.values() for hop in _hops(host)}

    async def state(self) -> dict[str, VipState]:
        fib = await trio.to_thread.run_sync(self._router.fib)
        return {
            address: replace(
                state, owners=tuple(sorted({self._nodes.get(hop, hop) for hop in fib.get(address, ())}))
            )
            for address, state in (await super().state()).items()
        }

    async def segments(self, since: float) -> dict[str, VipSegments]:
        found = await super().segments(since)
        return {address: replace(each, owners=()) for address, each in found.items()}


def _hops(host: Host) -> tuple[str, ...]:
    """A node's addresses, as a router's kernel may name them."""
    first, *rest = (int(part, 16) for part in host.mac.split(":"))
    packed = bytes((first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]))
    return str(host.ipv4), str(host.ipv6), str(IPv6Address(b"\xfe\x80" + bytes(6) + packed))


def _summary(fields: dict[str, Any]) -> Summary:
    return Summary(**{**fields, "answerers": tuple(fields["answerers"])})


def _segments(entries: list[Any]) -> tuple[Segment, ...]:
    return tuple(Segment(start, end, tuple(who)) for start, end, who in entries)
