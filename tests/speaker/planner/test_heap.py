"""The collector of garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from speaker.planner.heap import keep_collections_short


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    before = list(gc.callbacks)
    yield
    gc.callbacks[:] = before
    gc.unfreeze()


def test_what_outlived_a_slow_collection_is_not_looked_at_again() -> None:
    note = keep_collections_short(slow=0.0)
    kept = [[number] for number in range(1000)]
    gc.collect()
    assert gc.get_freeze_count() > len(kept)
    gc.callbacks.remove(note)
    gc.unfreeze()
    keep_collections_short(slow=60.0)
    gc.collect()
    assert gc.get_freeze_count() == 0


def test_a_young_collection_freezes_nothing() -> None:
    keep_collections_short(slow=0.0)
    gc.collect(1)
    assert gc.get_freeze_count() == 0
