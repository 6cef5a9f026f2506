"""MetalLB's programs: found in the cache, or told how to get them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crier.lab.cluster import Cluster, Programs, Settings
from crier.lab.errors import NotPossible
from crier.lab.peers import metallb
from crier.lab.runs import Run
from crier.lab.services import CATALOGUE


def test_built_programs_are_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = metallb.cache_directory()
    assert directory.is_relative_to(tmp_path)
    assert metallb.VERSION in directory.name
    directory.mkdir(parents=True)
    for name in metallb.PROGRAMS:
        (directory / name).touch()
    said: list[str] = []
    found = metallb.programs(said.append)
    assert found.speaker == (str(directory / "speaker"),)
    assert found.controller == (str(directory / "controller"), "--webhook-mode=disabled")
    assert said == []


def test_without_go_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(NotPossible, match="MetalLB is built from source, and there is no `go`"):
        metallb.programs(lambda text: pytest.fail(f"it began to build: {text}"))
    assert not metallb.cache_directory().exists()


def test_a_cluster_can_be_made_of_somebody_elses_programs(tmp_path: Path) -> None:
    run = Run("abcdef", tmp_path)
    run.directory.mkdir()
    theirs = Programs(("/their/controller",), ("/their/speaker", "--flag"))
    cluster = Cluster(run, Settings(2, (CATALOGUE["web"],), programs=theirs))
    assert cluster.programs == theirs
    assert cluster.lan.nodes.keys() == {"node-1", "node-2"}
