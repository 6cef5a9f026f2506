"""A planner between an embedded API and a reflex that is played by the test."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from crier.kube import resources
from crier.kube.client import AlreadyExists, Api, NotFound
from crier.kube.kubeconfig import from_kubeconfig
from crier.kube.resources import Resource
from crier.kube.transport import Transport, plain_configuration
from crier.lab.api import inprocess
from crier.lab.kube import Kube
from crier.lab.kube.install import Accounts
from speaker import orders
from speaker import settings as speaker_settings
from speaker.orders import Down, Happened, Hello, Members, MemberView, Orders, Seeds, Up, Vips, VipState
from speaker.planner.app import Program
from speaker.planner.link import Link, ReflexGone
from speaker.settings import Settings
from tests.emptied import at_rest, delete_all
from tests.places import free_port

T = TypeVar("T")

SPACE: Final = "metallb-system"
PATIENCE: Final = 60.0
"""Seconds after which something that should happen is taken not to."""
NODES: Final = ("iris1", "iris2")
MADE: Final = (
    resources.IP_ADDRESS_POOLS, resources.L2_ADVERTISEMENTS, resources.CONFIGURATION_STATES,
    resources.SERVICE_L2_STATUSES, resources.PODS, resources.EVENTS,
)  # fmt: skip
"""Kinds of our namespace of which tests or planners make something."""


def settings(node: str = "iris1", *flags: str, port: int | None = None) -> Settings:
    return speaker_settings.parse(
        [f"--health-probe-port={port or free_port()}", f"--port={free_port()}", *flags],
        {
            "METALLB_NODE_NAME": node,
            "METALLB_POD_NAME": f"speaker-{node}",
            "METALLB_NAMESPACE": SPACE,
            "METALLB_ML_BIND_ADDR": f"192.0.2.{node[-1]}",
            "METALLB_ML_LABELS": "app=metallb,component=speaker",
        },
    )


async def until(look: Callable[[], Awaitable[T]], right: Callable[[T], object]) -> T:
    """What `look` finds, once it is right.  Tests never wait for a time, only for things."""
    with trio.fail_after(PATIENCE):
        while True:
            found = await look()
            if right(found):
                return found
            await trio.sleep(0.005)


async def soon(what: Callable[[], object]) -> None:
    """Returns when `what()` is true."""

    async def look() -> object:
        return what()

    await until(look, bool)


class Cluster:
    """What a test does to the API."""

    def __init__(self, server: inprocess.Api) -> None:
        self.server = server
        self.faults = server.faults
        self.api = self.connect()

    def connect(self) -> Api:
        return Api(Transport(plain_configuration(self.server.url)))

    async def make(self, kind: Resource, name: str, namespace: str | None = None, **body: Any) -> None:
        metadata = {"name": name, **body.pop("metadata", {})}
        status = body.pop("status", None)
        made = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **body}
        await self.api.create(kind, made, namespace=namespace)
        if status is not None:
            await self.set_status(kind, name, namespace, status)

    async def set_status(self, kind: Resource, name: str, namespace: str | None, status: Any) -> None:
        await self.api.patch(kind, name, {"status": status}, namespace=namespace, subresource="status")

    async def listed(self, kind: Resource, namespace: str | None = None) -> list[dict[str, Any]]:
        pages = self.api.list_pages(kind, namespace=namespace)
        return [json.loads(bytes(item)) async for page in pages for item in page.items]

    async def found(self, kind: Resource, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        try:
            return dict(json.loads(await self.api.get(kind, name, namespace=namespace)))
        except NotFound:
            return None

    async def furnish(self) -> None:
        """Two nodes with a speaker each, one pool and one advertisement."""
        with contextlib.suppress(AlreadyExists):
            await self.make(resources.NAMESPACES, SPACE)
        for number, name in enumerate(NODES, 1):
            await self.make(resources.NODES, name, metadata={"labels": {"kubernetes.io/hostname": name}})
            await self.make(
                resources.PODS,
                f"speaker-{name}",
                SPACE,
                metadata={"labels": {"app": "metallb", "component": "speaker"}},
                spec={"nodeName": name, "containers": [{"name": "speaker", "image": "x"}]},
                status={"podIP": f"192.0.2.{number}", "phase": "Running"},
            )
        await self.make_pool("default", "10.20.30.0/24")
        await self.make(resources.L2_ADVERTISEMENTS, "all", SPACE, spec={})

    async def make_pool(self, name: str, *addresses: str) -> None:
        await self.make(resources.IP_ADDRESS_POOLS, name, SPACE, spec={"addresses": addresses})

    async def make_service(self, name: str, *ips: str, ready: bool = True, **spec: Any) -> None:
        await self.make(
            resources.ENDPOINT_SLICES,
            f"{name}-1",
            "default",
            metadata={"labels": {"kubernetes.io/service-name": name}},
            addressType="IPv4",
            endpoints=[
                {"addresses": ["10.1.0.1"], "nodeName": "iris1", "conditions": {"ready": ready}},
            ],
            ports=[],
        )
        await self.make(
            resources.SERVICES,
            name,
            "default",
            spec={"type": "LoadBalancer", "ports": [{"port": 80}], **spec},
        )
        await self.assign(name, *ips)

    async def assign(self, name: str, *ips: str) -> None:
        """What the controller does."""
        status = {"loadBalancer": {"ingress": [{"ip": ip} for ip in ips]}}
        await self.set_status(resources.SERVICES, name, "default", status)

    async def events(self) -> list[tuple[str, str, str, int]]:
        """(service, reason, message, count), the oldest first."""
        found = await self.listed(resources.EVENTS, "default")
        return [
            (each["involvedObject"]["name"], each["reason"], each["message"], each["count"]) for each in found
        ]


class FakeReflex:
    """The other end of the socketpair."""

    def __init__(self, stream: trio.SocketStream, node: str) -> None:
        self.node = node
        self.down: list[Down] = []
        self.reachable: set[str] = set(NODES)
        self._stream = stream

    @property
    def all_orders(self) -> list[Orders]:
        return [each for each in self.down if isinstance(each, Orders)]

    @property
    def orders(self) -> Orders:
        """The newest."""
        return self.all_orders[-1]

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(vip.address for vip in self.orders.vips) if self.all_orders else ()

    @property
    def seeds(self) -> tuple[str, ...]:
        return next((each.addresses for each in reversed(self.down) if isinstance(each, Seeds)), ())

    async def tell(self, message: Up) -> None:
        await self._stream.send_all(orders.encode(message))

    async def obey(self, *, missing: Iterable[str] = ()) -> None:
        """Act upon the newest orders and report it."""
        names = sorted(NODES)
        members = tuple(
            MemberView(name, "192.0.2.9", 7946, "alive", name in self.reachable) for name in names
        )
        await self.tell(Members(members, True))
        states = []
        for vip in self.orders.vips:
            owner = next((name for name in vip.candidates if name in self.reachable), None)
            ours, lost = owner == self.node, vip.address in missing
            states.append(VipState(vip.address, owner, ours and not lost, (), ours and lost, 5, 4, 3))
        await self.tell(Vips(self.orders.generation, tuple(states)))

    async def happen(self, what: str, subject: str, why: str = "", mac: str = "") -> None:
        await self.tell(Happened(0.0, what, subject, why, mac))

    def end(self) -> None:
        """As when its process ends."""
        self._stream.socket.shutdown(socket.SHUT_RDWR)

    async def read(self) -> None:
        buffer = bytearray()
        while True:
            data = await self._stream.receive_some(1 << 16)
            if not data:
                return
            buffer += data
            while len(buffer) >= orders.HEADER:
                size = orders.frame_length(bytes(buffer[: orders.HEADER]))
                if len(buffer) < orders.HEADER + size:
                    break
                message = orders.decode(bytes(buffer[orders.HEADER : orders.HEADER + size]))
                assert isinstance(message, Orders | Seeds)
                self.down.append(message)
                del buffer[: orders.HEADER + size]


class Speaker:
    """A running planner and its fake reflex."""

    def __init__(self, reflex: FakeReflex, program: Program, port: int) -> None:
        self.reflex = reflex
        self.program = program
        self.port = port
        self.gone = trio.Event()
        """The planner noticed that its reflex went."""

    async def fetch(self, path: str) -> tuple[int, bytes]:
        """Status and body, once the port is served."""

        async def connect() -> trio.SocketStream | None:
            try:
                return await trio.open_tcp_stream("127.0.0.1", self.port)
            except OSError:
                return None

        stream = await until(connect, bool)
        assert stream is not None
        async with stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join([chunk async for chunk in stream])
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    async def settle(self, *addresses: str) -> None:
        """Until exactly these are ordered; then obey."""
        await soon(lambda: self.reflex.addresses == addresses)
        await self.reflex.obey()


@asynccontextmanager
async def running(
    cluster: Cluster, *flags: str, node: str = "iris1", generation: int = 0, membership: bool = True
) -> AsyncIterator[Speaker]:
    """A planner, from Hello to the end of the block."""
    ours, theirs = socket.socketpair()
    port = free_port()
    api = cluster.connect()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    link = Link(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
    reflex = FakeReflex(stream, node)
    await reflex.tell(Hello(orders.PROTOCOL, node, generation, membership, 1))
    speaker = Speaker(reflex, Program(settings(node, *flags, port=port), link, await link.hello(), api), port)

    async def live() -> None:
        try:
            await speaker.program.run()
        except* ReflexGone:
            speaker.gone.set()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reflex.read)
            nursery.start_soon(live)
            yield speaker
            nursery.cancel_scope.cancel()
    finally:
        api.close()
        ours.close()
        theirs.close()


@asynccontextmanager
async def open_cluster(*, furnished: bool = True) -> AsyncIterator[Cluster]:
    async with inprocess.open_api(metallb_crds=True) as server:
        cluster = Cluster(server)
        try:
            if furnished:
                await cluster.furnish()
            yield cluster
        finally:
            cluster.api.close()


class RealCluster(Cluster):
    """The same on another server: the test is its administrator, planners are the speakers' account."""

    def __init__(self, kube: Kube, accounts: Accounts) -> None:
        self.api = api_of(kube.kubeconfig)
        self._accounts = accounts
        self._connected: list[Api] = []

    def connect(self) -> Api:
        self._connected.append(api_of(self._accounts.speaker))
        return self._connected[-1]

    async def rest(self) -> None:
        """Until what planners have asked for is done: one given up is carried out all the same."""
        await at_rest(self._connected)


def api_of(kubeconfig: Path) -> Api:
    return Api(Transport(from_kubeconfig(kubeconfig)))


@asynccontextmanager
async def open_real(kube: Kube, accounts: Accounts) -> AsyncIterator[Cluster]:
    """On a server that others have used before."""
    delete_all(
        kube,
        *(kind.path(SPACE) for kind in MADE),
        *(kind.path("default") for kind in (resources.ENDPOINT_SLICES, resources.EVENTS, resources.SERVICES)),
        resources.NODES.path(),
    )
    cluster = RealCluster(kube, accounts)
    try:
        await cluster.furnish()
        yield cluster
        await cluster.rest()
    finally:
        cluster.api.close()
