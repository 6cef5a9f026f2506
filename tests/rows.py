"""Tables that say which tests show what: a test that is named there must exist."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def missing(tests: Iterable[str]) -> set[str]:
    """Those that do not exist, each `tests/FILE.py::test_name` or, for one case, `...::test_name[case]`.

    Functions are read from the source, so it costs nothing to ask; only for cases are files collected.
    """
    named = set(tests)
    absent = {test for test in named if not _is_defined(test.partition("[")[0])}
    cases = {test for test in named - absent if test.endswith("]")}
    return absent | cases - _collected(frozenset(test.partition("::")[0] for test in cases))


def _is_defined(test: str) -> bool:
    file, _, name = test.partition("::")
    return name in _functions(file)


@functools.cache
def _functions(file: str) -> frozenset[str]:
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_")
    )


@functools.cache
def _collected(files: frozenset[str]) -> frozenset[str]:
    if not files:
        return frozenset()
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return frozenset(done.stdout.splitlines())
