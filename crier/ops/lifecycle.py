"""How a program of ours ends: asked to by a signal, or because its parent is gone."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Sequence
from typing import Final

import trio

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def die_with_parent(deadly: signal.Signals = signal.SIGKILL, *, parent: int | None = None) -> None:
    """Let the kernel send us `deadly` when the thread that started us ends.  Raises OSError.

    The *thread*: who starts processes from a pool of threads must not use this, its threads come and go.
    `parent` is the pid we believe started us: when it went before the kernel knew of our wish, we exit now.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(deadly), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), deadly)


async def stop_on_signal(
    stop: Callable[[signal.Signals], None],
    which: Sequence[signal.Signals] = STOP_SIGNALS,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Calls `stop` for each stop signal; `started` once they are ours.  Runs until cancelled.

        await nursery.start(stop_on_signal, lambda _: nursery.cancel_scope.cancel())

    A second signal calls `stop` again: a program that takes its time to leave can be hurried.
    """
    with trio.open_signal_receiver(*which) as signals:
        task_status.started()
        async for number in signals:
            stop(signal.Signals(number))
