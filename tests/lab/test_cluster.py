"""The parts of the cluster that need none: what is hidden from speakers, and views of a state made up."""

from __future__ import annotations

import io
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from rich.console import Console

from crier.lab import lan, netns
from crier.lab.cluster import check_machine, hiding
from crier.lab.errors import LabError, NotPossible
from crier.lab.kubelet import Kubelet
from crier.lab.observe import Member, Snapshot, SpeakerStatus, SpeakerVip
from crier.lab.prober import Vip, VipSegments, VipState
from crier.lab.probes import Segment
from crier.lab.process import Processes, entry_point
from crier.lab.rest import Rest, RestError
from crier.lab.runs import Run
from crier.lab.services import CATALOGUE
from crier.lab.view import open_view
from tests.lab.lans import PATIENCE, eventually, open_lan


@pytest.mark.netns
def test_a_machines_own_settings_are_hidden_from_the_lab(tmp_path: Path) -> None:
    (tmp_path / "excludel2.yaml").write_text("mine", encoding="utf-8")
    shown = subprocess.run(
        [*hiding(tmp_path), "ls", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert shown.stdout == ""
    assert (tmp_path / "excludel2.yaml").read_text(encoding="utf-8") == "mine"
    assert hiding(tmp_path / "nothing") == []


@pytest.mark.netns
def test_this_machine_can_run_the_lab_and_a_lack_is_named() -> None:
    check_machine()
    with pytest.raises(NotPossible, match="nftables lacks something here"):
        lan.check_machine("table ip nonsense { chain c { levitate } }\n")


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(LabError, match="crier-nothing is missing"):
        entry_point("crier-nothing")


@pytest.mark.netns
async def test_a_programs_environment_is_only_what_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KUBECONFIG", "HTTP_PROXY", "METALLB_NODE_NAME", "PYTHONPATH"):
        monkeypatch.setenv(name, "the caller's own")
    with open_lan(tmp_path) as (network, _, processes):
        host = network.nodes["node-1"]
        process = processes.start("env", ["env"], namespace=host.netns, environment={"METALLB_POD_NAME": "p"})
        assert await process.wait(PATIENCE) == 0
        said = dict(line.split("=", 1) for line in process.tail(50).splitlines())
        assert said["METALLB_POD_NAME"] == "p"
        assert "the caller's own" not in said.values()
        assert processes.unexpected_deaths() == [process]
        assert processes.unexpected_deaths() == [], "each is told once"


@pytest.mark.netns
async def test_all_that_a_program_started_dies_with_it(tmp_path: Path) -> None:
    with open_lan(tmp_path) as (network, _, processes):
        host = network.nodes["node-1"]
        script = "setsid sleep 300 & exec sleep 300"  # a child that even left the process group
        process = processes.start("parent", ["sh", "-c", script], namespace=host.netns)
        eventually(lambda: len(list(netns.members(host.netns))) == 2, "both")
        process.kill_tree()
        await process.wait(PATIENCE)
        eventually(lambda: not list(netns.members(host.netns)), "the end of both")
        process.kill_tree()  # nothing left: nothing happens


async def test_a_program_that_does_not_end_is_an_error(tmp_path: Path) -> None:
    run = Run("abcdef", tmp_path)
    run.directory.mkdir()
    process = Processes(run).start("sleeper", ["sleep", "300"])
    try:
        with pytest.raises(LabError, match=r"sleeper .* did not end within 0 s"):
            await process.wait(0.0)
    finally:
        process.popen.kill()
        process.popen.wait(timeout=PATIENCE)


def test_an_api_that_is_not_there_is_one_error() -> None:
    with pytest.raises(RestError, match=r"GET /api/v1/nodes: .*refused"):
        Rest("http://127.0.0.1:1").get("/api/v1/nodes")
    with pytest.raises(LabError, match="API server 'https://x'"):
        Rest("https://x")


def test_the_secret_is_mounted_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubelet = Kubelet(Rest("http://127.0.0.1:1"), (), (), tmp_path)
    monkeypatch.setattr(Rest, "get", lambda *_: None)
    assert not kubelet.mount_secret("node-1"), "there is none yet"
    monkeypatch.setattr(Rest, "get", lambda *_: {"data": {"secretkey": "c2VjcmV0"}})
    assert kubelet.mount_secret("node-1")
    file = kubelet.secret_directory("node-1") / "secretkey"
    assert file.read_bytes() == b"secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


# ---------------------------------------------------------------------------------------- the view


class _Observer:
    """As much of an `Observer` as a view looks at."""

    def __init__(self) -> None:
        vip = Vip(CATALOGUE["web"], "172.30.0.200")
        self.vips = (vip,)
        good = SpeakerStatus(
            "node-1", True, True, (Member("node-1", "alive", True), Member("node-2", "suspect", False)),
            {vip.address: SpeakerVip(vip.address, "node-1", True)},
        )  # fmt: skip
        self.latest = Snapshot(
            100.0,
            {"node-1": good, "node-2": None},
            {vip.address: VipState(vip.address, 1.0, ("node-1",), "node-1")},
            {vip.address: VipSegments((Segment(90.0, 100.0, ("node-1",)),), ())},
        )


async def test_the_live_view_shows_nodes_vips_and_events(autojump_clock: trio.testing.MockClock) -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, no_color=True)
    observer: Any = _Observer()
    with open_view(console, time.monotonic(), live=True) as view:
        view.say("[node-1] loses power")
        with trio.move_on_after(1):
            await view.watch(observer)
    shown = out.getvalue()
    for text in ("node-1", "silent", "node-2 (suspect)", "172.30.0.200", "[node-1] loses power", "█"):
        assert text in shown


async def test_the_plain_view_says_a_line_and_no_more(autojump_clock: trio.testing.MockClock) -> None:
    out = io.StringIO()
    observer: Any = _Observer()
    with open_view(Console(file=out, width=20), time.monotonic(), live=False) as view:
        view.say("[node-1] loses power, and this is a long line")
        with trio.move_on_after(1):
            await view.watch(observer)
    assert out.getvalue().endswith("[node-1] loses power, and this is a long line\n")
    assert out.getvalue().count("\n") == 1
