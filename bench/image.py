"""The image: how large it is, and how long its programs take from exec to ready.

    python bench/image.py [--runs 5]

Root.  The file system is made by hack/rootfs.py; controller and speaker run from it as manifests/base says,
on a LAN of two nodes with a real API server, and are ready when the manifest's readiness probe succeeds.  The
processor time says what that would take on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import io
import os
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import trio
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from crier.lab import netns, runs
from crier.lab.cluster import Cluster, Settings
from crier.lab.kube import programs
from crier.lab.pods import Workloads
from crier.lab.process import LabProcess, descendants
from crier.lab.services import CATALOGUE

CHECKOUT: Final = Path(__file__).parents[1]
PATIENCE: Final = 30.0
PORT: Final = 17472


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crier-bench-") as scratch:
        root = Path(scratch, "root")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "crier", "image")
        command = [sys.executable, str(CHECKOUT / "hack" / "rootfs.py"), str(root), "--cache", str(cache)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        size(root)
        trio.run(start_ups, Workloads(rendered(), root), given.runs)
    return 0


def size(root: Path) -> None:
    files = sum(path.lstat().st_size for path in root.rglob("*"))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(root, arcname=".")
    packed = len(gzip.compress(archive.getvalue(), 6))
    print(f"image: {files / 1e6:.0f} MB, compressed layer {packed / 1e6:.0f} MB")


def rendered() -> tuple[dict[str, Any], ...]:
    command = ["kubectl", "kustomize", str(CHECKOUT / "manifests" / "base")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(each for each in yaml.safe_load_all(text) if each)


async def start_ups(workloads: Workloads, count: int) -> None:
    run = runs.create()
    try:
        settings = Settings(2, (CATALOGUE["web"],), kube=programs(print), workloads=workloads)
        cluster = Cluster(run, settings)
        await cluster.start(lambda _: None)
        await cluster.addresses()
        node = cluster.lan.nodes["node-1"]
        speakers, controllers = [], []
        for _ in range(count):
            await stop(cluster.speaker("node-1"))
            began = time.monotonic()
            process = cluster.start_speaker("node-1")
            speakers.append((await ready(node.netns, began), spent(process)))
            await stop(cluster.processes.all["controller"])
            host = cluster.lan.control_plane
            began = time.monotonic()
            await cluster.start_controller()
            process = cluster.processes.all["controller"]
            controllers.append((await ready(host.netns, began), spent(process)))
        load = os.getloadavg()[0]
        for name, found in (("speaker", speakers), ("controller", controllers)):
            times, cpu = zip(*found, strict=True)
            print(
                f"{name}: ready {statistics.median(times) * 1000:.0f} ms after its start, best "
                f"{min(times) * 1000:.0f}, worst {max(times) * 1000:.0f} ({count} runs, load {load:.0f}); "
                f"{statistics.median(cpu) * 1000:.0f} ms of processor time"
            )
    finally:
        run.remove()


def spent(process: LabProcess) -> float:
    """Seconds of processor time, of it and of those it started."""
    total = 0.0
    for pid in (process.pid, *descendants(process.pid)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


async def stop(process: LabProcess) -> None:
    process.expected = True
    process.send(signal.SIGTERM)
    await process.wait(PATIENCE)


async def ready(namespace: str, began: float) -> float:
    """Seconds until /readyz says so."""

    def ask() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=1)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    while not await trio.to_thread.run_sync(netns.inside, namespace, ask):
        if time.monotonic() - began > PATIENCE:
            sys.exit("not ready in time")
        await trio.sleep(0.01)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
