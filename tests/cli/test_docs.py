"""Every command of docs/cli.md is run; every field it names is there."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from crier.cli import drain, undrain, why
from crier.cli._checks import Check
from crier.cli._common import Exit
from crier.cli._handover import Moved, Stuck
from crier.cli._wire import Heard
from crier.cli.doctor import Report
from crier.cli.main import verbs
from crier.cli.simulate import Shift, Simulation
from crier.inspect.moves import Move
from crier.inspect.overview import (
    ControllerLine,
    NodeLine,
    Overview,
    PoolLine,
    Problem,
    SessionLine,
    VipLine,
)
from crier.inspect.records import Event
from tests.cli.conftest import Stage
from tests.cli.test_verbs import TIMEOUT, crier

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if line
]
HERE = {"node-1": "iris1", "lan": "one"}
"""Names in the text, and what they are on the test's stage."""


def test_it_has_commands() -> None:
    assert len(COMMANDS) >= 18
    assert {command.split()[0] for command in COMMANDS} == {"crier", "kubectl"}


@pytest.mark.e2e
@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("crier")])
def test_a_command_of_ours(
    stage: Stage, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [HERE.get(word, word) for word in shlex.split(command)[1:]]
    if arguments[0] in ("drain", "undrain"):
        # no speaker runs on this stage, so nothing can be verified
        arguments += ["--force", "--move-timeout", "0.5"]
    done = crier(stage.kubeconfig, *arguments, "--timeout", TIMEOUT)
    assert done.returncode in (Exit.OK, Exit.WRONG, Exit.PARTIAL), done.stderr
    assert done.stdout


@pytest.mark.e2e
@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("kubectl create")])
def test_a_command_of_kubectl(stage: Stage, command: str) -> None:
    done = subprocess.run(
        [*shlex.split(command), f"--kubeconfig={stage.kubeconfig}", "--dry-run=server"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    role = re.search(r"role=([a-z-]+)", command)
    if stage.real and role:
        kind = "clusterroles" if "clusterrole=" in command else "namespaces/metallb-system/roles"
        assert stage.rest.get(f"/apis/rbac.authorization.k8s.io/v1/{kind}/{role[1]}"), (
            "it binds what there is"
        )


def test_every_verb_is_told_of() -> None:
    told = set(re.findall(r"^\| `crier ([a-z-]+)|, `crier ([a-z-]+)", TEXT, re.MULTILINE))
    assert {one or other for one, other in told} == set(verbs())


@pytest.mark.parametrize(
    "record",
    [
        Overview, NodeLine, SessionLine, PoolLine, VipLine, ControllerLine, Move, Problem, why.Answer,
        why.Link, why.Place, Heard, Event, Simulation, Shift, drain.Drained, undrain.Undrained, Moved, Stuck,
        Report, Check,
    ],
)  # fmt: skip
def test_every_field_is_told_of(record: type) -> None:
    described = TEXT[TEXT.index("## JSON") :]
    missing = [each.name for each in dataclasses.fields(record) if f"`{each.name}`" not in described]
    assert missing == []


@pytest.mark.parametrize("status", list(Exit))
def test_every_exit_status_is_told_of(status: Exit) -> None:
    assert f"| {status.value} |" in TEXT
