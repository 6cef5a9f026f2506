"""Controller and speakers run from the image's file system exactly as the rendered manifests say."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from crier.lab import netns
from crier.lab.cluster import Settings
from crier.lab.errors import NotPossible
from crier.lab.kube import Programs
from crier.lab.pods import Workloads
from crier.lab.process import LabProcess, descendants
from crier.lab.services import CATALOGUE
from tests.image.prometheus import answers
from tests.image.runc import RuncWorkloads, download_profile, remove_cgroups
from tests.manifests.render import kustomize
from tests.manifests.test_metrics import CONTROLLER, RULES, SPEAKER, expressions, promtool
from tests.migration.stage import PATIENCE, Stage, open_stage

pytestmark = pytest.mark.e2e

NET_RAW, SYS_NICE = 1 << 13, 1 << 23


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


def confinement(process: LabProcess) -> dict[str, str]:
    root = next(
        line.split()
        for line in Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
        if line.split()[4] == "/"
    )
    return {**status_of(process.pid), "root": root[5], "file system": root[root.index("-") + 1]}


def check_speaker(process: LabProcess) -> None:
    found = confinement(process)
    assert found["Uid"].split() == ["0"] * 4
    assert int(found["CapBnd"], 16) == int(found["CapEff"], 16) == NET_RAW | SYS_NICE
    assert found["NoNewPrivs"] == "1"
    assert "ro" in found["root"].split(",")
    assert found["file system"] == "overlay"


def check_controller(process: LabProcess) -> None:
    found = confinement(process)
    assert found["Uid"].split() == found["Gid"].split() == ["65534"] * 4
    assert int(found["CapBnd"], 16) == int(found["CapEff"], 16) == 0
    assert found["NoNewPrivs"] == "1"
    assert "ro" in found["root"].split(",")


def page(namespace: str) -> str:
    def fetch() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", 17472, timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    return netns.inside(namespace, fetch)


def check_page(text: str, wanted: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
    """What Prometheus would read: MetalLB's names, types and labels, in a form it takes."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    labels = {
        name: tuple(re.findall(r'(\w+)="', inner or ""))
        for name, inner in re.findall(r"^(\w+)(?:\{(.*)\})? [0-9.e+-]+$", text, re.MULTILINE)
    }
    assert {name: (kinds.get(name), labels.get(name)) for name in wanted} == wanted
    assert promtool("check", "metrics", stdin=text).returncode in (0, 3)  # 3: it would name some otherwise


IDLE = ("metallb_bgp_", "crier_speaker_api_errors_total")
"""What only routed mode, or a fault, counts."""
STARVED = ("crier_speaker_reflex_loop_late_p99_seconds", "crier_speaker_gossip_health_score")
"""What alerts look at that tell of a machine with too much to do, and may be right about this one."""


def check_dashboard(pages: Mapping[str, str], directory: Path) -> None:
    """Each panel shows something, and no alert fires on a healthy cluster but for what a lab has not."""
    asked = dict(expressions())
    found = answers(pages, asked.values(), directory)
    alerts = {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}
    empty = {
        name
        for name, each in asked.items()
        if name not in alerts and not found[each] and not any(idle in each for idle in IDLE)
    }
    assert not empty, f"panels without data: {empty}"
    firing = {name for name in alerts if found[asked[name]]}
    starved = {name for name in alerts if any(each in asked[name] for each in STARVED)}
    assert len(starved) == len(STARVED)
    assert not firing - starved, "alerts on a healthy cluster"


async def settled_pages(stage: Stage, owner: str) -> dict[str, str]:
    """Everybody's page, once the owner's has what its reflex counted, which comes every few seconds."""
    lan = stage.cluster.lan
    hosts = {"controller": lan.control_plane, **lan.nodes}
    with trio.fail_after(PATIENCE):
        while True:
            pages = {name: await trio.to_thread.run_sync(page, host.netns) for name, host in hosts.items()}
            if "metallb_layer2_requests_received{" in pages[owner]:
                return pages
            await trio.sleep(0.5)


async def until_joined(stage: Stage, node: str) -> None:
    """Until its speaker says that it sees both nodes."""
    with trio.fail_after(PATIENCE):
        while True:
            status: dict[str, Any] = await stage.cluster.status(node) or {"members": ()}
            if sorted(member["name"] for member in status["members"]) == ["node-1", "node-2"]:
                return
            await trio.sleep(0.1)


async def hand_over(stage: Stage, owners: dict[str, str]) -> None:
    """The kubelet's SIGTERM: it goes by itself, and somebody else has all it had."""
    leaver = next(iter(owners.values()))
    process = stage.cluster.speaker(leaver)
    process.expected = True
    process.send(signal.SIGTERM)
    assert await process.wait(PATIENCE) == 0
    assert descendants(process.pid) == []
    rest = frozenset(stage.cluster.lan.nodes) - {leaver}
    assert set((await stage.owners(rest)).values()) <= rest


async def test_base_runs_as_it_is_written(image: Path, kube_programs: Programs, tmp_path: Path) -> None:
    workloads = Workloads(kustomize("base"), image)
    services = (CATALOGUE["web"], CATALOGUE["web6"])
    settings = Settings(2, services, kube=kube_programs, workloads=workloads)
    async with open_stage(settings) as stage:
        owners = await stage.owners()
        assert len(owners) == 2
        check_controller(stage.cluster.processes.all["controller"])
        for node in stage.cluster.lan.nodes:
            check_speaker(stage.cluster.speaker(node))
            await until_joined(stage, node)
        pages = await settled_pages(stage, next(iter(owners.values())))
        check_page(pages["controller"], CONTROLLER)
        check_page(pages[next(iter(owners.values()))], SPEAKER)
        await trio.to_thread.run_sync(check_dashboard, pages, tmp_path)
        since = time.monotonic()
        await hand_over(stage, owners)
        for address, record in (await stage.records(since)).items():
            assert record.asks.recovered, address


FILTERED = "2"
"""SECCOMP_MODE_FILTER."""


def init_of(process: LabProcess) -> int:
    """The container's first process, as this machine numbers it."""
    for pid in descendants(process.pid):
        if status_of(pid)["NSpid"].split()[1:] == ["1"]:
            return pid
    pytest.fail(f"{process.name} has no container: {process.tail()}")


async def test_they_work_under_a_runtimes_seccomp_profile(image: Path, kube_programs: Programs) -> None:
    if shutil.which("runc") is None and shutil.which("runc", path="/usr/sbin") is None:
        pytest.skip("no container runtime: runc is missing (Debian package runc)")
    try:
        profile = download_profile()
    except NotPossible as missing:
        pytest.skip(f"no seccomp profile: {missing}")
    workloads = RuncWorkloads(kustomize("base"), image, profile)
    services = (CATALOGUE["web"], CATALOGUE["web6"])
    run = ""
    try:
        async with open_stage(Settings(2, services, kube=kube_programs, workloads=workloads)) as stage:
            run = stage.cluster.run.id
            owners = await stage.owners()
            processes = stage.cluster.processes.all
            for name, capabilities, user in (
                ("controller", 0, "65534"),
                *((f"speaker-{node}", NET_RAW | SYS_NICE, "0") for node in stage.cluster.lan.nodes),
            ):
                status = status_of(init_of(processes[name]))
                assert (status["Seccomp"], status["NoNewPrivs"]) == (FILTERED, "1")
                assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == capabilities
                assert status["Uid"].split() == [user] * 4
            await hand_over(stage, owners)
    finally:
        remove_cgroups(run)
