"""One loop serves everybody: whoever brings endless work gets half of it."""

from __future__ import annotations

from typing import Final

import trio

MAX_REST: Final = 0.1
"""Seconds."""


async def rest(since: float) -> None:
    """To be awaited after a bounded piece of work begun at `since` (trio's clock) when more is waiting.

    Rests as long as the work took, so that a flood on an interface, or a planner that talks without end,
    leaves gossip the other half of the loop.  Always a checkpoint.
    """
    await trio.sleep(min(trio.current_time() - since, MAX_REST))
