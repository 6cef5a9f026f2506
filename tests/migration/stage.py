"""A lab cluster with a client that watches it, until all is well."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from crier.lab import runs
from crier.lab.cluster import Cluster, Settings
from crier.lab.errors import LabError
from crier.lab.observe import Snapshot, decode_status, wire_trouble
from crier.lab.prober import Prober, Vip, VipRecord

PATIENCE = 60.0
HOLD = 0.5
"""Seconds that all must stay well."""
SETTLE = 0.3
"""Seconds after which the last answers are in."""
METALLB_JOIN = re.compile(r'"node event":"NodeJoin","node name":"([^"]+)"')


@dataclass(slots=True)
class Stage:
    cluster: Cluster
    prober: Prober
    vips: tuple[Vip, ...]

    async def owners(self, live: frozenset[str] | None = None) -> dict[str, str]:
        """Who answers for each VIP, once exactly one living node does and the client is content."""
        names = frozenset(self.cluster.lan.nodes) if live is None else live
        deadline = time.monotonic() + PATIENCE
        well_since: float | None = None
        while True:
            begun_at = time.monotonic()
            states = await self.prober.state()
            wrong = wire_trouble(Snapshot(begun_at, {}, states), names)
            if wrong is not None:
                well_since = None
            elif well_since is None:
                well_since = begun_at
            elif begun_at - well_since >= HOLD:
                return {address: state.owners[0] for address, state in states.items()}
            if time.monotonic() > deadline:
                raise LabError(f"after {PATIENCE:g} s {wrong}\n{logs(self.cluster)}")
            await trio.sleep(0.05)

    async def owners_become(self, wanted: dict[str, str]) -> None:
        """Returns once it is these who answer, and nobody else."""
        deadline = time.monotonic() + PATIENCE
        while (found := await self.owners()) != wanted:
            if time.monotonic() > deadline:
                raise LabError(f"{found} answer, not {wanted}\n{logs(self.cluster)}")

    async def start_speaker(self, node: str) -> None:
        """Returns once it and all others have found one another by gossip."""
        speakers = {name: self.cluster.speaker(name) for name in self.cluster.lan.nodes}
        begins = {name: speaker.log.stat().st_size for name, speaker in speakers.items()}
        self.cluster.start_speaker(node)
        deadline = time.monotonic() + PATIENCE
        unfound = {pair for other in speakers.keys() - {node} for pair in ((node, other), (other, node))}
        while unfound:
            for who in {who for who, _ in unfound}:
                found = await self._found_by(who, begins[who])
                unfound -= {(who, name) for name in found}
            if time.monotonic() > deadline:
                raise LabError(f"not found by gossip: {unfound}\n{logs(self.cluster)}")
            await trio.sleep(0.05)

    async def _found_by(self, who: str, begins: int) -> set[str]:
        """Ours tells whom it reaches at /status, MetalLB's in its log, of which `begins` octets are old."""
        document = await self.cluster.status(who)
        if document is None:
            text = self.cluster.speaker(who).log.read_bytes()[begins:].decode(errors="replace")
            return set(METALLB_JOIN.findall(text))
        status = decode_status(document)
        return set(status.reachable) if status.synced and status.joined else set()

    async def records(self, since: float) -> dict[str, VipRecord]:
        """What the client saw since then."""
        until = time.monotonic()
        await trio.sleep(SETTLE)
        return (await self.prober.result(since, until))[0]


def logs(cluster: Cluster) -> str:
    """The last words of controller and speakers."""
    return "\n".join(
        f"{name}: {process.tail(4)}"
        for name, process in cluster.processes.all.items()
        if name.startswith(("controller", "speaker"))
    )


@asynccontextmanager
async def open_stage(settings: Settings) -> AsyncIterator[Stage]:
    """The cluster, up and with all addresses given; all of it goes at the end."""
    run = runs.create()
    cluster = None
    try:
        cluster = Cluster(run, settings)
        try:
            await cluster.start(lambda _: None)
        except LabError as problem:
            raise LabError(f"{problem}\n{logs(cluster)}") from None
        found = await cluster.addresses()
        vips = tuple(
            Vip(service, address) for service in settings.services for address in found[service.name]
        )
        yield Stage(cluster, Prober(cluster.processes, cluster.lan, vips), vips)
    finally:
        if cluster is not None:
            for process in cluster.processes.all.values():
                process.expected = True
        run.remove()
        for process in cluster.processes.all.values() if cluster is not None else ():
            with process.popen:  # closes its pipes and waits for it
                process.popen.wait(PATIENCE)
