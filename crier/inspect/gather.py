"""Everything there is to know about a cluster at one moment, from the API and from the speakers themselves.

What may not be read, or cannot, is a gap with a reason and no end of the matter: half an answer is what an
operator needs when something is broken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import trio

from crier.inspect.reach import Reach, Unreachable
from crier.inspect.records import Event, ProgramPod
from crier.inspect.words import ControllerWords, HostWords, SpeakerWords, WhyWords
from crier.kube import resources
from crier.kube.client import Api
from crier.kube.errors import ApiError, Forbidden, NotFound, Unavailable
from crier.kube.model.advertisement import L2AdvertisementObject
from crier.kube.model.bgpadvertisement import BgpAdvertisementObject
from crier.kube.model.bgppeer import BgpPeerObject
from crier.kube.model.endpoints import EndpointSlice
from crier.kube.model.errors import DecodeError
from crier.kube.model.node import Node
from crier.kube.model.pool import PoolObject
from crier.kube.model.service import Service
from crier.kube.model.states import ConfigurationState, ServiceBgpStatus, ServiceL2Status
from crier.kube.resources import Resource

OUR_PODS: Final = ("app=metallb", "app.kubernetes.io/component in (controller,speaker)")
"""Labels of controller and speakers, MetalLB's as well as ours: the manifests' and the chart's."""
COMPONENTS: Final = ("metallb-speaker", "metallb-controller")
"""Sources of our events."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Speaker:
    """A speaker's pod and what it said."""

    pod: ProgramPod
    says: SpeakerWords | None = None
    silence: str = ""
    """Why it said nothing; "" when it did."""
    why: WhyWords | None = None
    host: HostWords | None = None
    skew: float | None = None
    """Seconds its clock is ahead of ours, as far as the length of the way lets us tell."""
    host_silence: str = ""
    """Why it said nothing of its host, when it was asked and says the rest."""

    @property
    def node(self) -> str:
        return self.pod.node or (self.says.node if self.says else "")


@dataclass(frozen=True, slots=True)
class Controller:
    pod: ProgramPod
    says: ControllerWords | None = None
    silence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A cluster at one moment."""

    namespace: str
    at: float
    """Unix time."""
    services: Mapping[str, Service] = field(default_factory=dict)
    slices: tuple[EndpointSlice, ...] = ()
    nodes: Mapping[str, Node] = field(default_factory=dict)
    pools: Mapping[str, PoolObject] = field(default_factory=dict)
    l2_advertisements: tuple[L2AdvertisementObject, ...] = ()
    bgp_advertisements: tuple[BgpAdvertisementObject, ...] = ()
    peers: tuple[BgpPeerObject, ...] = ()
    l2_statuses: tuple[ServiceL2Status, ...] = ()
    bgp_statuses: tuple[ServiceBgpStatus, ...] = ()
    states: tuple[ConfigurationState, ...] = ()
    events: tuple[Event, ...] = ()
    speakers: tuple[Speaker, ...] = ()
    controllers: tuple[Controller, ...] = ()
    gaps: Mapping[str, str] = field(default_factory=dict)
    """What could not be read, by plural, and why."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Objects that make no sense, by `Kind namespace/name`."""
    forbidden: bool = False
    """At least one gap is for want of permission."""

    @property
    def vips(self) -> dict[str, list[str]]:
        """Address to the services that have it, in order of their names."""
        found: dict[str, list[str]] = {}
        for key, service in sorted(self.services.items()):
            if service.is_load_balancer:
                for ip in service.ingress_ips:
                    if ip:
                        found.setdefault(ip, []).append(key)
        return found


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be gathered beside the objects themselves."""

    kinds: frozenset[str] = frozenset()
    """Plurals; empty means all."""
    speakers: bool = True
    why: bool = False
    host: bool = False
    events: str = ""
    """A field selector; "" means all Events."""


class Gatherer:
    """Gathers once.  Raises only what means that there is no cluster at all: `Unavailable`."""

    def __init__(self, api: Api, namespace: str, reach: Reach) -> None:
        self._api = api
        self._namespace = namespace
        self._reach = reach
        self._found: dict[str, tuple[Any, ...]] = {}
        self._gaps: dict[str, str] = {}
        self._faults: dict[str, str] = {}
        self._forbidden = False
        self._speakers: list[Speaker] = []
        self._controllers: list[Controller] = []

    async def gather(self, wish: Wish = Wish()) -> Picture:
        kinds: list[tuple[Resource, Callable[[bytes], Any], dict[str, str]]] = [
            (resources.SERVICES, Service.decode, {}),
            (resources.ENDPOINT_SLICES, EndpointSlice.decode, {}),
            (resources.NODES, Node.decode, {}),
            (resources.IP_ADDRESS_POOLS, PoolObject.decode, self._ours()),
            (resources.L2_ADVERTISEMENTS, L2AdvertisementObject.decode, self._ours()),
            (resources.BGP_ADVERTISEMENTS, BgpAdvertisementObject.decode, self._ours()),
            (resources.BGP_PEERS, BgpPeerObject.decode, self._ours()),
            (resources.SERVICE_L2_STATUSES, ServiceL2Status.decode, self._ours()),
            (resources.SERVICE_BGP_STATUSES, ServiceBgpStatus.decode, self._ours()),
            (resources.CONFIGURATION_STATES, ConfigurationState.decode, self._ours()),
            (resources.EVENTS, Event.decode, {"field_selector": wish.events} if wish.events else {}),
        ]
        async with trio.open_nursery() as nursery:
            for kind, decode, where in kinds:
                if not wish.kinds or kind.plural in wish.kinds:
                    nursery.start_soon(partial(self._list, kind, decode, **where))
            if wish.speakers:
                nursery.start_soon(self._visit_pods, wish)
        found = self._found
        return Picture(
            namespace=self._namespace,
            at=time.time(),
            services=_by_key(found.get("services", ())),
            slices=found.get("endpointslices", ()),
            nodes={node.name: node for node in found.get("nodes", ())},
            pools={pool.name: pool for pool in found.get("ipaddresspools", ())},
            l2_advertisements=found.get("l2advertisements", ()),
            bgp_advertisements=found.get("bgpadvertisements", ()),
            peers=found.get("bgppeers", ()),
            l2_statuses=found.get("servicel2statuses", ()),
            bgp_statuses=found.get("servicebgpstatuses", ()),
            states=found.get("configurationstates", ()),
            events=tuple(each for each in found.get("events", ()) if each.component in COMPONENTS),
            speakers=tuple(sorted(self._speakers, key=lambda each: (each.node, each.pod.name))),
            controllers=tuple(sorted(self._controllers, key=lambda each: each.pod.name)),
            gaps=dict(sorted(self._gaps.items())),
            faults=dict(sorted(self._faults.items())),
            forbidden=self._forbidden,
        )

    def _ours(self) -> dict[str, str]:
        return {"namespace": self._namespace}

    async def _list(self, kind: Resource, decode: Callable[[bytes], T], **where: str) -> None:
        found: list[T] = []
        try:
            async for page in self._api.list_pages(kind, **where):  # type: ignore[arg-type]
                for item in page.items:
                    try:
                        found.append(decode(bytes(item)))
                    except DecodeError as problem:
                        self._faults[f"{kind.kind} {_name_of(bytes(item))}"] = str(problem)
        except Unavailable:
            raise
        except NotFound:
            self._gaps[kind.plural] = f"the cluster has no {kind.plural}: Crier's CRDs are not installed"
        except ApiError as problem:
            self._forbidden |= isinstance(problem, Forbidden)
            self._gaps[kind.plural] = problem.message
        self._found[kind.plural] = tuple(found)

    async def _visit_pods(self, wish: Wish) -> None:
        pods: dict[str, ProgramPod] = {}
        for labels in OUR_PODS:
            await self._list(resources.PODS, ProgramPod.decode, label_selector=labels, **self._ours())
            pods.update({pod.name: pod for pod in self._found["pods"]})
        async with trio.open_nursery() as nursery:
            for pod in pods.values():
                if pod.phase in ("Succeeded", "Failed"):
                    continue
                if pod.component == "speaker":
                    nursery.start_soon(self._visit_speaker, pod, wish)
                elif pod.component == "controller":
                    nursery.start_soon(self._visit_controller, pod)

    async def _visit_speaker(self, pod: ProgramPod, wish: Wish) -> None:
        why, host, skew, host_silence = None, None, None, ""
        try:
            says = await self._reach.ask(pod, "/status", SpeakerWords)
            if wish.why:
                why = await self._reach.ask(pod, "/why", WhyWords)
        except Unreachable as problem:
            self._speakers.append(Speaker(pod, silence=str(problem)))
            return
        if wish.host:
            asked = time.time()
            try:  # it waits for the others' ports, so it may take seconds where the rest takes none
                host = await self._reach.ask(pod, "/host", HostWords)
                skew = bounded_skew(asked, host.time, time.time())
            except Unreachable as problem:
                host_silence = str(problem)
        self._speakers.append(Speaker(pod, says, "", why, host, skew, host_silence))

    async def _visit_controller(self, pod: ProgramPod) -> None:
        try:
            says = await self._reach.ask(pod, "/status", ControllerWords)
        except Unreachable as problem:
            self._controllers.append(Controller(pod, silence=str(problem)))
        else:
            self._controllers.append(Controller(pod, says))


def bounded_skew(asked: float, theirs: float, answered: float) -> float:
    """Seconds their clock is certainly off ours, given that they looked at it between the two moments."""
    if theirs < asked:
        return theirs - asked
    return max(0.0, theirs - answered)


def _by_key(services: Iterable[Service]) -> dict[str, Service]:
    return {service.key: service for service in services}


def _name_of(item: bytes) -> str:
    from crier.kube.model import wire

    try:
        meta = wire.decode_meta(item)
    except DecodeError:
        return "?"
    return wire.object_key(meta.namespace, meta.name)
