"""Routed mode inside the planner: from the view to the routers, and what the world hears of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crier.kube import resources
from crier.kube.client import Api
from crier.kube.events import Reference
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.node import Node
from crier.kube.resources import Resource
from crier.kube.watch import Mirror
from crier.ops import logs
from speaker.orders import Bfd, BfdPeer, Hello
from speaker.planner import bgpconfiguration, events
from speaker.planner.bfd import BfdWatch
from speaker.planner.bgpconfiguration import BgpKeeper, Fault
from speaker.planner.bgpreport import BgpReporter
from speaker.planner.derived import Derived
from speaker.planner.native import NativeRouters
from speaker.planner.plan import Rules
from speaker.planner.report import Assigned, Withdrawn
from speaker.planner.routers import Routers, SessionView
from speaker.planner.routes import RoutePlanner, Routes, Verdict
from speaker.planner.sources import Sources
from speaker.planner.view import Configuration, View
from speaker.settings import BgpType, Settings

log = logs.get(__name__)


class Routed:
    """`sessions_changed` is called when `sessions` or `bfd_orders` may have news."""

    def __init__(
        self,
        settings: Settings,
        hello: Hello,
        sources: Sources,
        api: Api,
        *,
        record: Callable[[events.Event], None],
        sessions_changed: Callable[[], None],
    ) -> None:
        self._me = hello.node
        self._sources = sources
        self._record = record
        self._keeper = BgpKeeper()
        self._planner = RoutePlanner(hello.node, Rules(settings.lb_class, settings.ignore_exclude_lb))
        self._reporter = BgpReporter()
        self._native: NativeRouters | None = None
        """None: FRR keeps the sessions, and its own daemon does BFD."""
        self._bfd = BfdWatch(lambda _: "")
        self.routers: Routers
        if settings.bgp_type is BgpType.NATIVE:
            self.routers = self._native = NativeRouters(changed=sessions_changed, rng=random.SystemRandom())
            self._bfd = BfdWatch(self._native.neighbor)
        else:
            from speaker.frr import open_frr  # here: not everybody's start should wait for it

            self.routers = open_frr(settings, api, sessions_changed, lambda: sources.extra_lines)
        self._peers: tuple[BgpPeer, ...] = ()
        self._told_faults: frozenset[Fault] = frozenset()
        self._drain_fault = ""
        self.routes = Routes()
        self._wanted = Derived(_peers)

    async def run(self) -> None:
        await self.routers.run()

    async def close(self) -> None:
        await self.routers.close()

    # ---------------------------------------------------------------------------------- what comes in

    def consider(self, configuration: Configuration | None, nodes: Mapping[str, Node]) -> None:
        """Take in the newest configuration."""
        if configuration is None or not self._sources.bgp_synced:
            return
        node = nodes.get(self._me, Node(name=self._me))
        pools = configuration.pools.pools.values()
        before = self._keeper.in_force
        self._keeper.consider(self._sources.bgp_objects(), pools, node, self._sources.bgp_errors())
        self._tell_faults()
        if self._keeper.in_force is not before:
            self._tell_unsupported()
        if node.drain_fault != self._drain_fault:
            self._drain_fault = node.drain_fault
            if node.drain_fault:
                log.warning("drain_not_understood", why=node.drain_fault)

    def replan(self, view: View) -> None:
        """Tell the routers what follows from the view."""
        if view.configuration is None or self._keeper.in_force is None:
            return
        node = view.nodes.get(self._me, Node(name=self._me))
        self.routes = self._planner.plan(view, self._keeper.in_force)
        self._peers = self._keeper.in_force.peers_of(node)
        self.routers.apply(self._peers, self.routes.peers, node)

    def report(self, view: View) -> None:
        """Tell of the plan just made: after the routers, who wait for it."""
        for news in self._reporter.update(self.routes, view.services):
            match news:
                case Assigned(key, addresses):
                    log.info("serviceAnnounced", service=key, ips=addresses, protocol="bgp")
                    self._record(events.assigned(view.services[key], self._me, "bgp"))
                case Withdrawn(key, addresses, reason, text):
                    log.info(
                        "serviceWithdrawn",
                        service=key,
                        ips=addresses,
                        protocol="bgp",
                        reason=reason,
                        why=text,
                    )

    def note_bfd(self, snapshot: Bfd) -> None:
        if self._native is not None:
            for news in self._bfd.news(self._peers, snapshot):
                self._native.note_bfd(news)

    # --------------------------------------------------------------------------------- what follows

    @property
    def planned(self) -> bool:
        """The routers have been told what this planner knows."""
        return self._keeper.in_force is not None

    @property
    def bfd_orders(self) -> tuple[BfdPeer, ...]:
        """What the reflex is to watch; nothing when FRR's own daemon does."""
        return self._bfd.wanted(self._peers) if self._native is not None else ()

    @property
    def sessions(self) -> Sequence[SessionView]:
        return self.routers.sessions()

    @property
    def announced(self) -> Mapping[str, tuple[str, ...]]:
        """The services that are announced by BGP, and their addresses."""
        return self._reporter.announced

    @property
    def problems(self) -> str:
        """What is wrong with the newest configuration, "" when nothing is."""
        return "; ".join(dict.fromkeys(fault.text for fault in self._keeper.faults))

    def wanted_statuses(self) -> Mapping[str, tuple[str, ...]] | None:
        """Services and the peers that are to be told of them; None while that is not known yet."""
        return self._wanted.of(self.routes.verdicts) if self.planned else None

    # ------------------------------------------------------------------------------------ the events

    def _tell_faults(self) -> None:
        faults = frozenset(self._keeper.faults)
        for fault in sorted(faults - self._told_faults, key=lambda each: each.text):
            log.error("bgp_object_not_used", kind=fault.kind, name=fault.name, why=fault.text)
            if (about := self._reference(fault.kind, fault.name)) is not None:
                self._record(events.refused(about, fault.text))
        self._told_faults = faults

    def _tell_unsupported(self) -> None:
        assert self._keeper.in_force is not None
        profiles = {peer.bfd.name for peer in self._keeper.in_force.peers if peer.bfd and peer.bfd.echo_mode}
        for name in sorted(profiles):
            why = f"{name}: spec.echoMode: echo mode is not supported, BFD runs in asynchronous mode"
            log.warning("bfd_echo_not_supported", profile=name)
            if self._native and (about := self._reference(bgpconfiguration.PROFILE, name)) is not None:
                self._record(events.not_supported(about, why))

    def _reference(self, kind: str, name: str) -> Reference | None:
        resource, mirror = self._kinds()[kind]
        for found in mirror.objects.values():
            if found.name == name:
                return Reference(resource.api_version, kind, found.namespace, name, found.uid)
        return None

    def _kinds(self) -> dict[str, tuple[Resource, Mirror[Any]]]:
        sources = self._sources
        kinds: tuple[tuple[Resource, Mirror[Any]], ...] = (
            (resources.BGP_PEERS, sources.bgp_peers),
            (resources.BGP_ADVERTISEMENTS, sources.bgp_advertisements),
            (resources.BFD_PROFILES, sources.bfd_profiles),
            (resources.COMMUNITIES, sources.communities),
        )
        return {kind.kind: (kind, mirror) for kind, mirror in kinds}


def _peers(verdicts: Mapping[str, Verdict]) -> Mapping[str, tuple[str, ...]]:
    """What ServiceBGPStatus says of each service."""
    return {key: verdict.peers for key, verdict in verdicts.items() if verdict.peers}
