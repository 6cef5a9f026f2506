"""What is in the image, and that everything of ours in it can be loaded."""

from __future__ import annotations

import configparser
import email.parser
import json
import os
import re
import runpy
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SITE = "usr/lib/python3/dist-packages"
LARGEST = 120 * 1000 * 1000
OURS = ("allocator", "bgp_lite", "crier.cli", "crier.kube", "crier.ops", "memberlist", "speaker")

LOAD = """
import importlib, pkgutil, sys
for top in sys.argv[1:]:
    package = importlib.import_module(top)
    for found in pkgutil.walk_packages(package.__path__, top + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
# what is found by name at run time
import importlib.metadata
print(importlib.metadata.version("crier-lb"))
"""


def files(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):
        yield from (Path(directory, name) for name in names)


def inside(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/usr/sbin/chroot", root, *command], capture_output=True, text=True, timeout=120, env={}, check=False
    )


def test_it_is_small(image: Path) -> None:
    size = sum(path.lstat().st_size for path in files(image))
    assert 50_000_000 < size < LARGEST, f"{size / 1e6:.0f} MB"


@pytest.mark.e2e
def test_all_of_our_modules_load_in_it(image: Path) -> None:
    done = inside(image, "/usr/bin/python3.11", "-B", "-c", LOAD, *OURS)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "0.1.0"


@pytest.mark.e2e
@pytest.mark.parametrize("program", ["crier", "crier-controller", "crier-speaker"])
def test_every_program_is_there(image: Path, program: str) -> None:
    done = inside(image, f"/usr/bin/{program}", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {program}")


def test_there_is_nothing_to_break_out_with(image: Path) -> None:
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    ours = {line.partition("=")[0].strip() for line in lines}
    programs = {path.name for path in files(image) if path.parent.name in ("bin", "sbin")}
    assert programs == {*ours, "python3.11"}
    for path in files(image):
        mode = path.lstat().st_mode
        assert not mode & (stat.S_ISUID | stat.S_ISGID), path
        assert stat.S_ISLNK(mode) or not mode & stat.S_IWOTH, path


def test_nothing_is_compiled_at_run_time(image: Path) -> None:
    """The root is read-only: what is not compiled is compiled at every start."""
    for path in (image / SITE).rglob("*.py"):
        if path.relative_to(image / SITE).parts[0] in ("speaker", "allocator", "trio", "msgspec", "urllib3"):
            assert (path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc").exists(), path


def test_libraries_are_the_pinned_ones(image: Path) -> None:
    lines = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower(): line.partition("==")[2] for line in lines
    }
    found = {
        re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(): each.version
        for each in distributions(path=[str(image / SITE)])
    }
    del found["crier-lb"]
    assert {"trio", "kubernetes", "cryptography"} <= found.keys()
    assert found.items() <= pinned.items()


def test_the_bill_of_materials_lists_all_of_it(image: Path) -> None:
    text = (image / "usr/share/crier/sbom.cdx.json").read_text(encoding="utf-8")
    document = json.loads(text)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    listed = {each["name"] for each in document["components"]}
    here = {each.metadata["Name"] for each in distributions(path=[str(image / SITE)])}
    packages = {
        email.parser.Parser().parsestr(file.read_text(encoding="utf-8"))["Package"]
        for file in (image / "var/lib/dpkg/status.d").iterdir()
    }
    assert document["metadata"]["component"]["name"] == "crier-lb"
    assert listed == (here - {"crier-lb"}) | packages
    assert all(each["version"] and each["purl"] for each in document["components"])
    assert all(each["licenses"] for each in document["components"] if "pypi" in each["purl"])
    again = subprocess.run(
        [sys.executable, CHECKOUT / "hack" / "sbom.py", image], capture_output=True, text=True, check=True
    )
    assert again.stdout == text, "the same tree, the same list"


def test_the_dockerfile_adds_nothing_to_what_is_tested() -> None:
    lines = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    last = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM ")) :]
    words = [line.split()[0] for line in last if line and not line.startswith("#")]
    assert words == ["FROM", "COPY", "USER", "CMD"]
    assert last[0] == "FROM scratch"
    assert "COPY --from=build /rootfs /" in last
    assert "hack/rootfs.py /rootfs" in "\n".join(lines)


def test_what_rootfs_needs_is_in_the_docker_context() -> None:
    kept = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().split() if line.startswith("!")}
    ours = runpy.run_path(str(CHECKOUT / "hack" / "rootfs.py"))["OURS"]
    assert kept >= {*ours, "hack", "setup.cfg", "constraints.txt", "pyproject.toml", "README.md", "LICENSE"}
