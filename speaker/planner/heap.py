"""A collector of garbage that does not stop the planner for long, however large the cluster."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Final

import trio

SLOW: Final = 0.005
"""Seconds of processor time; it takes some thirty thousand objects."""

INTERVAL: Final = 2.0
"""Seconds between looks at what is new."""

Callback = Callable[[str, dict[str, int]], None]


def keep_collections_short(slow: float = SLOW) -> Callback:
    """What lives after a full collection that took longer than `slow` is never looked at again.

    It is what the mirrors have, for the most part: free of cycles, and freed without the collector.  A cycle
    that is caught among it is lost, which is bounded: it takes thousands of new objects to be slow again.
    Returns what was added to `gc.callbacks`.
    """
    began = 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.thread_time()  # nothing else of ours runs meanwhile, whichever thread it is
        elif info["generation"] == 2 and time.thread_time() - began > slow:
            gc.freeze()

    gc.callbacks.append(note)
    return note


async def keep_heap() -> None:
    """For ever: what is new is looked at before there is much of it.

    Left alone, Python waits until it is a quarter of all there was.
    """
    while True:
        await trio.sleep(INTERVAL)
        if gc.get_count()[2]:
            gc.collect()
