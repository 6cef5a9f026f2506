"""How fast the controller gives addresses: many at once, after a restart, one more; and the ledger alone.

    python bench/controller.py [--services 2000] [--more 50]

The API is the embedded one, in a process of its own on this machine: what is measured has its time in it, and
on two cores it competes with the controller.  The creation alone, with no controller running, is printed
beside it.  (Not named after the package it measures: a script's own folder comes first where Python looks.)
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from allocator.ledger import NO_KEY, Claim, Ledger, Port
from crier.kube.client import Api
from crier.kube.model.pool import Pool, parse_networks
from crier.kube.model.service import Service
from crier.kube.resources import IP_ADDRESS_POOLS, NAMESPACES, SERVICES
from crier.kube.watch import Mirror, watch
from crier.lab.api.process import start_api_process

SYSTEM = "metallb-system"
CLIENTS = 8
USED = 100_000
TIMED = 20_000
PATIENCE = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--more", type=int, default=50, help="services added one by one at the end")
    given = parser.parse_args()
    print(f"ledger, a /64 with {USED} addresses used: {ledger_rate():,.0f} allocations/s")
    with start_api_process("--metallb-crds") as server:
        os.environ["KUBECONFIG"] = str(server.kubeconfig)
        alone = trio.run(creation_alone, given.services)
    print(f"creation of {given.services} services by {CLIENTS} clients, no controller: {alone:.1f} s")
    with start_api_process("--metallb-crds") as server:
        os.environ["KUBECONFIG"] = str(server.kubeconfig)
        trio.run(against_an_api, given.services, given.more)


def ledger_rate() -> float:
    """Allocations a second, each the lowest free address found and claimed."""
    ledger = Ledger()
    ledger.configure([Pool(name="p", networks=parse_networks("2001:db8::/64"))])
    ports = frozenset({Port("TCP", 80)})

    def allocate(number: int) -> None:
        name = f"default/s{number}"
        address = ledger.lowest("p", 6, name, ports, NO_KEY)
        assert address is not None
        ledger.put(Claim(name, "p", (address,), ports, NO_KEY))

    for number in range(USED):
        allocate(number)
    began = time.process_time()
    for number in range(USED, USED + TIMED):
        allocate(number)
    return TIMED / (time.process_time() - began)


def body(name: str) -> dict[str, Any]:
    spec = {"type": "LoadBalancer", "ports": [{"port": 80, "name": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


async def furnish(api: Api) -> None:
    await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    pool = {
        "apiVersion": IP_ADDRESS_POOLS.api_version,
        "kind": "IPAddressPool",
        "metadata": {"name": "p"},
        "spec": {"addresses": ["10.64.0.0/16"]},
    }
    await api.create(IP_ADDRESS_POOLS, pool, namespace=SYSTEM)


async def create(api: Api, names: list[str]) -> None:
    async def client(mine: list[str]) -> None:
        for name in mine:
            await api.create(SERVICES, body(name), namespace="default")

    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(client, names[number::CLIENTS])


async def creation_alone(count: int) -> float:
    api = Api.connect()
    await furnish(api)
    began = time.monotonic()
    await create(api, [f"s{number:05}" for number in range(count)])
    return time.monotonic() - began


class Program:
    """The controller as a process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "allocator.app", "--health-probe-port=17997", "--port=17998"),
                *("--health-bind-address=127.0.0.1", "--pod-name=bench", f"--namespace={SYSTEM}"),
            ],
            stdout=subprocess.DEVNULL,
        )

    def cost(self) -> str:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (rss,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")]
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return f"{rss / 1024:.0f} MB RSS, {cpu:.1f} CPU s"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


async def against_an_api(count: int, more: int) -> None:
    api = Api.connect()
    await furnish(api)
    mirror: Mirror[Service] = Mirror(Service.decode, keep_changes=True)
    news = trio.Event()
    assigned: set[str] = set()

    def changed() -> None:
        nonlocal news
        for key in mirror.take_changes():
            if (service := mirror.objects.get(key)) and service.ingress_ips:
                assigned.add(service.name)
        news.set()
        news = trio.Event()

    async def until(true: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE):
            while not true():
                await news.wait()

    async with trio.open_nursery() as nursery:
        await nursery.start(watch, api, SERVICES, mirror, changed)
        program = Program()
        try:
            await create(api, ["warm"])
            await until(lambda: "warm" in assigned)
            began = time.monotonic()
            await create(api, [f"s{number:05}" for number in range(count)])
            created = time.monotonic()
            await until(lambda: len(assigned) == count + 1)
            done = time.monotonic()
            print(
                f"{count} services: created after {created - began:.1f} s, all have addresses "
                f"{done - created:.1f} s later; controller {program.cost()}"
            )
            program.end()
            await create(api, ["next"])
            began = time.monotonic()
            program = Program()
            await until(lambda: "next" in assigned)
            print(
                f"restart with {count} assigned: the next has its address after "
                f"{time.monotonic() - began:.1f} s; {program.cost()}"
            )
            took: list[float] = []
            for number in range(more):
                name = f"more-{number}"
                began = time.monotonic()
                await create(api, [name])
                await until(lambda name=name: name in assigned)  # type: ignore[misc]
                took.append((time.monotonic() - began) * 1e3)
            took.sort()
            p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
            print(
                f"one more, from before its creation to its address seen: median "
                f"{statistics.median(took):.0f} ms, p99 {p99:.0f} ms"
            )
        finally:
            program.end()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    main()
