"""From a change of one Service in the API to the UPDATE at a router's socket, with few services and many.

    python bench/routed.py [SERVICES ...]

The API is the embedded one and the router a socket of the bench; between them is the real planner.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

import trio

from bgp_lite.messages import Capabilities, Open, Update
from bgp_lite.prefix import Family
from bgp_lite.wire import KEEPALIVE, Framer, decode, encode
from crier.kube import resources
from crier.kube.client import Api
from crier.lab.api.process import start_api_process
from speaker import orders
from speaker.orders import Hello

SPACE = "metallb-system"
PORT = 20179
COUNTS = (10, 2_000, 10_000)
CHANGES = 300
PAUSE = 0.05
CALM = 180.0
"""Seconds for the planner to write its statuses; in the first minute everything is new."""


def main() -> None:
    print("from the API's answer to a write of one Service until the UPDATE is here, ms")
    for count in map(int, sys.argv[1:]) if len(sys.argv) > 1 else COUNTS:
        with start_api_process("--metallb-crds") as server:
            os.environ["KUBECONFIG"] = str(server.kubeconfig)
            one_run(count)


class Router:
    """Takes one session, without a hold time, and notes when it was told of each prefix."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}
        self.news = threading.Condition()
        self._server = socket.create_server(("127.0.0.1", PORT))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        sock, _ = self._server.accept()
        mine = Open(65000, 0, 1, Capabilities(families=frozenset({Family.IPV4}), asn=65000))
        sock.sendall(encode(mine) + KEEPALIVE)
        framer = Framer()
        while data := sock.recv(65536):
            now = time.monotonic()
            framer.feed(data)
            while frame := framer.next_frame():
                message = decode(*frame)
                if isinstance(message, Update):
                    with self.news:
                        self.heard.update((str(prefix), now) for prefix in message.announced)
                        self.news.notify()

    def wait_for(self, prefix: str) -> float:
        with self.news:
            if not self.news.wait_for(lambda: prefix in self.heard, timeout=60):
                raise SystemExit(f"{prefix} was never told")
            return self.heard[prefix]

    def wait_count(self, count: int) -> None:
        with self.news:
            if not self.news.wait_for(lambda: len(self.heard) >= count, timeout=120):
                raise SystemExit(f"{len(self.heard)} of {count} prefixes were told")

    def close(self) -> None:
        self._server.close()


def one_run(count: int) -> None:
    api = Api.connect()
    trio.run(furnish, api, count)
    router = Router()
    ours, theirs = socket.socketpair()
    environ = {
        **os.environ,
        "METALLB_NODE_NAME": "node-0",
        "METALLB_POD_NAME": "speaker-0",
        "METALLB_NAMESPACE": SPACE,
        "CRIER_REFLEX_FD": str(theirs.fileno()),
    }
    command = [sys.executable, "-m", "speaker.planner", "--log-level=error", "--health-probe-port=27472"]
    began = time.monotonic()
    with subprocess.Popen([*command, "--port=29120"], env=environ, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        threading.Thread(target=partial(swallow, ours), daemon=True).start()
        ours.sendall(orders.encode(Hello(orders.PROTOCOL, "node-0", 0, False, 1)))
        router.wait_count(count)
        told = time.monotonic() - began
        calm(process.pid)
        waits = sorted(trio.run(change, api, router))
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as status:
            (resident,) = (line.split()[1] for line in status if line.startswith("VmRSS"))
        p99 = waits[-1 - CHANGES // 100]
        print(
            f"  {count:6} services: median {statistics.median(waits):5.1f}  p99 {p99:5.1f}  "
            f"worst {waits[-1]:5.1f}   (all told {told:.1f} s after exec; {int(resident) / 1024:.0f} MiB; "
            f"load {os.getloadavg()[0]:.1f})",
            flush=True,
        )
        process.terminate()
    ours.close()
    router.close()
    api.close()


def calm(pid: int) -> None:
    """Until the process does next to nothing."""
    until, times = time.monotonic() + CALM, [processor_time(pid)]
    while time.monotonic() < until:
        time.sleep(1)
        times.append(processor_time(pid))
        if times[-1] - times[-5:][0] < 0.03 and len(times) > 4:
            return
    print("  (it still writes statuses)")


def processor_time(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def swallow(sock: socket.socket) -> None:
    try:
        while sock.recv(1 << 20):
            pass
    except OSError:
        pass


async def furnish(api: Api, count: int) -> None:
    async def make(kind: resources.Resource, name: str, space: str | None = None, **body: Any) -> None:
        meta = {"name": name, **body.pop("metadata", {})}
        made = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **body}
        await api.create(kind, made, namespace=space)

    await make(resources.NAMESPACES, SPACE)
    await make(resources.NODES, "node-0")
    await make(resources.IP_ADDRESS_POOLS, "p", SPACE, spec={"addresses": ["10.20.0.0/16"]})
    await make(resources.BGP_ADVERTISEMENTS, "all", SPACE, spec={})
    peer = {"myASN": 64500, "peerASN": 65000, "peerAddress": "127.0.0.1", "peerPort": PORT}
    await make(resources.BGP_PEERS, "router", SPACE, spec=peer)

    async def service(number: int) -> None:
        name = f"s{number}"
        await make(
            resources.ENDPOINT_SLICES,
            f"{name}-1",
            "default",
            metadata={"labels": {"kubernetes.io/service-name": name}},
            addressType="IPv4",
            endpoints=[{"addresses": ["10.1.0.1"], "conditions": {"ready": True}}],
        )
        ports = {"ports": [{"port": 80}], "allocateLoadBalancerNodePorts": False}
        spec = {"type": "LoadBalancer", **ports}
        await make(resources.SERVICES, name, "default", spec=spec)
        await assign(api, name, f"10.20.{number >> 8}.{number & 255}")

    limit = trio.CapacityLimiter(8)

    async def limited(number: int) -> None:
        async with limit:
            await service(number)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(limited, number)


async def assign(api: Api, name: str, address: str) -> None:
    status = {"loadBalancer": {"ingress": [{"ip": address}]}}
    await api.patch(resources.SERVICES, name, {"status": status}, namespace="default", subresource="status")


async def change(api: Api, router: Router) -> list[float]:
    waits: list[float] = []
    for number in range(CHANGES):
        address = f"10.20.{250 + (number >> 8)}.{number & 255}"
        await assign(api, "s0", address)
        began = time.monotonic()
        heard = await trio.to_thread.run_sync(router.wait_for, f"{address}/32")
        waits.append(max(0.0, heard - began) * 1e3)
        await trio.sleep(PAUSE)
    return waits


if __name__ == "__main__":
    main()
