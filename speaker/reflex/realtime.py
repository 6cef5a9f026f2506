"""What keeps the loop on time: priority, and a collector that does not stop it."""

from __future__ import annotations

import gc
import os
from typing import Final

import trio

from crier.ops import logs

log = logs.get(__name__)

PRIORITY: Final = 1
"""Lowest of SCHED_FIFO: before all ordinary processes, behind everybody else who has reason to be there."""

COLLECT_INTERVAL: Final = 30.0


def be_first() -> bool:
    """Try SCHED_FIFO for this process, not for its children.  False when the system will not have it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    except OSError as problem:
        log.info("realtime_refused", why=problem.strerror)
        return False
    return True


def keep_for_good() -> None:
    """What lives now is never looked at again by the collector, which otherwise takes some 50 ms for ten
    thousand addresses.  It costs the cyclic garbage of this moment, so it is for rare and large changes.
    """
    gc.freeze()


async def keep_heap() -> None:
    """For ever: what lived at the start is never looked at again, and the young is looked at now and then.

    A collection of the few objects made since takes about a millisecond, one of everything a hundred.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        await trio.sleep(COLLECT_INTERVAL)
        gc.collect()
