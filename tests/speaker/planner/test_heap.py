"""The collector of garbage."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from speaker.planner.heap import INTERVAL, keep_collections_short, keep_heap


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


class Knot:
    def __init__(self) -> None:
        self.self = self


async def test_a_cycle_is_found_soon(autojump_clock: trio.testing.MockClock) -> None:
    gc.collect(1)  # what is left of it counts as new
    knot = weakref.ref(Knot())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_heap)
        await trio.sleep(INTERVAL * 1.5)
        assert knot() is None
        nursery.cancel_scope.cancel()


def test_a_young_collection_freezes_nothing() -> None:
    keep_collections_short(slow=0.0)
    gc.collect(1)
    assert gc.get_freeze_count() == 0
