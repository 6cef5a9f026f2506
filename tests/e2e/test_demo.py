"""The demo from its command line to its report: the real programs on a real LAN, and nothing left
afterwards.
"""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from crier.lab import runs
from crier.lab.report import SCENARIOS
from tests.e2e.lab import CRIER, PATIENCE, demo, left_of, run_demo, run_of, sweep, vips, wait_for

pytestmark = pytest.mark.e2e


def _check(report: dict[str, Any], *, services: int) -> None:
    """Whatever happened: one owner each in the end, and a client that is served again."""
    for scenario in report["scenarios"]:
        assert len(scenario["vips"]) == services
        for vip in vips(scenario):
            assert vip["recovered"], vip
            assert vip["owners_after"] == [vip["to"]], vip
            assert vip["probes_sent"] > 0
        struck = [vip for vip in scenario["vips"] if vip["from"] == scenario["node"]]
        if scenario["name"] == "return":
            assert any(vip["to"] == scenario["node"] for vip in scenario["vips"]), "it takes back what it had"
            continue
        assert struck, "the node that was struck owned something"
        for vip in scenario["vips"]:
            assert vip["to"] != scenario["node"]
            assert vip in struck or vip["to"] == vip["from"], "who was not struck keeps what it has"
        for vip in struck:
            assert vip["gratuitous_ms"] is not None, "the successor announced itself"


def test_all_scenarios_on_three_nodes(tmp_path: Path) -> None:
    report = run_demo(tmp_path)
    assert report["nodes"] == 3
    assert [scenario["name"] for scenario in report["scenarios"]] == list(SCENARIOS)
    _check(report, services=3)
    undone = {scenario["name"] for scenario in report["scenarios"] if scenario["afterwards"] is not None}
    assert undone == {"stop", "kill", "partition"}
    picture = ElementTree.parse(tmp_path / "timeline.svg")
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}rect"))) > 20


def test_ten_nodes(tmp_path: Path) -> None:
    report = run_demo(tmp_path, "--nodes", "10", "--scenario", "power-off,return", "--seed", "5")
    assert report["nodes"] == 10
    _check(report, services=3)


def test_two_nodes_another_port_and_only_ipv6(tmp_path: Path) -> None:
    arguments = [
        "--nodes",
        "2",
        "--gossip-port",
        "17946",
        "--services",
        "web6",
        "--scenario",
        "kill,power-off",
    ]
    report = run_demo(tmp_path, *arguments)
    assert report["settings"]["gossip_port"] == 17946
    _check(report, services=1)


@pytest.mark.parametrize(
    ("router", "services", "name"), [("frr", "web,web6", "power-off"), ("bird", "dual", "partition")]
)
def test_behind_a_router(tmp_path: Path, router: str, services: str, name: str) -> None:
    report = run_demo(tmp_path, "--bgp", router, "--services", services, "--scenario", name)
    assert report["settings"]["router"] == router
    (scenario,) = report["scenarios"]
    assert scenario["name"] == name
    for vip in vips(scenario):
        assert vip["recovered"], vip
        assert vip["owners_after"] == [vip["to"]], vip
        assert (vip["arp_gap_ms"], vip["two_owners_ms"], vip["gratuitous_ms"]) == (None, None, None)
    assert any(vip["from"] == scenario["node"] for vip in scenario["vips"]), "it had a flow"
    assert scenario["node"] not in {vip["to"] for vip in scenario["vips"]}


@pytest.mark.parametrize("moment", ["a LAN of", "the Kubernetes API", "speakers on", "kill -9"])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, moment: str) -> None:
    with demo(tmp_path, "--nodes", "2", "--scenario", "kill") as process:
        run = run_of(process)
        wait_for(process, moment)
        processes = run.processes()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert left_of(run, processes) == []


def test_a_killed_demo_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    with demo(tmp_path, "--nodes", "2", "--scenario", "kill") as process:
        run = run_of(process)
        wait_for(process, "steady")
        processes = run.processes()
        assert len(processes) > 8, "the API, the controller, the client, and three on each node"
        before = left_of(run, processes)
        assert len(run.namespaces()) == 5
        sweep()
        assert left_of(run, processes) == before, "a living run is not touched"
        with runs._locked(runs.BASE):  # or another test's lab might do so
            process.kill()
            process.communicate(timeout=PATIENCE)
            assert len(run.namespaces()) == 5, "nobody was there to clean up"
        sweep()
        assert left_of(run, processes) == []


def test_a_lan_left_up_works_until_it_is_removed(tmp_path: Path) -> None:
    with demo(tmp_path, "--nodes", "2", "--scenario", "kill", "--services", "web", "--keep") as process:
        run = run_of(process)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        run_id = re.findall(r"crier demo --remove ([0-9a-f]{6})", said)[-1]
        try:
            sweep()
            (enter,) = re.findall(r"  (nsenter \S+-client) bash", said)
            (kubeconfig,) = re.findall(r"export KUBECONFIG=(\S+)", said)
            services = _output("kubectl", "--kubeconfig", kubeconfig, "get", "services", "-o", "name")
            assert services.split() == ["service/kubernetes", "service/web"]
            answer = _output(*enter.split(), "arping", "-C", "1", "-w", "30", "-I", "eth0", "172.30.0.200")
            assert "from 02:c7:1e:07:00:0" in answer
        finally:
            _output(CRIER, "demo", "--remove", run_id)
        assert left_of(run) == []


def _output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
