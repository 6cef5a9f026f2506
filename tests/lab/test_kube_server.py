"""The life of a real API server: it goes with the block, and with its parent whatever ends that."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crier.lab.errors import LabError
from crier.lab.kube import Kube, Programs, start_kube
from crier.lab.kube.install import SYSTEM
from crier.lab.process import descendants
from crier.lab.rest import RestError
from crier.lab.runs import start_time
from tests.e2e.lab import run_demo
from tests.lab.conftest import PATIENCE, eventually

pytestmark = pytest.mark.e2e


def test_what_does_not_start_says_why(kube_programs: Programs, tmp_path: Path) -> None:
    broken = tmp_path / "kube-apiserver"
    broken.write_text("#!/bin/sh\necho the dog ate my flags >&2\nexit 1\n")
    broken.chmod(0o755)
    programs = Programs(kube_programs.etcd, broken, kube_programs.kubectl, None)
    with (
        pytest.raises(LabError, match="ended before it was ready\nthe dog ate my flags"),
        start_kube(programs),
    ):
        pass


def test_nobody_is_somebody_without_a_token(kube: Kube) -> None:
    stranger = type(kube.rest).from_kubeconfig(kube.write_kubeconfig("stranger.kubeconfig", "guess"))
    with pytest.raises(RestError, match="401"):
        stranger.get("/api/v1/namespaces")
    for path in kube.directory.iterdir():
        if path.suffix in {".key", ".csv", ".kubeconfig"}:
            assert path.stat().st_mode & 0o077 == 0, path
    assert kube.directory.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.usefixtures("kube_programs")
def test_it_ends_with_its_parent(number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-m", "crier.lab.kube"], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        with parent.stdout:
            directory = Path(parent.stdout.readline().strip().partition("=")[2]).parent
            assert f"{SYSTEM}-controller" in parent.stdout.readline()
            processes = {pid: start_time(pid) for pid in descendants(parent.pid)}
            assert len(processes) == 2
            parent.send_signal(number)
            assert parent.wait(PATIENCE) == (-number if number == signal.SIGKILL else 0)
        eventually(
            lambda: [pid for pid, started in processes.items() if start_time(pid) == started],
            lambda left: not left,
        )
        assert directory.exists() == (number == signal.SIGKILL), "who is killed leaves its keys behind"
    finally:
        parent.kill()
        parent.wait()
    if directory.exists():
        subprocess.run(["rm", "-r", str(directory)], check=True)


@pytest.mark.netns
def test_the_demo_on_it(kube_programs: Programs, tmp_path: Path) -> None:
    """Controller and speakers as their service accounts; an address that outlives its node's speaker."""
    data_path = "lab" if kube_programs.proxy is None else "kube-proxy"
    arguments = ("--nodes", "2", "--services", "web", "--scenario", "stop")
    report = run_demo(tmp_path, "--api", "kube", "--data-path", data_path, *arguments)
    (scenario,) = report["scenarios"]
    (vip,) = scenario["vips"]
    assert vip["recovered"]
    assert vip["owners_after"] == [vip["to"]] != [vip["from"]]
