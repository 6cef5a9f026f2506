"""How late the reflex's loop runs while much happens to it, and what it costs at rest.

    python bench/reflex.py [--services 10000] [--relists 3] [--seconds 20]

Root.  The real reflex in a network namespace of its own, with its planner as child and the embedded API
beside it.  Services have their addresses already.  The loop is asked every few milliseconds whether it is on
time: while the first orders come into force, while the planner is killed, started again and lists everything
anew, while half of it is handed over and taken back at once.  Then nothing is asked, and `/proc` says
what reflex and planner cost at rest.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.speaker_cost import memory, spent
from crier.lab.api.process import start_api_process
from crier.lab.errors import LabError
from crier.lab.rest import Rest
from crier.ops import logs
from speaker.reflex import program, realtime
from speaker.reflex.reflex import Reflex
from speaker.settings import parse

CLONE_NEWNET: Final = 0x40000000
NODE: Final = "node-1"
PLANNER: Final = (sys.executable, "-m", "speaker.planner", "--log-level=none")
ADDRESS: Final = "10.77.0.1"
SPACE: Final = "metallb-system"
SAMPLE: Final = 0.005
PATIENCE: Final = 300.0
WRITERS: Final = 4
RESTING: Final = 0.01
"""Of a core: a planner that uses less has written its events and statuses."""
LOOK: Final = 5.0


def enter_namespace() -> None:
    """This process, with all it starts, gets a network of its own: loopback, and `eth0` to a silent peer."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for command in (
        "link set lo up",
        "link add eth0 type veth peer name peer0",
        f"address add {ADDRESS}/24 dev eth0",
        "link set eth0 up",
        "link set peer0 up",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def fill(api: Rest, count: int) -> None:
    """Services that have an address, with an endpoint each, a pool and its announcement."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    api.create("/api/v1/namespaces", space)
    base = f"/apis/metallb.io/v1beta1/namespaces/{SPACE}"
    metallb = {"apiVersion": "metallb.io/v1beta1"}
    for kind, plural, spec in (
        ("IPAddressPool", "ipaddresspools", {"addresses": ["10.64.0.0/16"]}),
        ("L2Advertisement", "l2advertisements", {}),
    ):
        api.create(f"{base}/{plural}", {**metallb, "kind": kind, "metadata": {"name": "p"}, "spec": spec})
    for node in (NODE, "node-2"):
        api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})

    def one(number: int) -> None:
        name = f"s{number}"
        service: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": False},
        }
        services = "/api/v1/namespaces/default/services"
        made = api.create(services, service)
        ingress = [{"ip": f"10.64.{number >> 8}.{number & 255}"}]
        status = {**made, "status": {"loadBalancer": {"ingress": ingress}}}
        api.request("PUT", f"{services}/{name}/status", status)
        endpoints: dict[str, Any] = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": NODE, "conditions": {"ready": True}}],
        }
        api.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", endpoints)

    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(one, range(count)))


class Bench:
    def __init__(self, reflex: Reflex, services: int) -> None:
        self._reflex = reflex
        self._services = services
        self._late: list[float] = []
        self.sampling = trio.CancelScope()

    async def sample(self) -> None:
        with self.sampling:
            while True:
                due = trio.current_time() + SAMPLE
                await trio.sleep_until(due)
                self._late.append(trio.current_time() - due)

    def say(self, what: str, took: float) -> None:
        ordered, self._late = sorted(self._late), []
        at = [ordered[min(len(ordered) * part // 1000, len(ordered) - 1)] * 1e3 for part in (500, 990, 999)]
        print(
            f"{what:<52} {took:6.1f} s, {len(ordered):5} samples, late p50 {at[0]:.2f}, p99 {at[1]:.2f}, "
            f"p99.9 {at[2]:.2f}, worst {ordered[-1] * 1e3:.2f} ms; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )

    async def until(self, true: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE):
            while not true():  # noqa: ASYNC110 - the reflex has no event for what a bench wants to see
                await trio.sleep(0.05)

    async def timed(self, what: str, act: Callable[[], Awaitable[None]]) -> None:
        self._late.clear()
        began = time.monotonic()
        await act()
        self.say(what, time.monotonic() - began)

    def owned(self) -> int:
        announcer = self._reflex._announcer
        return sum(announcer.owns(address) for address in announcer.addresses())

    async def play(self, relists: int, seconds: float) -> None:
        await self.timed("planner starts, lists, first orders in force", self._first)
        for _ in range(relists):
            await self.timed("planner killed, lists everything again", self._relist)
        await self.timed("another node comes and takes its share", self._lose)
        await self.timed("that node is gone, its share taken over", self._gain)
        await self.timed("the announcements, all rounds of them", self._quiet)
        self.sampling.cancel()
        await self._rest(seconds)

    async def _first(self) -> None:
        await self.until(lambda: self.owned() == self._services)

    async def _relist(self) -> None:
        generation = self._reflex._generation
        os.kill(_child(), signal.SIGKILL)
        await self.until(lambda: self._reflex._generation > generation)

    def _members(self, *names: str) -> None:
        reflex = self._reflex
        reflex._perform(reflex._announcer.members(set(names), trio.current_time()))

    async def _lose(self) -> None:
        self._members("node-2")
        await self.until(lambda: self._reflex._announcer.next_deadline() == float("inf"))
        print(f"{self._services - self.owned()} of {self._services} handed over")

    async def _gain(self) -> None:
        self._members()
        await self.until(lambda: self.owned() == self._services)

    async def _quiet(self) -> None:
        await self.until(lambda: self._reflex.l2.core.next_deadline() == float("inf"))

    async def _rest(self, seconds: float) -> None:
        planner, began, busy = _child(), time.monotonic(), 1.0
        while busy > RESTING and time.monotonic() - began < PATIENCE:
            before = spent(planner)
            await trio.sleep(LOOK)
            busy = (spent(planner) - before) / LOOK
        print(f"at rest after {time.monotonic() - began:.0f} s more")
        pids = {"reflex": os.getpid(), "planner": _child()}
        used, began = {name: spent(pid) for name, pid in pids.items()}, time.monotonic()
        await trio.sleep(seconds)
        took = time.monotonic() - began
        for name, pid in pids.items():
            pss, rss = memory(pid)
            share = (spent(pid) - used[name]) / took
            print(f"{name:8} at rest {share:7.2%} of a core, PSS {pss:5.1f} MB, RSS {rss:5.1f} MB")


def _children() -> Iterator[int]:
    for entry in Path("/proc/self/task").iterdir():
        yield from map(int, (entry / "children").read_text(encoding="ascii").split())


def _child() -> int:
    for pid in _children():
        if b"speaker.planner" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise LabError("there is no planner")


async def run(services: int, relists: int, seconds: float) -> None:
    made: list[Reflex] = []

    class Seen(Reflex):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            made.append(self)

    setattr(program, "Reflex", Seen)  # noqa: B010
    environ = {
        "METALLB_NODE_NAME": NODE,
        "METALLB_POD_NAME": "speaker-1",
        "METALLB_NAMESPACE": SPACE,
        "METALLB_ML_BIND_ADDR": ADDRESS,
        "METALLB_ML_LABELS": "app=metallb",
        "CRIER_EXCLUDE_L2_FILE": "/nonexistent",
        "CRIER_ML_CONFIG_FILE": "/nonexistent",
    }
    os.environ.update(environ)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.serve, parse([], environ), PLANNER, None)
        await trio.testing.wait_all_tasks_blocked()
        bench = Bench(made[0], services)
        nursery.start_soon(bench.sample)
        await bench.play(relists, seconds)
        nursery.cancel_scope.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--relists", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    enter_namespace()
    logs.configure("none", blocking=False)
    with start_api_process("--metallb-crds") as server:
        os.environ["KUBECONFIG"] = str(server.kubeconfig)
        began = time.monotonic()
        fill(Rest.from_kubeconfig(server.kubeconfig), options.services)
        print(f"{options.services} Services written in {time.monotonic() - began:.0f} s", flush=True)
        realtime.be_first()
        trio.run(run, options.services, options.relists, options.seconds)


if __name__ == "__main__":
    main()
