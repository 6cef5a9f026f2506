"""What a speaker costs: processor time at rest and memory, beside MetalLB's, with one VIP and with many.

    python bench/speaker_cost.py [--services 1000] [--systems crier,metallb] [--seconds 20]

Root.  Two nodes in the lab; figures are of node-1's speaker, from when nothing has been written to the API
for `REST_BEFORE`: no event, no status.  For Crier, also how late its reflex's loop was
at worst while its planner was killed, started again and listed everything anew.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from crier.lab import runs
from crier.lab.cluster import Cluster, Settings
from crier.lab.errors import LabError
from crier.lab.kubelet import SYSTEM, slice_manifest
from crier.lab.peers import metallb
from crier.lab.process import descendants
from crier.lab.rest import Rest
from crier.lab.services import CATALOGUE, NAMESPACE, LabService, Port
from crier.lab.services import pool_manifests as lab_pools

NODE: Final = "node-1"
REST_BEFORE: Final = 10.0
"""Seconds without a write before the measurement; the announcements repeat for some of them."""
PATIENCE: Final = 600.0
TICKS: Final = os.sysconf("SC_CLK_TCK")


def many(count: int) -> list[LabService]:
    return [
        LabService(f"many-{n}", ("IPv4",), (Port("probe", "UDP", 8000, 9080),), "Cluster", "")
        for n in range(count)
    ]


def fill(api: Rest, cluster: Cluster, count: int) -> None:
    """A pool of its own, its announcement, and Services with an endpoint on each node."""
    base = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}"
    pool, announcement = lab_pools(SYSTEM)
    pool |= {"metadata": {"name": "many", "namespace": SYSTEM}, "spec": {"addresses": ["10.64.0.0/18"]}}
    announcement |= {
        "metadata": {"name": "many", "namespace": SYSTEM},
        "spec": {"ipAddressPools": ["many"]},
    }
    api.create(f"{base}/ipaddresspools", pool)
    api.create(f"{base}/l2advertisements", announcement)
    for service in many(count):
        manifest = service.manifest()
        manifest["metadata"]["annotations"] = {"metallb.io/address-pool": "many"}
        api.create(
            f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices",
            slice_manifest(service, "IPv4", cluster.lan.nodes.values(), frozenset()),
        )
        api.create(f"/api/v1/namespaces/{NAMESPACE}/services", manifest)


def assigned(api: Rest) -> int:
    listed: list[dict[str, Any]] = (api.get(f"/api/v1/namespaces/{NAMESPACE}/services") or {})["items"]
    return sum(1 for item in listed if item.get("status", {}).get("loadBalancer", {}).get("ingress"))


def spent(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> tuple[float, float]:
    """PSS and RSS in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    sizes = {line.split()[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    return sizes["Pss:"] / 1024, sizes["Rss:"] / 1024


async def rest(api: Rest, label: str) -> None:
    """Wait until the API's revision, which every write to it moves, has stood still for `REST_BEFORE`."""
    began = still_since = time.monotonic()
    revision = ""
    while (now := time.monotonic()) - still_since < REST_BEFORE:
        if now - began > PATIENCE:
            raise LabError(f"{label}: something is still being written after {PATIENCE:g} s")
        listed = await trio.to_thread.run_sync(api.get, "/api/v1/namespaces")
        newest = str((listed or {})["metadata"]["resourceVersion"])
        if newest != revision:
            revision, still_since = newest, now
        await trio.sleep(0.5)
    print(f"{label}: the last write was {still_since - began:.0f} s later; load {os.getloadavg()[0]:.1f}")


async def measure(cluster: Cluster, label: str, seconds: float) -> None:
    pid = cluster.speaker(NODE).pid
    pids = {"speaker": pid, **dict(zip(("planner",), descendants(pid), strict=False))}
    began, before = time.monotonic(), {name: spent(p) for name, p in pids.items()}
    await trio.sleep(seconds)
    took = time.monotonic() - began
    for name, each in pids.items():
        share = (spent(each) - before[name]) / took
        pss, rss = memory(each)
        print(f"{label}: {name:8} {share:7.2%} of a core, PSS {pss:6.1f} MB, RSS {rss:6.1f} MB", flush=True)


async def relist(cluster: Cluster) -> None:
    (planner,) = descendants(cluster.speaker(NODE).pid)
    await cluster.status(NODE)  # it takes the worst so far with it
    began = time.monotonic()
    os.kill(planner, signal.SIGKILL)
    with trio.fail_after(PATIENCE):
        while True:
            await trio.sleep(1)
            status = await cluster.status(NODE)
            if status is not None and status["planner"]["pid"] != planner and status["planner"]["synced"]:
                break
    late = status["reflex"]
    print(
        f"planner killed, back and synced after {time.monotonic() - began:.1f} s: reflex's loop late "
        f"{late['loop_late_max'] * 1000:.1f} ms at worst, p99 {late['loop_late_p99'] * 1000:.1f} ms"
    )


async def play(cluster: Cluster, name: str, services: int, seconds: float) -> None:
    await cluster.start(lambda text: print(f"{name}: {text}", file=sys.stderr))
    await cluster.addresses()
    api = Rest.from_kubeconfig(cluster.kubeconfig)
    await rest(api, f"{name}, 1 VIP")
    await measure(cluster, f"{name}, 1 VIP", seconds)
    began = time.monotonic()
    await trio.to_thread.run_sync(fill, api, cluster, services)
    while await trio.to_thread.run_sync(assigned, api) < services + 1:
        if time.monotonic() - began > PATIENCE:
            raise LabError(f"not every Service had an address within {PATIENCE:g} s")
        await trio.sleep(0.5)
    print(f"{name}: {services} Services made and given addresses in {time.monotonic() - began:.0f} s")
    await rest(api, f"{name}, {services + 1} VIPs")
    await measure(cluster, f"{name}, {services + 1} VIPs", seconds)
    if name == "crier":
        await relist(cluster)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--systems", default="crier,metallb")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    for name in options.systems.split(","):
        programs = metallb.programs(lambda text: print(text, file=sys.stderr)) if name == "metallb" else None
        run = runs.create()
        try:
            cluster = Cluster(run, Settings(2, (CATALOGUE["web"],), programs=programs))
            trio.run(play, cluster, name, options.services, options.seconds)
        except LabError as problem:
            print(f"{name}: {problem}", file=sys.stderr)
            return 1
        finally:
            run.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
