"""Every command in the documents is run, or says why it is not; every resource is taken by a real API server.

A block of shell commands has a mark in the line before it:

    <!-- run: kube -->          with a real API server's administrator as KUBECONFIG
    <!-- run: here -->          on this machine, without a cluster
    <!-- not run: why -->
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crier.lab.kube import Kube, Programs, start_kube
from crier.lab.kube.install import install
from tests.manifests import helm

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md", "docs/configuration.md", "docs/migrating.md", "docs/operating.md", "docs/security.md",
    "docs/installation.md",
)  # fmt: skip
"""The one that takes everything away again comes last."""
MODES = ("kube", "here")
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Block:
    document: str
    line: int
    language: str
    mark: str
    body: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def mode(self) -> str:
        return self.mark.removeprefix("run: ") if self.mark.startswith("run: ") else ""


def blocks() -> Iterator[Block]:
    for document in DOCUMENTS:
        text = (CHECKOUT / document).read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start("body"))
            yield Block(document, line, found["language"], found["mark"] or "", found["body"])


BLOCKS = tuple(blocks())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_says_what_it_is(document: str) -> None:
    mine = [block for block in BLOCKS if block.document == document]
    text = (CHECKOUT / document).read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(mine), "a fence is not closed, or not seen"
    for block in mine:
        assert block.language in ("sh", "yaml", "text"), block
        if block.language == "sh":
            assert block.mode in MODES or re.fullmatch(r"not run: \w.{5,}", block.mark), (
                f"{block} has no mark"
            )
    for number, line in enumerate(text.splitlines(), 1):
        command = re.match(r"    (kubectl|helm|crier|make|docker|git) ", line)
        assert not command or "```" not in text or inside(mine, line), f"{document}:{number}: no block"


def inside(mine: list[Block], line: str) -> bool:
    return any(line in block.body for block in mine)


@pytest.fixture(scope="module")
def kube(kube_programs: Programs) -> Iterator[Kube]:
    """A server of its own: the documents end with an uninstallation."""
    with start_kube(kube_programs) as kube:
        install(kube)
        yield kube


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path | None], str]:
    """Runs a script in a checkout's place, with the tools the documents speak of."""
    place = tmp_path_factory.mktemp("checkout")
    tools = place / ".tools"
    tools.mkdir()
    shutil.copytree(CHECKOUT / "manifests", place / "manifests")
    for name, program in {
        "helm": helm.program(),
        "crier": Path(sys.executable).with_name("crier"),
        "kubectl": Path(shutil.which("kubectl") or "/usr/bin/kubectl"),
    }.items():
        (tools / name).symlink_to(program)

    def run(script: str, kubeconfig: Path | None) -> str:
        environment = {"PATH": f"{tools}:{os.environ.get('PATH', os.defpath)}", "HOME": str(place)}
        if kubeconfig is not None:
            environment["KUBECONFIG"] = str(kubeconfig)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.mark.e2e
@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "yaml" or each.mode], ids=str)
def test_it_does_what_it_says(
    block: Block, shell: Callable[[str, Path | None], str], request: pytest.FixtureRequest
) -> None:
    if block.mode == "here":
        shell(block.body, None)
        return
    kube: Kube = request.getfixturevalue("kube")
    if block.language == "yaml":
        kube.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=block.body)
    else:
        shell(block.body, kube.kubeconfig)


def test_the_reference_is_current() -> None:
    command = [sys.executable, str(CHECKOUT / "hack" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_lead_somewhere() -> None:
    for document in (*DOCUMENTS, "docs/figures.md", "docs/compatibility.md", "docs/architecture.md"):
        text = (CHECKOUT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (CHECKOUT / document).parent.joinpath(target).exists(), f"{document}: {target}"
