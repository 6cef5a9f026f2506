"""What a client on the LAN sees of failover: Crier beside MetalLB and keepalived, one after another.

    python bench/failover.py [--json FILE] [--runs 20] [--systems crier,metallb,keepalived,keepalived-30ms]
                             [--rows power-off,power-off-10,power-off-flood,kill,stop,return,return-10,
                                     carrier,carrier-only] [--logs DIR]

Root.  Each system gets a LAN of namespaces with one VIP; every run waits until exactly one node answers and
the client has lost nothing for a second, does something to that node, waits until all is well without it, and
brings it back.  Nothing is retried and nothing left out.  The client: see `crier/lab/client.py`.  In the row
power-off-flood another host asks ARP for the VIP as often as its processor lets it, all the while.  In the
row carrier the nodes talk to each other over a second interface, and the one that announces loses its link;
in carrier-only it is the only one.

A row is a scenario and a number of nodes; the rows of one lab take turns, run by run.  With `--json` every
sample is kept as it comes, and runs that are in the file already are not made again: an interrupted bench
goes on where it was, and rows may be added.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Protocol

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import arp as arp_frames
from crier.lab import runs
from crier.lab.cluster import Cluster, Programs, Settings, check_machine, machine
from crier.lab.errors import LabError
from crier.lab.kubelet import GRACE
from crier.lab.lan import Host, Lan
from crier.lab.observe import Snapshot, decode_status, trouble, wire_trouble
from crier.lab.peers import keepalived, metallb
from crier.lab.prober import Prober, Vip
from crier.lab.process import LabProcess, Processes
from crier.lab.runs import Run
from crier.lab.services import CATALOGUE

LOOK_INTERVAL: Final = 0.1
HOLD: Final = 0.5
"""Seconds that all must stay well; a speaker's second thoughts come sooner."""
PATIENCE: Final = 180.0
SETTLE: Final = 0.2
"""Seconds after the last good look, so that the last answers are in."""
SYSTEMS: Final = ("crier", "metallb", "keepalived", "keepalived-30ms")
SCENARIOS: Final = {
    "power-off": ("power-off", 3),
    "power-off-10": ("power-off", 10),
    "power-off-flood": ("power-off-flood", 3),
    "kill": ("kill", 3),
    "stop": ("stop", 3),
    "return": ("partition", 3),
    "return-10": ("partition", 10),
    "carrier": ("carrier", 3),
    "carrier-only": ("carrier-only", 3),
}
"""Row: what is done, and among how many nodes."""
MANY: Final = 10
FLOODED: Final = 1.0
"""Seconds between the start of a flood and the power-off."""
STRANGER: Final = 66
"""Last part of the address of the host that floods."""
FABRIC: Final = {"carrier"}
"""Scenarios on nodes that have a second network among themselves."""
NOTICED: Final = {"power-off", "power-off-flood"}
"""Scenarios long enough for a cluster to call the node NotReady; a cut ends before (40 s, by default)."""
CUTS: Final = {"partition", "carrier-only"}
CUT: Final = 10.0
"""Seconds that those last at least: by then gossip on each side has declared the other dead, which makes the
return the harder."""
_KERNELS: Final = "its address is the kernel's: no speaker could end and leave the node serving"
NOT_MEASURED: Final = {
    **{
        (name, scenario): why
        for name in ("keepalived", "keepalived-30ms")
        for scenario, why in {
            "kill": _KERNELS,
            "stop": _KERNELS,
            "carrier": "the lab sets it up on one network only",
            "carrier-only": "VRRP and the address share an interface: see the silent cut",
            "power-off-flood": "the kernel answers ARP for it",
        }.items()
    },
    (
        "metallb",
        "carrier",
    ): "it does not look at the link; nobody answered within 40 s, which was all we waited",
}


class System(Protocol):
    """What the bench needs of a cluster."""

    lan: Lan
    processes: Processes

    async def start(self, say: Callable[[str], None]) -> None: ...
    async def addresses(self) -> dict[str, list[str]]: ...
    def start_speaker(self, name: str) -> object: ...
    async def stop_speaker(self, node: str) -> None: ...
    def kill_speaker(self, node: str) -> None: ...
    def power_off(self, node: str) -> None: ...
    async def power_on(self, node: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing done to one node, or undone; times in ms."""

    system: str
    nodes: int
    scenario: str
    number: int
    undone: bool
    """The node came back."""
    at: float
    """CLOCK_MONOTONIC, as the programs' logs have it not: see `clock`."""
    clock: str
    node: str
    outage: float
    """The longest time without an answered probe."""
    lost: int
    unanswered: float
    """The longest time in which somebody who asks ARP anew gets no answer."""
    shared: float
    """The longest time in which two nodes answered ARP."""
    steady: float
    """Until all was well, the second of watching included."""
    client_late: float
    """How late the client's loop was at worst; it says nothing about times shorter than this."""
    backend_late: float
    """How long a probe lay unread in a backend's socket at worst."""
    load: float


@dataclass(frozen=True, slots=True, order=True)
class Lab:
    nodes: int
    fabric: bool

    @classmethod
    def of(cls, row: str) -> Lab:
        scenario, nodes = SCENARIOS[row]
        return cls(nodes, scenario in FABRIC)


class Bench:
    """One system, up for the length of `play`."""

    def __init__(self, name: str, lab: Lab, run: Run, rng: random.Random, programs: Programs | None) -> None:
        self.name = name
        self.nodes = nodes = lab.nodes
        self.samples: list[Sample] = []
        self._rng = rng
        self._system: System
        self._cluster: Cluster | None = None
        if name.startswith("keepalived"):
            self._service = keepalived.SERVICE
            self._system = keepalived.Keepalived(run, nodes, 0.03 if name.endswith("-30ms") else None)
        else:
            self._service = CATALOGUE["web"]
            settings = Settings(nodes, (self._service,), programs=programs, fabric=lab.fabric)
            self._system = self._cluster = Cluster(run, settings)
        self._live = set(self._system.lan.nodes)
        self._prober: Prober
        self._stranger: Host | None = None
        self._floods = 0

    async def play(self, wanted: Sequence[tuple[str, int]], done: Callable[[Sequence[Sample]], None]) -> None:
        """`wanted`: scenarios and the numbers of their runs; `done` gets each run's samples."""
        await self._system.start(lambda text: print(f"{self.name}: {text}", file=sys.stderr))
        (addresses,) = (await self._system.addresses()).values()
        vips = tuple(Vip(self._service, address) for address in addresses)
        self._prober = Prober(self._system.processes, self._system.lan, vips)
        for scenario, number in wanted:
            self.samples.clear()
            await self._once(scenario, number)
            done(self.samples)

    async def _once(self, scenario: str, number: int) -> None:
        owner = await self._steady(None)
        flood = self._flood() if scenario == "power-off-flood" else None
        await trio.sleep(FLOODED if flood is not None else 0)
        await trio.sleep(self._rng.uniform(0, 1))  # no moment of a protocol's period is preferred
        self._live.discard(owner)
        begun_at = time.monotonic()
        await self._phase(scenario, number, owner, undone=False)
        if flood is not None:
            flood.expected = True
            flood.send(signal.SIGKILL)
            await flood.wait(PATIENCE)
        if scenario in NOTICED and self._cluster is not None:
            await trio.sleep(max(0.0, begun_at + GRACE - time.monotonic()))
            await self._set_ready(owner, False)
        if scenario in CUTS:
            await trio.sleep(max(0.0, begun_at + CUT - time.monotonic()))
        self._live.add(owner)
        await self._phase(scenario, number, owner, undone=True)

    def _flood(self) -> LabProcess:
        lan = self._system.lan
        self._stranger = self._stranger or lan.plug_in("stranger", STRANGER)
        (address,) = (vip.address for vip in self._prober.vips)
        command = [sys.executable, str(Path(__file__).resolve()), "--flood", address]
        self._floods += 1
        return self._system.processes.start(f"flood-{self._floods}", command, namespace=self._stranger.netns)

    async def _phase(self, scenario: str, number: int, node: str, *, undone: bool) -> None:
        act = self._undo(scenario, node) if undone else self._do(scenario, node)
        load = os.getloadavg()[0]
        clock = time.strftime("%H:%M:%S") + f"{time.time() % 1:.3f}"[1:]
        at = time.monotonic()
        await act()
        # told by the wire alone where the node is still a member, and rightly
        await self._steady(node if undone else None, by_wire=scenario in FABRIC and not undone)
        took = time.monotonic() - at
        await trio.sleep(SETTLE)
        records, late = await self._prober.result(at, time.monotonic())
        (record,) = records.values()
        sample = Sample(
            self.name, self.nodes, scenario, number, undone, round(at, 3), clock, node,
            outage=round(record.probes.outage * 1000, 1), lost=record.probes.lost,
            unanswered=round(record.asks.outage * 1000, 1), shared=round(record.asks.shared * 1000, 1),
            steady=round(took * 1000), client_late=round(late.client * 1000, 1),
            backend_late=round(late.backend * 1000, 1), load=round(load, 1),
        )  # fmt: skip
        self.samples.append(sample)
        print(
            f"{clock} {self.name} {scenario}{' undone' if undone else ''} {number}, {node}: "
            f"outage {sample.outage:g} ms, lost {sample.lost}, ARP gap {sample.unanswered:g} ms, "
            f"two owners {sample.shared:g} ms, steady after {sample.steady:g} ms, load {sample.load:g}"
            + (f", client {sample.client_late:g} ms late" if late.client else "")
            + (f", a backend {sample.backend_late:g} ms late" if late.backend else ""),
            file=sys.stderr, flush=True,
        )  # fmt: skip

    def _do(self, scenario: str, node: str) -> Callable[[], Awaitable[None]]:
        async def do() -> None:
            match scenario:
                case "power-off" | "power-off-flood":
                    self._system.power_off(node)
                case "kill":
                    self._system.kill_speaker(node)
                case "stop":
                    await self._system.stop_speaker(node)
                case "partition":
                    self._system.lan.cut(node, silent=True)
                case "carrier" | "carrier-only":
                    self._system.lan.cut(node)

        return do

    def _undo(self, scenario: str, node: str) -> Callable[[], Awaitable[None]]:
        async def undo() -> None:
            match scenario:
                case "power-off" | "power-off-flood":
                    await self._system.power_on(node)
                case "kill" | "stop":
                    self._system.start_speaker(node)
                case "partition" | "carrier" | "carrier-only":
                    self._system.lan.heal(node)
            if scenario in NOTICED:
                await self._set_ready(node, True)

        return undo

    async def _set_ready(self, node: str, ready: bool) -> None:
        if self._cluster is not None:
            await trio.to_thread.run_sync(self._cluster.kubelet.set_ready, node, ready)

    async def _steady(self, owner: str | None, *, by_wire: bool = False) -> str:
        """Wait until one living node (`owner`, if given) has answered alone and well for `HOLD`.

        Returns who.  Raises LabError after `PATIENCE`.
        """
        good_since: float | None = None
        why: str | None = "nothing was seen yet"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if dead := self._system.processes.unexpected_deaths():
                raise LabError(f"{dead[0].name} ended by itself\n{dead[0].tail()}")
            begun_at = time.monotonic()
            by_wire = by_wire or self.name != "crier"
            snapshot = await self._look(begun_at, by_wire)
            (vip,) = snapshot.vips.values()
            live = frozenset(self._live)
            why = wire_trouble(snapshot, live) if by_wire else trouble(snapshot, live)
            if why is None and owner not in (None, *vip.owners):
                why = f"{vip.owners[0]} answers and not yet {owner}"
            if why is not None:
                good_since = None
            elif good_since is None:
                good_since = begun_at
            elif begun_at - good_since >= HOLD:
                return vip.owners[0]
            await trio.sleep(LOOK_INTERVAL)
        raise LabError(f"{self.name}: not steady after {PATIENCE:g} s: {why}")

    async def _look(self, begun_at: float, by_wire: bool) -> Snapshot:
        vips = await self._prober.state()
        if by_wire or wire_trouble(Snapshot(begun_at, {}, vips), frozenset(self._live)):
            return Snapshot(begun_at, {}, vips)  # speakers are not disturbed while things are moving
        speakers = {}
        assert self._cluster is not None
        for node in self._live:
            document = await self._cluster.status(node)
            speakers[node] = None if document is None else decode_status(document)
        return Snapshot(begun_at, speakers, vips)


# -- the tables

Figure = Callable[[Sample], float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    what: str
    scenarios: tuple[str, ...]
    undone: bool
    figure: Figure
    """In ms, or a number of probes."""
    goal: str
    nodes: int = 3


LINES: Final = (
    Line("power-off: client's outage", ("power-off",), False, lambda s: s.outage, "250 / 500"),
    Line("same, 10 nodes: client's outage", ("power-off",), False, lambda s: s.outage, "250 / 500", MANY),
    Line(
        "same, 3 nodes, ARP flood: client's outage", ("power-off-flood",), False, lambda s: s.outage, "+ 20"
    ),
    Line("SIGKILL: who asks ARP anew gets no answer", ("kill",), False, lambda s: s.unanswered, "250 / 500"),
    Line("SIGKILL: probes lost by who knows the MAC", ("kill",), False, lambda s: s.lost, "0"),
    Line("SIGTERM: ARP gap", ("stop",), False, lambda s: s.unanswered, "- / 50"),
    Line("SIGTERM: probes lost", ("stop",), False, lambda s: s.lost, "0"),
    Line("speaker starts again: probes lost", ("kill", "stop"), True, lambda s: s.lost, "0"),
    Line("silent cut: client's outage", ("partition",), False, lambda s: s.outage, "250 / 500"),
    Line("same, 10 nodes: client's outage", ("partition",), False, lambda s: s.outage, "250 / 500", MANY),
    Line("cut node returns: two owners answer", ("partition",), True, lambda s: s.shared, "200 / 500"),
    Line("cut node returns: probes lost", ("partition",), True, lambda s: s.lost, "0"),
    Line("same, 10 nodes: two owners answer", ("partition",), True, lambda s: s.shared, "200 / 500", MANY),
    Line("same, 10 nodes: probes lost", ("partition",), True, lambda s: s.lost, "0", MANY),
    Line("carrier loss: client's outage", ("carrier",), False, lambda s: s.outage, "150 / 300"),
    Line("carrier back: two owners answer", ("carrier",), True, lambda s: s.shared, "-"),
    Line("carrier back: probes lost", ("carrier",), True, lambda s: s.lost, "0"),
    Line("the only link lost: client's outage", ("carrier-only",), False, lambda s: s.outage, "250 / 500"),
    Line("the only link back: two owners answer", ("carrier-only",), True, lambda s: s.shared, "200 / 500"),
    Line("the only link back: probes lost", ("carrier-only",), True, lambda s: s.lost, "0"),
)  # fmt: skip


def table(samples: Sequence[Sample]) -> str:
    """Median / worst (runs) of every line and system, as Markdown."""
    systems = [name for name in SYSTEMS if any(s.system == name for s in samples)]
    lines = [
        f"| ms, or probes; median / worst (runs) | {' | '.join(systems)} | goal |",
        "|---" * (len(systems) + 2) + "|",
    ]
    for line in LINES:
        cells = []
        for system in systems:
            values = [
                line.figure(s)
                for s in samples
                if (s.system, s.nodes, s.undone) == (system, line.nodes, line.undone)
                and s.scenario in line.scenarios
            ]
            cells.append(
                f"{statistics.median(values):.0f} / {max(values):.0f} ({len(values)})" if values else "-"
            )
        if any(cell != "-" for cell in cells):
            lines.append(f"| {line.what} | {' | '.join(cells)} | {line.goal} |")
    lines += ["", *_reasons(systems)]
    late = max((max(s.client_late, s.backend_late) for s in samples), default=0)
    lines += [
        "",
        f"The measuring side (client, backends) was {late:g} ms late at worst; below 20 is not told.",
    ]
    return "\n".join(lines)


def _reasons(systems: Sequence[str]) -> Iterable[str]:
    for (system, scenario), why in NOT_MEASURED.items():
        if system in systems:
            yield f"{system}, {scenario}: not measured, {why}."


def missing(
    samples: Sequence[Sample], system: str, lab: Lab, rows: Sequence[str], times: int
) -> list[tuple[str, int]]:
    """Scenarios and numbers of the runs that are still to be made in one lab.

    Its scenarios take turns, so that an interruption, or a time of high load, is everybody's.
    """
    have = {
        (s.scenario, s.number) for s in samples if (s.system, s.nodes) == (system, lab.nodes) and s.undone
    }
    scenarios = [SCENARIOS[row][0] for row in rows if Lab.of(row) == lab]
    return [
        (scenario, number)
        for number in range(1, times + 1)
        for scenario in scenarios
        if (scenario, number) not in have and (system, scenario) not in NOT_MEASURED
    ]


class Book:
    """The samples, in a file if there is one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.samples: list[Sample] = []
        if file is not None and file.exists():
            self.samples = [Sample(**each) for each in json.loads(file.read_text(encoding="utf-8"))]

    def add(self, samples: Sequence[Sample]) -> None:
        self.samples += samples
        if self._file is not None:
            new = self._file.with_suffix(".new")
            new.write_text(json.dumps([asdict(s) for s in self.samples], indent=1), encoding="utf-8")
            new.rename(self._file)


def measure(
    name: str, lab: Lab, wanted: Sequence[tuple[str, int]], book: Book, seed: int, keep_logs: Path | None
) -> str | None:
    """What ended the bench early, if something did."""
    programs = metallb.programs(lambda text: print(text, file=sys.stderr)) if name == "metallb" else None
    run = runs.create()
    try:
        trio.run(Bench(name, lab, run, random.Random(seed), programs).play, wanted, book.add)
    except LabError as problem:
        return f"{name}, {lab.nodes} nodes: {problem}"
    finally:
        if keep_logs is not None:
            _copy_logs(
                run.directory / "logs", keep_logs / f"{name}-{lab.nodes}{'-fabric' if lab.fabric else ''}"
            )
        run.remove()
    return None


def flood(address: str) -> None:
    """For ever: ask who has it, with a new asker each time."""
    target = ip_address(address).packed
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", arp_frames.ETH_P_ARP))
        frames = [arp_frames.question(number, target) for number in range(1024)]
        while True:
            for frame in frames:
                with suppress(BlockingIOError):
                    sock.send(frame)


def _copy_logs(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.log"):
        (target / file.name).write_bytes(file.read_bytes())


def _names(allowed: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(","))
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
        return names

    return parse


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rows", type=_names(SCENARIOS), default=tuple(SCENARIOS))
    parser.add_argument("--systems", type=_names(SYSTEMS), default=SYSTEMS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="every single sample is kept here, and not made again")
    parser.add_argument("--logs", type=Path, help="the programs' logs go here")
    parser.add_argument("--flood", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood is not None:
        flood(options.flood)
    check_machine()
    book = Book(options.json)
    problems = []
    for lab in sorted({Lab.of(row) for row in SCENARIOS}):
        for name in options.systems:
            wanted = missing(book.samples, name, lab, options.rows, options.runs)
            if wanted:
                problem = measure(name, lab, wanted, book, options.seed, options.logs)
                problems += [problem] if problem is not None else []
    where = ", ".join(f"{key} {value}" for key, value in machine().items())
    print(f"seed {options.seed}; {where}\n\n{table(book.samples)}")
    for problem in problems:
        print(f"ended early, to be gone on with: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
