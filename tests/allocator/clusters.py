"""A real controller in one trio program, on the embedded API or on a real kube-apiserver."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import trio

from allocator.app import COMPONENT
from allocator.bell import Bell
from allocator.controller import Controller
from allocator.report import Reporter
from allocator.secret import ensure_secret
from crier.kube.access import SERVICE_HOST, SERVICE_PORT, Access, InCluster
from crier.kube.client import Api
from crier.kube.errors import Unavailable
from crier.kube.events import Recorder
from crier.kube.kubeconfig import from_kubeconfig
from crier.kube.model.annotations import ALLOCATED_FROM
from crier.kube.resources import (
    BFD_PROFILES,
    BGP_ADVERTISEMENTS,
    BGP_PEERS,
    COMMUNITIES,
    CONFIGURATION_STATES,
    EVENTS,
    IP_ADDRESS_POOLS,
    L2_ADVERTISEMENTS,
    LEASES,
    NAMESPACES,
    SECRETS,
    SERVICES,
    Resource,
)
from crier.kube.transport import Transport, plain_configuration
from crier.kube.watch import Mirror, watch
from crier.lab.api import Faults, open_api
from crier.lab.kube import Kube
from crier.lab.kube.install import Accounts
from tests.emptied import at_rest, delete_all

SYSTEM = "metallb-system"
CONFIGURATION: Final = (
    IP_ADDRESS_POOLS, L2_ADVERTISEMENTS, BGP_ADVERTISEMENTS, BGP_PEERS, BFD_PROFILES, COMMUNITIES,
)  # fmt: skip
PATIENCE = 60.0
"""Seconds until a test gives up; what it waits for takes milliseconds."""


class Counted(Transport):
    """Remembers how often what was asked for."""

    def __init__(self, access: Access, sent: Counter[str]) -> None:
        super().__init__(access)
        self._sent = sent

    def request(self, method: str, path: str, **options: Any) -> bytes:
        _, plural, *rest = path.rpartition("/namespaces/")[2].split("/")
        self._sent[" ".join((method, plural, *rest[1:]))] += 1
        return super().request(method, path, **options)


@dataclass
class Cluster:
    """What a test sees and does.  It watches, so it never has to poll."""

    api: Api
    """Ours, who may do everything."""
    access: Callable[[], Access]
    """The controller's."""
    apis: list[Api] = field(default_factory=list)
    """The controllers'."""
    sent: Counter[str] = field(default_factory=Counter)
    """What controllers have asked for: verb, plural, subresource."""
    services: Mirror[dict[str, Any]] = field(default_factory=lambda: Mirror(msgspec.json.decode))
    pools: Mirror[dict[str, Any]] = field(default_factory=lambda: Mirror(msgspec.json.decode))
    states: Mirror[dict[str, Any]] = field(default_factory=lambda: Mirror(msgspec.json.decode))
    events: Mirror[dict[str, Any]] = field(default_factory=lambda: Mirror(msgspec.json.decode))
    _news: trio.Event = field(default_factory=trio.Event)
    _markers: Iterator[int] = field(default_factory=lambda: itertools.count(1000))

    def changed(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def until(self, true: Callable[[], object]) -> None:
        """Returns when it is true; looked at whenever anything changed."""
        with trio.fail_after(PATIENCE):
            while not true():
                await self._news.wait()

    async def still(self, name: str) -> str:
        """Everything that is under way has come to rest; the service's resourceVersion then.

        A new service that needs no address is made and served: what was to be written before it, was.
        """
        marker = f"marker-{next(self._markers)}"
        await self.add_service(marker, load_balancer_ip="not an address")
        await self.until(lambda: any(marker in each["message"] for each in self.events.objects.values()))
        return str(self.services.objects[f"default/{name}"]["metadata"]["resourceVersion"])

    # ------------------------------------------------------------------------ doing

    async def add_service(self, name: str, *, load_balancer_ip: str = "", **spec: Any) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "annotations": spec.pop("annotations", {})},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80, "name": "http"}], **spec},
        }
        if load_balancer_ip:
            body["spec"]["loadBalancerIP"] = load_balancer_ip  # type: ignore[index]
        await self.api.create(SERVICES, body, namespace="default")

    async def add_service_at_last(self, name: str) -> None:
        """Also just after an outage, when pooled connections turn out to be dead."""
        for _ in range(40):
            with contextlib.suppress(Unavailable):
                return await self.add_service(name)
        raise AssertionError("the API stays away")

    async def add_pool(self, name: str, *addresses: str, **spec: Any) -> None:
        body = {
            "apiVersion": IP_ADDRESS_POOLS.api_version,
            "kind": "IPAddressPool",
            "metadata": {"name": name},
            "spec": {"addresses": addresses, **spec},
        }
        await self.api.create(IP_ADDRESS_POOLS, body, namespace=SYSTEM)

    async def patch_service(self, name: str, body: Any, subresource: str = "") -> None:
        await self.api.patch(SERVICES, name, body, namespace="default", subresource=subresource)

    # ---------------------------------------------------------------------- looking

    def ips(self, name: str) -> list[str]:
        found = self.services.objects.get(f"default/{name}", {})
        ingress = found.get("status", {}).get("loadBalancer", {}).get("ingress") or []
        return [entry["ip"] for entry in ingress]

    def pool_of(self, name: str) -> str:
        """What the service says of where its addresses are from."""
        metadata = self.services.objects[f"default/{name}"]["metadata"]
        return str(metadata.get("annotations", {}).get(ALLOCATED_FROM, ""))

    def told(self, reason: str) -> list[tuple[str, str, int]]:
        """Object, message and count of each event with the reason."""
        return sorted(
            (each["involvedObject"]["name"], each["message"], each["count"])
            for each in self.events.objects.values()
            if each["reason"] == reason
        )

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.states.objects.get(f"{SYSTEM}/controller", {}).get("status", {})
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        """Of the ConfigurationState; empty while there is none of that type."""
        found: list[dict[str, Any]] = self.state().get("conditions", [])
        return next((each for each in found if each["type"] == kind), {})

    def counters(self, pool: str) -> tuple[int, ...]:
        status = self.pools.objects.get(f"{SYSTEM}/{pool}", {}).get("status") or {}
        return tuple(
            status.get(f"{what}{family}", -1)
            for what in ("assigned", "available")
            for family in ("IPv4", "IPv6")
        )

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            kinds: list[tuple[Resource, Mirror[dict[str, Any]]]] = [
                (SERVICES, self.services),
                (IP_ADDRESS_POOLS, self.pools),
                (CONFIGURATION_STATES, self.states),
                (EVENTS, self.events),
            ]
            for resource, mirror in kinds:
                await nursery.start(watch, self.api, resource, mirror, self.changed)
            yield
            nursery.cancel_scope.cancel()
        self.api.close()


@dataclass(kw_only=True)
class Embedded(Cluster):
    faults: Faults


@asynccontextmanager
async def open_cluster(*, seed: int = 1) -> AsyncIterator[Embedded]:
    """The embedded API, a namespace for our objects, and a test that watches."""
    async with open_api(seed=seed, metallb_crds=True) as lab:
        cluster = Embedded(Api.at(lab.url), partial(plain_configuration, lab.url), faults=lab.faults)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
        await cluster.api.create(NAMESPACES, body)
        async with cluster.watched():
            yield cluster


def as_in_a_pod(kube: Kube, account: Path) -> Access:
    """What a pod of the account would find."""
    directory = kube.directory / "pod"
    directory.mkdir(exist_ok=True)
    (user,) = json.loads(account.read_text())["users"]
    (directory / "token").write_text(user["user"]["token"])
    (directory / "ca.crt").write_bytes(kube.keys.authority.read_bytes())
    place = urlsplit(kube.url)
    return InCluster({SERVICE_HOST: place.hostname or "", SERVICE_PORT: str(place.port)}, directory)


def clear(kube: Kube) -> None:
    """What earlier tests have left."""
    ours = (*CONFIGURATION, CONFIGURATION_STATES, LEASES, SECRETS, EVENTS)
    delete_all(kube, *(each.path(SYSTEM) for each in ours), EVENTS.path("default"), SERVICES.path("default"))


@asynccontextmanager
async def open_real(kube: Kube, accounts: Accounts) -> AsyncIterator[Cluster]:
    """The same on a server that others have used before; controllers have the rights of our manifests."""
    clear(kube)
    admin = from_kubeconfig(str(kube.kubeconfig))
    cluster = Cluster(Api(Transport(admin)), partial(as_in_a_pod, kube, accounts.controller))
    async with cluster.watched():
        yield cluster
    await at_rest(cluster.apis)


class _Overheard(Bell):
    """Tests also wait for what is in the controller's ledger, and must look again after each of its turns."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def ring(self) -> None:
        super().ring()
        self._changed()


@asynccontextmanager
async def open_controller(
    cluster: Cluster, *, lb_class: str = "", api: Api | None = None, secret: bool = False
) -> AsyncIterator[Controller]:
    """A controller with all its tasks, ended without ceremony as a kill would."""
    api = api or Api(Counted(cluster.access(), cluster.sent))
    cluster.apis.append(api)
    recorder = Recorder(api, COMPONENT)
    controller = Controller(api, recorder, namespace=SYSTEM, lb_class=lb_class)
    controller.reconciled = _Overheard(cluster.changed)
    reporter = Reporter(api, controller, recorder, namespace=SYSTEM, pod_name="controller-0")
    async with trio.open_nursery() as nursery:
        if secret:
            nursery.start_soon(ensure_secret, api, SYSTEM, "memberlist", "controller")
        nursery.start_soon(recorder.run)
        await nursery.start(controller.run)
        nursery.start_soon(reporter.run)
        yield controller
        nursery.cancel_scope.cancel()
