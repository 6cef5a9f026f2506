"""The failover demo: bring a cluster up on a LAN of namespaces, play the scenarios, report, take it all
down.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
from rich.console import Console

from crier.lab import runs, timeline
from crier.lab.client import ASK_INTERVAL, PROBE_DEADLINE, PROBE_INTERVAL, REQUEST_DEADLINE, REQUEST_INTERVAL
from crier.lab.cluster import Cluster, Settings, machine
from crier.lab.errors import LabError
from crier.lab.kubelet import GRACE
from crier.lab.observe import Observer
from crier.lab.prober import Prober, RoutedProber, Vip
from crier.lab.report import Report
from crier.lab.runs import Run
from crier.lab.scenarios import Director
from crier.lab.timeline import Mark, Row
from crier.lab.view import View, open_view, summary_table

WATCH_INTERVAL: Final = 0.2
PLAIN_WIDTH: Final = 130
FAILED: Final = 1
USAGE_ERROR: Final = 2


@dataclass(frozen=True, slots=True)
class Options:
    settings: Settings
    scenarios: tuple[str, ...]
    runs: int
    seed: int
    report_directory: Path
    json: bool
    color: bool


class Demo:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._started_at = time.monotonic()
        settings = options.settings
        self._report = Report(
            nodes=settings.nodes,
            settings={
                "services": [service.name for service in settings.services],
                "router": settings.router or None,
                "gossip_port": settings.gossip_port,
                "scenarios": list(options.scenarios),
                "runs": options.runs,
                "seed": options.seed,
                "probe_interval_ms": PROBE_INTERVAL * 1000,
                "probe_deadline_ms": PROBE_DEADLINE * 1000,
                "request_interval_ms": REQUEST_INTERVAL * 1000,
                "request_deadline_ms": REQUEST_DEADLINE * 1000,
                "ask_interval_ms": ASK_INTERVAL * 1000,
                "node_grace_s": GRACE,
            },
            machine=machine(),
        )
        self._interrupted: signal.Signals | None = None
        # Figures go to standard output, and with --json nothing else does.
        self._console = Console(
            stderr=options.json,
            no_color=not options.color,
            highlight=False,
            width=None if sys.stdout.isatty() else PLAIN_WIDTH,
        )

    def run(self) -> int:
        """Returns the exit status: 0, 1 when a scenario went wrong, 128 and the signal when interrupted."""
        try:
            trio.run(self._run)
        except* SystemExit:  # rich's way to say that nobody reads what we print any more
            self._report.failure = "the output was closed"
        if self._interrupted is not None:
            return 128 + self._interrupted
        return FAILED if self._report.problems() else 0

    async def _run(self) -> None:
        # From here on a signal only ever ends `_play`; taking everything down is not interrupted.
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            run = runs.create()
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._await_signal, signals, nursery.cancel_scope)
                    await self._play(run)
                    nursery.cancel_scope.cancel()
            finally:
                self._take_down(run)

    async def _await_signal(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for number in signals:
            self._interrupted = signal.Signals(number)
            scope.cancel()

    async def _play(self, run: Run) -> None:
        live = self._options.color and not self._options.json and self._console.is_terminal
        cluster = Cluster(run, self._options.settings)
        with open_view(self._console, self._started_at, live=live) as view:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch_processes, cluster)
                    await self._scenarios(cluster, view, nursery)
                    nursery.cancel_scope.cancel()
            except* LabError as problems:
                self._report.failure = str(_first(problems))
        if self._report.failure is not None:
            self._explain(cluster)
        self._finish(cluster)

    async def _scenarios(self, cluster: Cluster, view: View, nursery: trio.Nursery) -> None:
        await cluster.start(view.say)
        addresses = await cluster.addresses()
        vips = tuple(
            Vip(service, address)
            for service in cluster.settings.services
            for address in addresses[service.name]
        )
        for vip in vips:
            view.say(f"{vip.service.key} is {vip.address} ({vip.service.summary})")
        client_started_at = time.monotonic()
        if cluster.router is None:
            prober = Prober(cluster.processes, cluster.lan, vips)
        else:
            prober = RoutedProber(cluster.processes, cluster.lan, vips, cluster.router)
        observer = Observer(cluster, prober, vips, client_started_at)
        nursery.start_soon(observer.run)
        nursery.start_soon(view.watch, observer)
        director = Director(
            cluster,
            prober,
            observer,
            rng=random.Random(self._options.seed),
            started_at=self._started_at,
            say=view.say,
            nursery=nursery,
        )
        since = client_started_at
        try:
            await director.steady()
            view.say("steady: all speakers agree, the client is content")
            since = time.monotonic()  # the picture leaves out how the cluster came up
            for number in range(1, self._options.runs + 1):
                for name in self._options.scenarios:
                    self._report.scenarios.append(await director.play(name, number))
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(2), suppress(LabError):
                await self._draw(prober, vips, cluster, since)

    async def _draw(self, prober: Prober, vips: tuple[Vip, ...], cluster: Cluster, since: float) -> None:
        segments = await prober.segments(since)
        rows = [
            Row(vip.service.name, vip.address, segments[vip.address].served, segments[vip.address].owners)
            for vip in vips
        ]
        marks = [
            Mark(
                self._started_at + phase.at,
                phase.event,
                {result.address: result.outage_ms for result in phase.vips},
            )
            for scenario in self._report.scenarios
            for phase in scenario.phases()
        ]
        nodes = list(cluster.lan.nodes)
        picture = timeline.render(nodes, rows, marks, since, time.monotonic(), thin=cluster.router is None)
        directory = self._options.report_directory
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "timeline.svg").write_text(picture, encoding="utf-8")

    async def _watch_processes(self, cluster: Cluster) -> None:
        """A program that ends though nobody asked it to is the end of the demo."""
        while True:
            for process in cluster.processes.unexpected_deaths():
                raise LabError(f"{process.name} ended by itself, status {process.popen.returncode}")
            await trio.sleep(WATCH_INTERVAL)

    # -- the end

    def _finish(self, cluster: Cluster) -> None:
        file = self._report.write(self._options.report_directory)
        if self._options.json:
            print(json.dumps(self._report.document()))
        if self._report.scenarios:
            self._console.print(summary_table(self._report))
        for problem in self._report.problems():
            self._say(f"wrong: {problem}")
        took = time.monotonic() - self._started_at
        self._say(f"{took:.0f} s; figures in {file}, picture in {file.with_name('timeline.svg')}")
        if self._options.settings.keep:
            self._keep(cluster)

    def _keep(self, cluster: Cluster) -> None:
        run = cluster.run
        run.keep()
        self._say(f"The LAN stays up as {run.id}.  To enter it:")
        self._say(f"  export KUBECONFIG={cluster.kubeconfig}      # kubectl get svc,nodes")
        routers = [] if cluster.router is None else [cluster.router.host]
        for host in (cluster.lan.client, *routers, *cluster.lan.nodes.values()):
            self._say(f"  {cluster.lan.enter(host.name)} bash      # {host.name}, {host.ipv4} {host.ipv6}")
        self._say(f"Logs are in {cluster.processes.logs}.  To remove it: crier demo --remove {run.id}")

    def _explain(self, cluster: Cluster) -> None:
        """On failure: what the programs said last; all of it is copied beside the report."""
        for process in cluster.processes.all.values():
            if process.name.startswith(("speaker", "controller", "api", "client")) and process.tail():
                self._say(f"--- {process.name}, the end of its log")
                self._say(process.tail())
        logs = self._options.report_directory / "logs"
        shutil.copytree(cluster.processes.logs, logs, dirs_exist_ok=True)
        self._say(f"all logs are in {logs}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _take_down(self, run: Run) -> None:
        owner = run.owner()
        if owner is not None and owner.kept:
            return
        run.remove()


def _first(problems: BaseExceptionGroup[LabError]) -> BaseException:
    problem: BaseException = problems
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


def remove(run_id: str, say: Callable[[str], None]) -> int:
    """Remove a LAN that was kept.  Returns the exit status."""
    for run in runs.all_runs():
        if run.id == run_id:
            owner = run.owner()
            if owner is not None and owner.alive and not owner.kept:
                say(f"crier demo: run {run_id} is in use by process {owner.pid}")
                return FAILED
            run.remove()
            return 0
    kept = ", ".join(run.id for run in runs.kept_runs())
    say(f"crier demo: --remove: there is no run {run_id}; left up are: {kept or 'none'}")
    return USAGE_ERROR
