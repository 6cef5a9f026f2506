"""Being on time for BFD: a peer that waits 150 ms for us takes us for dead."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from typing import Final

import trio

PRIORITY: Final = 10
"""Of SCHED_FIFO: above everything ordinary, below what the kernel itself needs."""
COLLECT_INTERVAL: Final = 30.0
"""Seconds between two looks for garbage."""


def be_prompt() -> None:
    """Nothing may keep us from the next packet: no pause to collect garbage, and the processor as soon as it
    is needed where that is allowed (CAP_SYS_NICE)."""
    gc.collect()
    keep()
    gc.disable()
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))


def keep() -> None:
    """What lives now is never looked at again; for after much was made that stays.  Takes no time."""
    gc.freeze()


async def keep_prompt() -> None:
    """For ever: the little that was made since is looked at now and then, which takes a millisecond."""
    while True:
        await trio.sleep(COLLECT_INTERVAL)
        gc.collect()
