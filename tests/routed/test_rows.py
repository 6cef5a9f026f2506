"""The table of MetalLB's tests names tests that there are."""

from __future__ import annotations

import pytest

from tests.routed.rows import ROWS
from tests.rows import missing


@pytest.mark.parametrize("row", sorted(ROWS))
def test_each_row_has_a_test_or_a_reason(row: str) -> None:
    said = ROWS[row]
    if said.startswith("- "):
        assert len(said) > 10
    else:
        assert said
        assert missing(said.split()) == set()
