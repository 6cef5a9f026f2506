"""How fast the planner is: from its start, and from a change in the API, to the reflex's orders; and how
long a plan takes.

The API is the embedded one, on this machine, the reflex is played by the bench.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import trio

from crier.kube import resources
from crier.kube.client import Api
from crier.kube.model.advertisement import L2Advertisement
from crier.kube.model.endpoints import Endpoint, EndpointSlice
from crier.kube.model.node import Node
from crier.kube.model.pool import Pool, parse_networks
from crier.kube.model.service import Service
from crier.lab.api.process import start_api_process
from speaker import orders
from speaker.orders import Hello, Orders
from speaker.planner.plan import Planner, Rules
from speaker.planner.view import Configuration, View

SPACE = "metallb-system"
SERVICES = 10_000
NODES = 10
CHANGES = 100


def main() -> None:
    print(f"a plan of {SERVICES} services on {NODES} nodes, ms of processor time")
    for what, milliseconds in plans():
        print(f"  {what:<34} {milliseconds:8.1f}")
    with start_api_process("--metallb-crds") as server:
        os.environ["KUBECONFIG"] = str(server.kubeconfig)
        against_an_api()


def plans() -> list[tuple[str, float]]:
    names = [f"node-{number}" for number in range(NODES)]
    endpoints = tuple(Endpoint(("10.1.0.1",), name) for name in names[:3])
    pool = Pool(name="p", networks=parse_networks("10.20.0.0/16"))
    services = [service(f"s{each}", f"10.20.{each >> 8}.{each & 255}") for each in range(SERVICES)]
    world = View(
        {each.key: each for each in services},
        {
            each.key: (
                EndpointSlice(namespace="default", name=each.name, service_key=each.key, endpoints=endpoints),
            )
            for each in services
        },
        {name: Node(name=name) for name in names},
        Configuration.of([pool], [L2Advertisement(name="all")]),
    )
    one = replace(world, services={**world.services, "default/s5": service("s5", "10.20.255.255")})
    less = replace(one, nodes={**one.nodes, names[3]: Node(name=names[3], network_unavailable=True)})
    planner = Planner(names[0], Rules())
    found: list[tuple[str, float]] = []
    for what, each in (
        ("the first", world),
        ("nothing changed", world),
        ("one service changed", one),
        ("a node became unavailable", less),
    ):
        began = time.process_time()
        plan = planner.plan(each)
        found.append((what, (time.process_time() - began) * 1e3))
    began = time.process_time()
    size = len(orders.encode(Orders(1, plan.vips)))
    return [*found, (f"to encode it ({size / 1e6:.1f} MB)", (time.process_time() - began) * 1e3)]


def service(name: str, address: str) -> Service:
    return Service(namespace="default", name=name, type="LoadBalancer", ingress_ips=(address,))


def against_an_api() -> None:
    api = Api.connect()
    trio.run(furnish, api)
    ours, theirs = socket.socketpair()
    environ = {
        **os.environ,
        "METALLB_NODE_NAME": "node-0",
        "METALLB_POD_NAME": "speaker-0",
        "METALLB_NAMESPACE": SPACE,
        "CRIER_REFLEX_FD": str(theirs.fileno()),
    }
    began = time.monotonic()
    command = [sys.executable, "-m", "speaker.planner", "--log-level=error", "--health-probe-port=27472"]
    with subprocess.Popen([*command, "--port=29120"], env=environ, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        ours.sendall(orders.encode(Hello(orders.PROTOCOL, "node-0", 0, False, 1)))
        await_orders(ours, "10.20.0.1")
        print(f"from exec to the first orders         {(time.monotonic() - began) * 1e3:8.1f} ms")
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as status:
            (resident,) = (line.split()[1] for line in status if line.startswith("VmRSS"))
        print(f"resident                              {int(resident) / 1024:8.1f} MiB")
        waits = trio.run(change, api, ours)
        print(
            f"from a change in the API to orders    {statistics.median(waits):8.1f} ms"
            f" (worst of {len(waits)}: {max(waits):.1f})"
        )
        ours.close()


async def furnish(api: Api) -> None:
    async def make(kind: resources.Resource, name: str, space: str | None = None, **body: Any) -> None:
        meta = {"name": name, **body.pop("metadata", {})}
        made = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **body}
        await api.create(kind, made, namespace=space)

    await make(resources.NAMESPACES, SPACE)
    for number in range(3):
        await make(resources.NODES, f"node-{number}")
    await make(resources.IP_ADDRESS_POOLS, "p", SPACE, spec={"addresses": ["10.20.0.0/16"]})
    await make(resources.L2_ADVERTISEMENTS, "all", SPACE, spec={})
    await make(
        resources.ENDPOINT_SLICES,
        "web-1",
        "default",
        metadata={"labels": {"kubernetes.io/service-name": "web"}},
        addressType="IPv4",
        endpoints=[{"addresses": ["10.1.0.1"], "conditions": {"ready": True}}],
    )
    await make(resources.SERVICES, "web", "default", spec={"type": "LoadBalancer", "ports": [{"port": 80}]})
    await assign(api, "10.20.0.1")


async def assign(api: Api, address: str) -> None:
    status = {"loadBalancer": {"ingress": [{"ip": address}]}}
    await api.patch(resources.SERVICES, "web", {"status": status}, namespace="default", subresource="status")


async def change(api: Api, reflex: socket.socket) -> list[float]:
    """Milliseconds from the API's answer to our write until the orders have come."""
    waits: list[float] = []
    for number in range(CHANGES):
        address = f"10.20.1.{number}"
        await assign(api, address)
        began = time.monotonic()
        await_orders(reflex, address)
        waits.append((time.monotonic() - began) * 1e3)
    return waits


def await_orders(reflex: socket.socket, address: str) -> None:
    while True:
        message = orders.decode(take(reflex, orders.frame_length(take(reflex, orders.HEADER))))
        if isinstance(message, Orders) and address in {vip.address for vip in message.vips}:
            return


def take(reflex: socket.socket, size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        part = reflex.recv(size - len(taken))
        if not part:
            raise SystemExit("the planner went away")
        taken += part
    return taken


if __name__ == "__main__":
    main()
