"""BGP by FRR-K8s: one FRRConfiguration says what this node wants, and somebody else's FRR does it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio

from bgp_lite.attributes import Path
from bgp_lite.prefix import Prefix
from crier.kube.client import AlreadyExists, Api, ApiError, Conflict, NotFound
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.errors import DecodeError
from crier.kube.model.node import Node
from crier.kube.watch import Mirror, backoff, watch
from crier.ops import logs
from speaker.frr import k8sdocument as document
from speaker.frr.backend import same_tables
from speaker.frr.k8sdocument import FRR_CONFIGURATIONS, Existing, Routes, SessionState
from speaker.frr.render import peer_id, render, vrf_of
from speaker.planner.routers import SessionView
from speaker.planner.wake import Wakeup

log = logs.get(__name__)

PAUSE: Final = 3.0
"""Seconds between two writes, MetalLB's: after each FRR-K8s renders and reloads everything.  What comes
after a time of quiet is written at once."""
ECHO: Final = 0.5
"""Seconds our own write may take to come back in the watch, until we look for ourselves."""
LOOK: Final = 10.0
"""Seconds between two looks at FRR-K8s' own opinion of its configuration."""
GOODBYE: Final = 3.0

_STATES: Final = frozenset({"Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"})


class FrrK8sRouters:
    """Routers of the planner (`speaker.planner.routers`), by way of FRR-K8s.

    How many prefixes a router was told of is not among what FRR-K8s says; `sent` is what is wanted while the
    session is up.
    """

    def __init__(
        self,
        api: Api,
        node: str,
        namespace: str,
        *,
        own_namespace: str | None = None,
        pause: float = PAUSE,
        changed: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`namespace`: FRR-K8s'.  `own_namespace`: ours, where the peers' Secrets are; None: the same.
        `pause`: seconds."""
        self._api, self._me, self._namespace = api, node, namespace
        self._pause = pause
        self._secrets = own_namespace in (None, namespace)
        self._changed, self._wall = changed, wall
        self._due = Wakeup()
        self._mirror: Mirror[Existing] = Mirror(Existing.decode)
        self._states: Mirror[SessionState] = Mirror(SessionState.decode)
        self._peers: tuple[BgpPeer, ...] = ()
        self._routes: Routes = {}
        self._refused: dict[str, str] = {}
        self._wanted: dict[str, Any] | None = None
        """The spec as it is to be; None before the first `apply`."""
        self._written: tuple[dict[str, Any], Mapping[str, Any]] | None = None
        """What we wrote and what the API made of it, with its defaults and without what it does not know."""
        self._written_at = float("-inf")
        self._closing = False
        self._trouble = ""
        self._complaint = ""
        self._since: dict[str, tuple[str, float]] = {}
        self._views: tuple[SessionView, ...] = ()

    # -------------------------------------------------------------------------------- the door

    def apply(
        self, peers: Sequence[BgpPeer], routes: Mapping[str, Mapping[Prefix, Path]], node: Node
    ) -> None:
        if self._closing:
            return
        ordered = tuple(sorted(peers, key=lambda peer: peer.name))
        if self._wanted is not None and ordered == self._peers and same_tables(self._routes, routes):
            return
        self._peers, self._routes = ordered, dict(routes)
        self._refused = dict(render(self._peers, node).refused)
        for peer in self._peers:
            if why := document.objection(peer):
                self._refused.setdefault(peer.name, why)
        taken = [peer for peer in self._peers if peer.name not in self._refused]
        self._wanted = document.spec(taken, routes, self._me, secrets=self._secrets)
        self._look()
        self._due.set()

    def sessions(self) -> Sequence[SessionView]:
        return self._views

    def told(self) -> None:
        return None

    async def run(self) -> None:
        mine = f"metadata.name={document.object_name(self._me)}"
        label = f"{document.NODE_LABEL}={self._me}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_watching_states, label)
            nursery.start_soon(self._keep_asking)
            await nursery.start(
                lambda *, task_status: watch(
                    self._api,
                    FRR_CONFIGURATIONS,
                    self._mirror,
                    self._due.set,
                    namespace=self._namespace,
                    field_selector=mine,
                    task_status=task_status,
                )
            )
            self._look()
            await self._keep_writing()

    async def close(self) -> None:
        """FRR-K8s takes the sessions down when nobody asks for them any more."""
        self._closing = True
        self._peers, self._routes, self._wanted = (), {}, None
        with trio.move_on_after(GOODBYE):
            try:
                name = document.object_name(self._me)
                await self._api.delete(FRR_CONFIGURATIONS, name, namespace=self._namespace)
            except NotFound:
                log.debug("frr_configuration_gone_already")
            except ApiError as problem:
                log.warning("frr_configuration_not_deleted", error=problem)
        self._look()

    # ------------------------------------------------------------------------------ what is written

    async def _keep_writing(self) -> None:
        failures, rng = 0, random.Random()
        until = float("inf")
        while True:
            await self._due.wait(until)
            try:
                until = await self._write()
                failures, trouble = 0, ""
            except (Conflict, AlreadyExists):
                # somebody was faster; the watch brings what they did
                until, trouble = trio.current_time() + 0.2, self._trouble
            except (ApiError, DecodeError) as problem:
                failures += 1
                log.warning("frr_configuration_not_written", error=problem, failures=failures)
                trouble = f"FRRConfiguration {document.object_name(self._me)}: {problem}"
                until = trio.current_time() + backoff(failures, rng)
            if trouble != self._trouble:
                self._trouble = trouble
                self._look()

    async def _write(self) -> float:
        """Returns when (trio time) to look again.  Raises ApiError, DecodeError."""
        wanted, now = self._wanted, trio.current_time()
        if wanted is None:
            return float("inf")
        kind, name = FRR_CONFIGURATIONS, document.object_name(self._me)
        found = self._mirror.objects.get(f"{self._namespace}/{name}")
        if self._written is not None and self._written[0] == wanted:
            if found is not None and found.spec == self._written[1]:
                return float("inf")
            if now < self._written_at + ECHO:
                return self._written_at + ECHO
        elif now < self._written_at + self._pause:
            return self._written_at + self._pause
        try:
            # the newest, not the mirror's: our own last write may still be on its way there
            newest = Existing.decode(await self._api.get(kind, name, namespace=self._namespace))
        except NotFound:
            made = document.body(self._namespace, self._me, wanted)
            raw = await self._api.create(kind, made, namespace=self._namespace)
        else:
            if newest.spec == wanted or (wanted, newest.spec) == self._written:
                self._written = (wanted, newest.spec)
                return float("inf")
            made = document.body(self._namespace, self._me, wanted, newest.resource_version)
            raw = await self._api.replace(kind, name, made, namespace=self._namespace)
        self._written, self._written_at = (wanted, Existing.decode(raw).spec), now
        log.info("frr_configuration_written", peers=len(self._peers), namespace=self._namespace)
        return now + ECHO

    # --------------------------------------------------------------------------------- what is read

    async def _keep_watching_states(self, label: str) -> None:
        await watch(
            self._api,
            document.BGP_SESSION_STATES,
            self._states,
            self._look,
            namespace=self._namespace,
            label_selector=label,
        )

    async def _keep_asking(self) -> None:
        """FRRNodeState is where FRR-K8s says that it could not use a configuration."""
        while True:
            complaint = ""
            try:
                complaint = document.decode_complaint(await self._api.get(document.FRR_NODE_STATES, self._me))
            except (ApiError, DecodeError) as problem:
                log.debug("frr_node_state_not_read", error=problem)
            if complaint != self._complaint:
                self._complaint = complaint
                self._look()
            await trio.sleep(LOOK)

    def _look(self) -> None:
        seen = {(state.vrf, state.peer): state for state in self._states.objects.values()}
        views = tuple(
            self._view(peer, seen.get((vrf_of(peer), document.status_name(peer)))) for peer in self._peers
        )
        self._since = {view.peer: (view.state, view.since) for view in views}
        if views != self._views:
            self._views = views
            self._changed()

    def _view(self, peer: BgpPeer, seen: SessionState | None) -> SessionView:
        refused = self._refused.get(peer.name, "")
        state = seen.state if seen is not None and seen.state in _STATES and not refused else "Idle"
        before, since = self._since.get(peer.name, ("", 0.0))
        wanted = len(self._routes.get(peer.name, {}))
        unread = "" if self._mirror.synced else "FRRConfigurations cannot be read (yet)"
        unknown = "" if seen is not None else "FRR-K8s does not say anything of this session yet"
        return SessionView(
            peer=peer.name,
            address=peer_id(peer),
            port=peer.port,
            vrf=peer.vrf,
            state=state,
            since=since if state == before else self._wall(),
            last_error=refused or unread or self._trouble or self._complaint or unknown,
            wanted=wanted,
            sent=wanted if state == "Established" else 0,
            bfd=(seen.bfd if seen is not None and seen.bfd else "Down") if peer.bfd is not None else "",
        )
