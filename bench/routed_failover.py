"""What a client behind a router loses when something happens to one of the nodes it is sent to.

    python bench/routed_failover.py [--runs 5] [--scenarios power-off stop kill planner]
                                    [--hold 90] [--no-bfd] [--graceful-restart]

Three nodes with the real speaker announce four addresses to FRR, which spreads flows over them (ECMP) and
watches them by BFD, 50 ms x 3.  The client, on the router's other side, has a flow of UDP probes to each
address, 5 ms apart, and asks for a page on a connection of its own 20 times a second.  Services are of policy
Local, so that a packet is answered where the router sends it.

- *outage*: of flows that were at the victim: from the first lost probe to the next one answered; the longest.
- *probes*: lost by those flows; *elsewhere*: by the others.  *pages*: that did not come within 1 s.

`return` and `start` are the same node, or its speaker, coming back: flows move to it.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from crier.lab import runs
from crier.lab.prober import Prober, Vip
from crier.lab.services import LabService, Port
from tests.routed.stage import BACKEND, PORT, UDP_BACKEND, UDP_PORT, AllProcesses, Stage, eventually

ADDRESSES: Final = tuple(f"198.51.100.{number}" for number in range(1, 5))
SERVICE: Final = LabService(
    "web",
    ("IPv4",),
    (Port("http", "TCP", PORT, BACKEND), Port("probe", "UDP", UDP_PORT, UDP_BACKEND)),
    "Local",
    "",
)
CALM: Final = 1.5
"""Seconds without a loss before something is done, and after all is well again."""
SCENARIOS: Final = ("power-off", "stop", "kill", "planner")


@dataclass
class Row:
    outages: list[float] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    elsewhere: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    late: float = 0.0

    def __str__(self) -> str:
        outage = f"{1000 * statistics.median(self.outages):.0f} / {1000 * max(self.outages):.0f}"
        figures = (self.lost, self.elsewhere, self.pages)
        counts = "".join(f"{statistics.median(each):g} / {max(each)}".ljust(16) for each in figures)
        return f"{outage:16}{counts}{1000 * self.late:.0f}"


class Bench:
    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self.stage = stage
        self.victim = ""
        self.rows: dict[str, Row] = {}
        self._furnish(options)
        vips = tuple(Vip(SERVICE, address) for address in ADDRESSES)
        self._prober = Prober(stage.processes, stage.lan, vips)
        self._calm()

    def _furnish(self, options: argparse.Namespace) -> None:
        stage = self.stage
        more = {"holdTime": f"{options.hold}s", "enableGracefulRestart": options.graceful_restart}
        if not options.no_bfd:
            stage.make("BFDProfile", "fast", receiveInterval=50, transmitInterval=50, detectMultiplier=3)
            more["bfdProfile"] = "fast"
        stage.make("BGPPeer", "frr", **stage.towards(stage.frr, **more))
        stage.make("BGPAdvertisement", "ad")
        for number, address in enumerate(ADDRESSES):
            stage.service(f"web{number}", address, local=True)
        self.all_there()

    def all_there(self) -> None:
        eventually(self._fib, lambda found: found == {self.stage.addresses}, within=60)
        bfd = [self.stage.session(node, "frr") for node in self.stage.lan.nodes]
        if any(each.get("bfd") for each in bfd):
            eventually(self._watched, within=60)

    def _watched(self) -> bool:
        return all(self.stage.session(node, "frr").get("bfd") == "Up" for node in self.stage.lan.nodes)

    def _fib(self) -> set[frozenset[str]]:
        known = self.stage.frr.fib()
        return {known.get(address, frozenset()) for address in ADDRESSES}

    def _calm(self) -> None:
        """Until nothing was lost for a while."""

        def good() -> bool:
            now = time.monotonic()
            seen = trio.run(self._prober.state).values()
            return all(vip.good_since is not None and now - vip.good_since > CALM for vip in seen)

        eventually(good, within=60)

    def _serving(self) -> dict[str, str]:
        """Which node the router sends each flow to."""
        return {vip.address: vip.served_by or "" for vip in trio.run(self._prober.state).values()}

    def measure(self, name: str, act: Callable[[], None], settled: Callable[[], None]) -> None:
        self._calm()
        there = {address for address, node in self._serving().items() if node == self.victim}
        time.sleep(os.urandom(1)[0] / 1000)
        began = time.monotonic()
        act()
        settled()
        self._calm()
        records, late = trio.run(self._prober.result, began, time.monotonic())
        row = self.rows.setdefault(name, Row())
        probes = {address: record.probes for address, record in records.items()}
        row.outages.append(max((probes[address].outage for address in there), default=0.0))
        row.lost.append(sum(probes[address].lost for address in there))
        row.elsewhere.append(sum(each.lost for address, each in probes.items() if address not in there))
        row.pages.append(sum(record.requests.lost for record in records.values()))
        row.late = max(row.late, late.client, late.backend)

    # -- what is done to the victim

    def without(self) -> None:
        others = self.stage.addresses - self.stage.at(self.victim)
        eventually(self._fib, lambda found: found == {others}, within=120)

    def expect(self) -> None:
        for name, process in self.stage.processes.all.items():
            process.expected = process.expected or name.endswith(self.victim)

    def power_off(self) -> None:
        self.expect()
        self.stage.lan.power_off(self.victim)

    def power_on(self) -> None:
        self.stage.lan.power_on(self.victim)
        self.stage.start_node(self.victim)

    def end_speaker(self, number: signal.Signals) -> None:
        speaker = self.stage.processes.all[f"speaker-{self.victim}"]
        speaker.expected = True
        pids = [self.stage.planner(self.victim)] if number is signal.SIGKILL else []
        speaker.send(number)
        for pid in pids:
            os.kill(pid, number)

    def start_speaker(self) -> None:
        self.stage.processes.all[f"speaker-{self.victim}"].popen.wait(15)
        self.stage.start_speaker(self.victim)

    def play(self, scenario: str) -> None:
        """To the node with the most flows."""
        self._calm()
        ((self.victim, _),) = Counter(self._serving().values()).most_common(1)
        match scenario:
            case "power-off":
                self.measure("power-off", self.power_off, self.without)
                self.measure("power-off: return", self.power_on, self.all_there)
            case "stop":
                self.measure("SIGTERM of the speaker", lambda: self.end_speaker(signal.SIGTERM), self.without)
                self.measure("SIGTERM: start", self.start_speaker, self.all_there)
            case "kill":
                self.measure("SIGKILL of the speaker", lambda: self.end_speaker(signal.SIGKILL), self.without)
                self.measure("SIGKILL: start", self.start_speaker, self.all_there)
            case _:
                self.measure(
                    "SIGKILL of the planner", lambda: self.stage.kill_planner(self.victim), self.all_there
                )


@contextmanager
def bench(options: argparse.Namespace) -> Iterator[Bench]:
    run = runs.create()
    try:
        yield Bench(Stage(run, AllProcesses(run)), options)
    finally:
        run.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument(
        "--hold", type=int, default=90, metavar="SECONDS", help="hold time of the sessions (90)"
    )
    parser.add_argument("--no-bfd", action="store_true")
    parser.add_argument("--graceful-restart", action="store_true")
    options = parser.parse_args()
    began = os.getloadavg()[0]
    with bench(options) as played:
        for _ in range(options.runs):
            for scenario in options.scenarios:
                played.play(scenario)
    detection = "no BFD" if options.no_bfd else "BFD 50 ms x 3"
    print(f"FRR as the router, {detection}, hold time {options.hold} s, {options.runs} runs; median / worst")
    titles = (("", 26), ("outage, ms", 16), ("probes", 16), ("elsewhere", 16), ("pages", 16), ("late, ms", 0))
    print("".join(f"{title:{width}}" for title, width in titles))
    for name, row in played.rows.items():
        print(f"{name:26}{row}")
    print(f"load {began:.1f} to {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
