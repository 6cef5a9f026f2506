"""Runs: whoever died, the next one cleans up; whoever lives is left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crier.lab import netns, runs
from crier.lab.errors import LabError
from crier.lab.runs import Owner, Run, start_time
from tests.lab.lans import PATIENCE, eventually

OWNER = """
import sys, time
from pathlib import Path
from crier.lab import runs
from crier.lab.lan import Lan
from crier.lab.process import Processes
run = runs.create(Path(sys.argv[1]))
lan = Lan(run, 2)
lan.up()
processes = Processes(run, outlive_us=sys.argv[2] == "outlive")
inside = processes.start("inside", ["sleep", "300"], namespace=lan.nodes["node-1"].netns)
outside = processes.start("outside", ["sleep", "300"])
if "kept" in sys.argv:
    run.keep()
print(run.id, inside.pid, outside.pid, flush=True)
time.sleep(300)
"""


def _owner(base: Path, *arguments: str) -> tuple[subprocess.Popen[str], Run, list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(base), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    run_id, *pids = process.stdout.readline().split()
    process.stdout.close()
    return process, Run(run_id, base), [int(pid) for pid in pids]


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()


@pytest.mark.netns
@pytest.mark.parametrize("tie", ["tied", "outlive"])
def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path, tie: str) -> None:
    process, dead, pids = _owner(tmp_path, tie)
    try:
        assert len(dead.namespaces()) == 5
        # Until the program itself runs, the kernel may not yet know that it is to die with its starter.
        eventually(lambda: all(_command(pid) == "sleep" for pid in pids), "the programs themselves")
        process.kill()
        process.wait(timeout=PATIENCE)
        if tie == "tied":
            eventually(lambda: not any(map(start_time, pids)), "the death of its processes")
        else:
            assert all(map(start_time, pids)), "these outlive it, which is what has to be cleaned up"
        after = runs.create(tmp_path)
        assert dead.namespaces() == []
        assert not dead.directory.exists()
        assert not any(map(start_time, pids))
        after.remove()
    finally:
        process.kill()
        process.wait(timeout=PATIENCE)
        runs.sweep(tmp_path)


@pytest.mark.netns
def test_a_living_run_is_left_alone(tmp_path: Path) -> None:
    process, living, pids = _owner(tmp_path, "tied")
    try:
        other = runs.create(tmp_path)
        assert len(living.namespaces()) == 5
        assert all(map(start_time, pids))
        other.remove()
        assert len(living.namespaces()) == 5
    finally:
        process.kill()
        process.wait(timeout=PATIENCE)
        runs.sweep(tmp_path)
    assert living.namespaces() == []


@pytest.mark.netns
def test_a_run_left_up_on_purpose_is_removed_only_by_name(tmp_path: Path) -> None:
    process, kept, pids = _owner(tmp_path, "outlive", "kept")
    try:
        process.kill()
        process.wait(timeout=PATIENCE)
        assert runs.sweep(tmp_path) == []
        assert [run.id for run in runs.kept_runs(tmp_path)] == [kept.id]
        assert all(map(start_time, pids))
    finally:
        process.kill()
        kept.remove()
    assert kept.namespaces() == []
    assert not any(map(start_time, pids))


def test_a_process_id_that_came_round_again_is_not_the_owner(tmp_path: Path) -> None:
    run = runs.create(tmp_path)
    started = start_time(os.getpid())
    assert started is not None
    assert Owner(os.getpid(), started).alive
    record = {"pid": os.getpid(), "started": started + 1, "kept": False}
    (run.directory / "owner.json").write_text(json.dumps(record), encoding="utf-8")
    assert runs.sweep(tmp_path) == [run.id]


def test_a_recorded_process_id_that_came_round_again_is_not_killed(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        run = runs.create(tmp_path)
        started = start_time(stranger.pid)
        assert started is not None
        line = json.dumps({"pid": stranger.pid, "started": started - 1, "name": "was ours once"})
        (run.directory / "processes").write_text(line + '\n{"pid": 1, "sta', encoding="utf-8")
        run.remove()
        assert start_time(stranger.pid) == started
    finally:
        stranger.kill()
        stranger.wait(timeout=PATIENCE)


def test_a_run_that_was_never_born_is_removed_when_its_maker_is_dead(tmp_path: Path) -> None:
    runs.create(tmp_path).remove()
    unborn = tmp_path / ".new-123456"
    unborn.mkdir()
    assert runs.sweep(tmp_path) == []
    assert unborn.exists(), "its maker may be at it right now"
    (unborn / "owner.json").write_text(json.dumps({"pid": 1, "started": -1, "kept": False}), encoding="utf-8")
    runs.sweep(tmp_path)
    assert not unborn.exists()


def test_the_start_time_of_a_zombie_and_of_nobody(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    eventually(lambda: start_time(process.pid) is None, "the end of `true`")
    process.wait(timeout=PATIENCE)
    assert start_time(process.pid) is None
    assert start_time(os.getpid()) is not None


@pytest.mark.parametrize("name", ["", "../etc", "ABCDEF", "12345", "1234567"])
def test_a_run_id_is_six_hexadecimal_digits(name: str) -> None:
    with pytest.raises(LabError, match="run id"):
        Run(name)


@pytest.mark.netns
def test_a_socket_stays_where_it_was_made_and_errors_come_through(tmp_path: Path) -> None:
    run = runs.create(tmp_path)
    try:
        netns.add(run.netns("one"))
        ours = os.stat("/proc/thread-self/ns/net").st_ino
        assert netns.inside(run.netns("one"), lambda: os.stat("/proc/thread-self/ns/net").st_ino) != ours
        assert os.stat("/proc/thread-self/ns/net").st_ino == ours
        with pytest.raises(ZeroDivisionError):
            netns.inside(run.netns("one"), lambda: 1 // 0)
        with pytest.raises(OSError, match="crier-no"):
            netns.inside("crier-no", lambda: None)
        with pytest.raises(LabError, match="failed"):
            netns.ip(run.netns("one"), "link set nothing up")
    finally:
        run.remove()
