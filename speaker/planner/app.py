"""The planner: watches Kubernetes, decides who may answer for what, and gives the reflex its standing orders.

Nothing here is in the path of a packet.  When this process ends, stalls or cannot reach the API, the
orders given last stay in force and the reflex goes on deciding by gossip.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final

import trio

from crier import __version__
from crier.kube.client import Api
from crier.kube.events import Recorder
from crier.kube.model.states import Condition
from crier.kube.transport import NoCluster
from crier.kube.watch import backoff
from crier.ops import http, logs, process, scrape
from crier.ops.http import Handler, Response
from crier.ops.lifecycle import stop_on_signal
from crier.ops.metrics import CONTENT_TYPE
from crier.ops.scrape import BadTls, Tls
from speaker import settings as speaker_settings
from speaker.orders import BadOrder, Bfd, BfdPeer, Happened, Hello, Orders, Pulse, Seeds, Vip
from speaker.planner import bgpmetrics, configstate, documents, events, host
from speaker.planner.configuration import Keeper
from speaker.planner.derived import Derived
from speaker.planner.heap import keep_collections_short, keep_heap
from speaker.planner.link import Link, ReflexGone, fit
from speaker.planner.metrics import Metrics
from speaker.planner.plan import Plan, Planner, Rules
from speaker.planner.reflex import Reflex
from speaker.planner.report import Announced, Assigned, NoInterface, Reporter, Withdrawn
from speaker.planner.routed import Routed
from speaker.planner.sources import Sources
from speaker.planner.status import (
    BGP_STATUSES,
    L2_STATUSES,
    ConfigurationStateWriter,
    ServiceStatusWriter,
    find_owner,
)
from speaker.planner.view import View
from speaker.planner.wake import Wakeup
from speaker.settings import BgpType, Settings

log = logs.get(__name__)

COALESCE: Final = 0.002
"""Seconds a plan waits for what else may change: a rollout changes many objects at once, and one plan
serves all."""
HOST: Final = "127.0.0.1"
"""The speaker shares the node's network, so its probes listen on the node's loopback only."""


class Program:
    """The planner's state and its tasks.  `run`, read from the top, is its architecture."""

    def __init__(self, settings: Settings, link: Link, hello: Hello, api: Api) -> None:
        self._settings = settings
        self._me = hello.node
        self._link = link
        self._api = api
        self._started_at = trio.current_time()

        self._plan_due = Wakeup()
        self._report_due = Wakeup()
        self._statuses_due = Wakeup()
        self._bgp_statuses_due = Wakeup()
        self._state_due = Wakeup()
        self.sources = Sources(
            settings,
            changed=self._changed,
            pods_changed=self._send_seeds,
            statuses_changed=self._statuses_due.set,
            bgp_statuses_changed=self._bgp_statuses_due.set,
            state_changed=self._state_due.set,
        )
        self.reflex = Reflex(hello)
        self._recorder = Recorder(api, events.COMPONENT, host=hello.node)
        self.routed = Routed(
            settings, hello, self.sources, api, record=self._record, sessions_changed=self._sessions_changed
        )
        native = settings.bgp_type is BgpType.NATIVE
        self.metrics = Metrics(
            hello.node,
            self.reflex,
            announced=self._announced,
            more=(
                *bgpmetrics.families(lambda: self.routed.sessions, native=native),
                *process.families(),
                *process.families("crier_speaker_reflex", os.getppid()),
            ),
        )
        self._keeper = Keeper()
        self._planner = Planner(hello.node, Rules(settings.lb_class, settings.ignore_exclude_lb))
        self._reporter = Reporter(hello.node, membership=hello.membership)
        self._quarrels = events.Quarrels()
        self.plan = Plan()
        self.orders: Orders | None = None
        """The newest orders given; None while the ones of an earlier planner are in force."""
        self._generation = hello.generation
        self._settled = False
        """The reflex has acted upon our orders, so what we know of announcements is true."""
        self._seeds: tuple[str, ...] = ()
        self._wanted = Derived(_interfaces)

        failed, sources = self._count_failure, self.sources
        self._condition: Condition | None = None
        self._statuses = ServiceStatusWriter(
            api,
            settings,
            self._statuses_due,
            L2_STATUSES,
            sources.statuses,
            self._wanted_statuses,
            failed,
        )
        self._bgp_statuses = ServiceStatusWriter(
            api,
            settings,
            self._bgp_statuses_due,
            BGP_STATUSES,
            sources.bgp_statuses,
            self.routed.wanted_statuses,
            failed,
        )
        self._state = ConfigurationStateWriter(
            api, settings, self._state_due, sources.states, lambda: self._condition, failed
        )

    async def run(self) -> None:
        """Raises ReflexGone when there is no more reflex to plan for, BadOrder when it is not understood."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._link.keep_sending)
            nursery.start_soon(self._listen)
            nursery.start_soon(self._keep_serving)
            nursery.start_soon(self._recorder.run)
            nursery.start_soon(keep_heap)
            nursery.start_soon(self._keep_statuses)
            nursery.start_soon(self._keep_reporting)
            nursery.start_soon(self.routed.run)
            await nursery.start(self.sources.keep, self._api)
            nursery.start_soon(self._keep_planning)
            if port := self._settings.plain_metrics_port:
                nursery.start_soon(scrape.keep_plain, self._routes()["/metrics"], port)
            nursery.start_soon(self._keep_scraped)  # last: making a certificate takes a while

    async def leave(self) -> None:
        """The pod ends, and its node with it for all we know: the routers hear so in good order."""
        await self.routed.close()

    # ------------------------------------------------------------------------------- the reflex

    async def _listen(self) -> None:
        while True:
            message = await self._link.receive()
            match message:
                case Happened():
                    self._happened(message)
                case Hello():
                    raise BadOrder("a second Hello")
                case Bfd():
                    self.reflex.note(message)
                    self.routed.note_bfd(message)
                case Pulse():
                    self.reflex.note(message)  # no news of any service, and it comes every second
                case _:
                    self.reflex.note(message)
                    self._report_due.set()

    def _happened(self, what: Happened) -> None:
        self.metrics.note(what)
        if what.what == "conflict":
            self.metrics.conflict(what.subject, what.mac)
        self._found(what)
        log.debug("happened", what=what.what, subject=what.subject, why=what.why, at=what.at)
        if what.what == "conflict" and self._quarrels.lasts(what.subject, trio.current_time()):
            for key in sorted(
                key for key, it in self._reporter.announced.items() if what.subject in it.addresses
            ):
                if (service := self.sources.services.objects.get(key)) is not None:
                    self._record(events.conflict(service, what.subject, what.why))

    def _found(self, what: Happened) -> None:
        """Everybody asks the wire, and one is enough to tell: the owner, and who would be it without it."""
        if what.what not in events.FOUND:
            return
        for vip in self.plan.vips:
            if vip.address == what.subject and self.reflex.is_to_tell(vip):
                for service in filter(None, map(self.sources.services.objects.get, vip.services)):
                    self._record(events.found(service, what.what, what.subject, self._me, what.why))

    def _record(self, event: events.Event) -> None:
        self._recorder.record(event.about, event.type, event.reason, event.message)

    def _send_seeds(self) -> None:
        seeds = self.sources.seeds()
        if seeds != self._seeds:
            self._seeds = seeds
            self._link.send(Seeds(seeds))

    # --------------------------------------------------------------------------------- the plan

    def _changed(self) -> None:
        self.metrics.updates.add()
        self._plan_due.set()

    async def _keep_planning(self) -> None:
        self._plan_due.set()
        while True:
            await self._plan_due.wait()
            await trio.sleep(COALESCE)
            self._consider()
            # the routers first: theirs is the shorter plan, and it is on its way while the other is made
            view = self.sources.view(self._keeper.in_force)
            self.routed.replan(view)
            # one turn of the loop wakes the sessions, the next lets us in again, whoever is woken first
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            self.routed.report(view)
            # of what comes meanwhile the configuration in force knows nothing: it is for the next plan
            self._replan(view)

    def _consider(self) -> None:
        """Take in the newest configuration."""
        sources = self.sources
        services = sources.services.objects
        announced = (key for key, verdict in self.plan.verdicts.items() if verdict.candidates)
        self._keeper.consider(
            sources.pools.objects.values(),
            sources.advertisements.objects.values(),
            sources.configuration_errors(),
            (services[key] for key in announced if key in services),  # asked for seldom, and they are many
        )
        self.routed.consider(self._keeper.in_force, sources.nodes.objects)
        assert self._keeper.condition is not None
        condition = configstate.joined(self._keeper.condition, self.routed.problems)
        if condition != self._condition:
            self._condition = condition
            self._tell_condition(condition)

    def _replan(self, view: View) -> None:
        self.plan = self._planner.plan(view)
        self.metrics.plans.add()
        self._bgp_statuses_due.set()
        self._order()
        self._report_due.set()

    def _order(self) -> None:
        # without any usable configuration the orders of the planner before us are the best there are
        if self._keeper.in_force is None:
            return
        # nor are BFD sessions ended by a planner that does not know yet whom they are for
        if not self.routed.planned and self.reflex.bfd is not None and self.reflex.bfd.peers:
            return
        vips, bfd, now = self.plan.vips, self.routed.bfd_orders, self.orders
        if now is None or vips != now.vips or bfd != now.bfd:
            self._give_orders(vips, bfd)

    def _sessions_changed(self) -> None:
        """An unnumbered peer's address is known once its session is up, and BFD can begin."""
        if self.orders is not None and self.routed.bfd_orders != self.orders.bfd:
            self._order()

    def _give_orders(self, vips: tuple[Vip, ...], bfd: tuple[BfdPeer, ...]) -> None:
        self._generation += 1
        self.orders = Orders(self._generation, vips, bfd)
        sent = fit(self.orders)
        if sent is not self.orders:
            most = max((len(vip.candidates) for vip in sent.vips), default=0)
            log.error("orders_shortened", vips=len(sent.vips), candidates_per_vip=most)
        self._link.send(sent)
        self.metrics.orders_sent.add()
        log.info("orders", generation=self._generation, vips=len(self.plan.vips))

    # ------------------------------------------------------------------------------- the report

    async def _keep_reporting(self) -> None:
        while True:
            await self._report_due.wait()
            self._report()

    def _report(self) -> None:
        if self.orders is None:
            return
        reflex, generation = self.reflex, self.orders.generation
        services = self.sources.services.objects
        for news in self._reporter.update(self.plan, generation, reflex.members, reflex.vips):
            match news:
                case Assigned(key, addresses):
                    log.info("serviceAnnounced", service=key, ips=addresses, protocol="layer2")
                    if (service := services.get(key)) is not None:
                        self._record(events.assigned(service, self._me))
                case Withdrawn(key, addresses, reason, text):
                    log.info("serviceWithdrawn", service=key, ips=addresses, reason=reason, why=text)
                case NoInterface(key, address):
                    log.warning("announceFailed", service=key, ip=address, why="no such interface here")
                    if (service := services.get(key)) is not None:
                        self._record(events.no_interface(service, address, self._me))
        self._settled = (
            reflex.vips is not None
            and reflex.vips.generation == generation
            and (reflex.joined or not reflex.hello.membership)
        )
        self._statuses_due.set()

    async def _keep_statuses(self) -> None:
        owner = await find_owner(self._api, self._settings)
        writers = (self._statuses, self._bgp_statuses, self._state)
        async with trio.open_nursery() as nursery:
            for writer in writers:
                writer.owner = owner
                nursery.start_soon(writer.run)
            for due in (self._statuses_due, self._bgp_statuses_due, self._state_due):
                due.set()

    def _announced(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        return {
            "layer2": {key: found.addresses for key, found in self._reporter.announced.items()},
            "bgp": self.routed.announced,
        }

    def _wanted_statuses(self) -> Mapping[str, tuple[str, ...]] | None:
        if not self._settled:
            return None
        return self._wanted.of(self._reporter.announced)

    def _tell_condition(self, condition: Condition) -> None:
        stale = condition.status != "True"
        self.metrics.config_stale.set(to=float(stale))
        if self._keeper.in_force is not None:
            self.metrics.config_loaded.set(to=1.0)
        if stale:
            self.metrics.update_errors.add()
            log.error("configuration_not_used", reason=condition.reason, why=condition.message)
        else:
            log.info("configuration_in_force")
        self._state_due.set()

    def _count_failure(self, kind: str) -> None:
        self.metrics.api_errors.add(kind)

    # ----------------------------------------------------------------------------- the documents

    async def _keep_serving(self) -> None:
        """A port that is taken is no reason to give no orders: it is tried again."""
        failures = 0
        while True:
            try:
                await http.serve(self._routes(), HOST, self._settings.health_probe_port)
            except OSError as problem:
                failures += 1
                log.warning("probes_not_served", port=self._settings.health_probe_port, error=problem)
                await trio.sleep(backoff(failures, random.Random()))

    def _routes(self) -> dict[str, Handler]:
        return {
            "/healthz": lambda: Response.text("ok"),
            "/readyz": self._ready,
            "/status": lambda: Response.json(self._status()),
            "/why": lambda: Response.json(self._why()),
            "/routes": lambda: Response.json(documents.routes(self._me, self.routed.routers.told())),
            "/host": self._host,
            "/metrics": lambda: Response(200, self.metrics.registry.render(), CONTENT_TYPE),
        }

    async def _keep_scraped(self) -> None:
        """Metrics for Prometheus and documents for `crier`, over HTTPS on every address of the node."""
        told, failures = self._settings, 0
        tls = Tls(told.tls_min_version, told.tls_cipher_suites, told.metrics_cert_dir, self._me)
        routes = self._routes()
        guarded = {path: routes[path] for path in ("/metrics", "/status", "/why", "/routes", "/host")}
        while True:
            try:
                await scrape.serve(guarded, told.port, tls, self._api)
            except* (OSError, BadTls) as problems:
                failures += 1
                log.warning("metrics_not_served", port=told.port, error=problems.exceptions[0])
            await trio.sleep(backoff(failures, random.Random()))

    def _ready(self) -> Response:
        if self.sources.synced:
            return Response.text("ok")
        return Response.text(f"waiting for {', '.join(self.sources.unsynced)}\n", 503)

    def _status(self) -> dict[str, Any]:
        return documents.status(
            self.reflex,
            self.plan,
            generation=self._generation,
            version=__version__,
            synced=self.sources.synced,
            pids=(os.getppid(), os.getpid()),
            uptime=trio.current_time() - self._started_at,
            sessions=self.routed.sessions,
        )

    async def _host(self) -> Response:
        members = self.reflex.members.members if self.reflex.members else ()
        return Response.json(await host.document(self._settings, members))

    def _why(self) -> dict[str, Any]:
        said = self._condition.message if self._condition else "not seen yet"
        return documents.why(self.reflex, self.plan, said, self.routed.routes)


def _interfaces(announced: Mapping[str, Announced]) -> Mapping[str, tuple[str, ...]]:
    """What ServiceL2Status says of each service."""
    return {key: found.interfaces for key, found in announced.items()}


async def run(settings: Settings, fd: int) -> None:
    """The planner from the reflex's first word to its last.

    Raises (in groups) ReflexGone, BadOrder, NoCluster; OSError when `fd` is no socket.
    """
    link = Link.inherit(fd)
    hello = await link.hello()
    if hello.node != settings.node_name:
        raise BadOrder(f"the reflex is {hello.node!r}, this planner was started for {settings.node_name!r}")
    program = Program(settings, link, hello, Api.connect(kubeconfig=settings.kubeconfig))
    asked_to_stop = trio.Event()
    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            await asked_to_stop.wait()
            await program.leave()
            nursery.cancel_scope.cancel()

        await nursery.start(stop_on_signal, lambda _: asked_to_stop.set(), (signal.SIGTERM,))
        nursery.start_soon(leave)
        await program.run()


def main() -> None:
    """`python -m speaker.planner`, as the reflex starts it."""
    settings = speaker_settings.parse_or_exit()
    logs.configure(settings.log_level.value, blocking=False)
    if settings.reflex_fd is None:
        sys.stderr.write("speaker.planner: CRIER_REFLEX_FD: not set; crier-speaker starts this program\n")
        raise SystemExit(speaker_settings.USAGE_STATUS)
    # Ctrl-C goes to every process of a terminal; when to stop is the reflex's decision
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    keep_collections_short()
    failed = False
    try:
        trio.run(run, settings, settings.reflex_fd)
    except* ReflexGone:
        log.info("reflex_gone")
    except* (BadOrder, NoCluster, OSError) as problems:
        failed = True
        for problem in problems.exceptions:
            log.error("planner_failed", error=problem)
    if failed:
        raise SystemExit(1)
