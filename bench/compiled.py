"""The simulation at the speed of C: a copy of memberlist's own sources, compiled by mypyc.

    python -m bench.compiled

builds (a minute or two; kept under the temporary directory for as long as the sources stay what they are),
runs a few seeds both ways and compares them to the last packet.  `bench/detection.py --compiled` uses it.

The copy differs in one thing: mypyc has no frozen dataclasses with slots, so the records there are plain ones
whose constructors are written out.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
MODULES: Final = (
    *("core", "watch", "rendezvous", "target", "table", "entry", "probe", "relay", "flood", "timing"),
    *("awareness", "suspicion", "broadcasts", "effects", "messages", "events", "testing"),
)
"""What a simulated packet passes."""
PLACE: Final = "CRIER_COMPILED"
"""In the environment: where the compiled copy is, for a process that is to use it."""

SETUP: Final = """\
from mypyc.build import mypycify
from setuptools import setup

options = ["--python-version", "3.11", "--ignore-missing-imports"]
modules = mypycify(options + {files!r}, opt_level="3", debug_level="0")
setup(name="memberlist", packages=[], ext_modules=modules)
"""

TRACE: Final = """\
import hashlib, sys, time
import memberlist.core
from memberlist.testing import Simulation

seen, began = hashlib.sha256(), time.process_time()
for seed in range(5):
    cluster = Simulation(seed=seed, size=20, watch=True)
    cluster.network.loss, cluster.network.duplicate = 0.05, 0.01
    cluster.run(3.0)
    cluster.freeze("n2", 0.5)
    cluster.run(3.0)
    cluster.crash("n1")
    cluster.run(10.0)
    cluster.start("n1")
    cluster.join("n1", "n3")
    cluster.leave("n4")
    cluster.run(10.0)
    for at, who, event in cluster.log:
        node = getattr(event, "node", None)
        seen.update(repr((at, who, type(event).__name__, node and (node.name, node.incarnation))).encode())
    seen.update(repr((cluster.packets, cluster.now, cluster._rng.random())).encode())
print(seen.hexdigest(), time.process_time() - began, not memberlist.core.__file__.endswith(".py"))
"""


def plain(source: str) -> str:
    """The same with records that mypyc can compile, and that are compiled to the end."""
    source = source.replace("frozen=True, slots=True", "unsafe_hash=True").replace("slots=True, ", "")
    source = source.replace(", slots=True", "").replace("@dataclass(slots=True)", "@dataclass")
    assert "slots=True" not in source
    tree = ast.parse(source)
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and "dataclass" in _decorators(statement):
            _write_init(statement)
    return ast.unparse(ast.fix_missing_locations(tree))


def _decorators(record: ast.ClassDef) -> str:
    return ast.unparse(ast.List(record.decorator_list))


def _write_init(record: ast.ClassDef) -> None:
    """`dataclass` writes it at run time, in Python.  One of the class's own is left alone by it."""
    fields = [one for one in record.body if isinstance(one, ast.AnnAssign)]
    names = {one.name for one in record.body if isinstance(one, ast.FunctionDef)}
    if "__post_init__" in names or any(isinstance(one.value, ast.Call) for one in fields):
        return
    keywords = "kw_only" in _decorators(record)
    parameters = [
        f"{ast.unparse(one.target)}: {ast.unparse(one.annotation)}"
        + (f" = {ast.unparse(one.value)}" if one.value else "")
        for one in fields
    ]
    head = ", ".join(["self", *["*"][: int(keywords)], *parameters])
    body = "".join(f"    self.{ast.unparse(one.target)} = {ast.unparse(one.target)}\n" for one in fields)
    record.body += ast.parse(f"def __init__({head}) -> None:\n{body}").body


def build() -> Path:
    """The directory that holds the compiled `memberlist`, built if the sources are new."""
    sources = sorted((ROOT / "memberlist").glob("*.py"))
    mark = hashlib.sha256()
    for source in (Path(__file__), *sources):
        mark.update(source.read_bytes())
    place = Path(tempfile.gettempdir()) / f"crier-compiled-{os.getuid()}-{mark.hexdigest()[:16]}"
    if (place / "verified").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    (place / "memberlist").mkdir(parents=True, mode=0o700)
    for source in sources:
        text = source.read_text()
        compiled = source.stem in MODULES
        (place / "memberlist" / source.name).write_text(plain(text) if compiled else text)
    files = [f"memberlist/{module}.py" for module in MODULES]
    (place / "setup.py").write_text(SETUP.format(files=files))
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"mypyc: {re.sub(r'(?m)^.*warning: .*$', '', done.stdout + done.stderr).strip()}")
    print(verify(place), flush=True)
    (place / "verified").touch()
    return place


def verify(place: Path) -> str:
    """What was compared.  Ends the program when the two differ."""
    (interpreted, slow, _), (compiled, fast, native) = trace(ROOT), trace(place)
    if native != "True":
        sys.exit(f"what was compiled is not what runs: {place}")
    if interpreted != compiled:
        sys.exit(f"interpreted and compiled differ: {interpreted} and {compiled}")
    return f"interpreted and compiled give the same trace, in {float(slow):.1f} and {float(fast):.1f} CPU s"


def trace(place: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", TRACE]
    done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=True)
    return done.stdout.split()


def use_it() -> None:
    """Start this program anew on the compiled copy; returns in the program so started."""
    if PLACE not in os.environ:
        place = str(build())
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, PLACE: place})


def main() -> None:
    began = time.monotonic()
    place = build()
    print(f"{place}: ready after {time.monotonic() - began:.0f} s")
    print(verify(place))


if __name__ == "__main__":
    main()
