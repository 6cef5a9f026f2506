"""The table of MetalLB's tests names tests that there are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.routed.rows import ROWS

ROOT = Path(__file__).parents[2]


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_")}


@pytest.mark.parametrize("row", sorted(ROWS))
def test_each_row_has_a_test_or_a_reason(row: str) -> None:
    said = ROWS[row]
    if said.startswith("- "):
        assert len(said) > 10
        return
    for each in said.split():
        file, _, name = each.partition("::")
        assert name in functions_of(ROOT / file), each
