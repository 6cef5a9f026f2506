"""Being on time among busy neighbours: what a machine of its own would give the client and each backend."""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import suppress
from typing import Any, Final

NICENESS: Final = -10
PRIORITY: Final = 2
"""Of SCHED_FIFO, one above the speakers' reflexes: a client on a machine of its own would not wait for them.
"""
_TIMESTAMPS: Final = 35  # SO_TIMESTAMPNS and SCM_TIMESTAMPNS, socket(7); Python has no name for it
_TIMESPEC: Final = struct.Struct("@ll")
_ANCILLARY: Final = socket.CMSG_SPACE(_TIMESPEC.size)
MAX_BRACKET: Final = 50e-6
"""Seconds between two looks at one clock for what lies between them to count as the same moment."""


def be_first() -> None:
    """Put this process before the others, as far as the system lets us.

    And the threads it starts: one that holds the interpreter and has no processor makes all of them wait.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))


class Arrivals:
    """When datagrams arrived, as the kernel noted it: being late to read them is not their fault.

    The kernel notes the time of day; it is translated to CLOCK_MONOTONIC, the clock of everything else here.
    """

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def calibrate(self) -> None:
        before, day, after = time.monotonic(), time.time(), time.monotonic()
        if after - before < MAX_BRACKET:
            self._ahead = day - (before + after) / 2

    @staticmethod
    def note_on(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)

    def receive(self, sock: socket.socket) -> tuple[bytes, float, Any]:
        """A datagram, when it arrived, and where from.  Raises OSError, also when there is none."""
        data, ancillary, _, origin = sock.recvmsg(2048, _ANCILLARY)
        now = time.monotonic()
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _TIMESTAMPS and len(value) >= _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack_from(value)
                return data, min(now, seconds + nanoseconds * 1e-9 - self._ahead), origin
        return data, now, origin
