"""What a member waits for: a packet, or the moment when something is due, whichever comes first.

An idle member does little but wake up, some forty times a second when it watches, so what an awakening costs
is what the member costs.  A cancel scope for each moment costs a third more than a timer of the kernel's that
is waited for like a socket.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import time
from typing import Final, Protocol

import trio

CLOCK_MONOTONIC: Final = 1
ABSOLUTE: Final = 1
"""TFD_TIMER_ABSTIME."""
NEVER: Final = 4e9
"""Seconds since the machine started; some 127 years."""


class Alarm(Protocol):
    def set(self, at: float) -> None:
        """End the next or present wait at this moment, on trio's clock; replaces what was set before."""

    async def wait(self) -> None:
        """Until the socket can be read or the moment has come."""

    def readable(self) -> bool:
        """Whether the socket has something to read now, or that is not known without trying.

        Asking costs a fraction of what a failed try does, with its exception and the text for that.
        """

    def close(self) -> None: ...


def alarm(udp: socket.socket) -> Alarm:
    """For whatever can be read from `udp`, and one moment."""
    return TimerAlarm(udp) if _create is not None else ScopeAlarm(udp)


class TimerAlarm:
    """Linux: a timerfd and the socket behind one epoll, both registered once."""

    def __init__(self, udp: socket.socket) -> None:
        assert _create is not None
        self._timer = _create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._either = select.epoll()
        self._either.register(udp, select.EPOLLIN)
        self._either.register(self._timer, select.EPOLLIN)
        self._either_fd = self._either.fileno()
        self._udp = select.poll()
        self._udp.register(udp, select.POLLIN)
        self._setting = _Setting()
        self._at = 0.0
        self._offset = trio.current_time() - time.monotonic()

    def set(self, at: float) -> None:
        if at == self._at:
            return
        self._at = at
        seconds = min(at - self._offset, NEVER)
        setting = self._setting
        setting.seconds = whole = max(int(seconds), 0)
        setting.nanoseconds = max(int((seconds - whole) * 1e9), 1)  # the kernel takes zero for never
        _set(self._timer, ABSOLUTE, setting, None)

    async def wait(self) -> None:
        await trio.lowlevel.wait_readable(self._either_fd)

    def readable(self) -> bool:
        return bool(self._udp.poll(0))

    def close(self) -> None:
        trio.lowlevel.notify_closing(self._either_fd)
        self._either.close()
        os.close(self._timer)


class ScopeAlarm:
    """Anywhere else."""

    def __init__(self, udp: socket.socket) -> None:
        self._udp, self._at = udp, 0.0
        self._scope = trio.CancelScope()

    def set(self, at: float) -> None:
        self._scope.deadline = self._at = at

    async def wait(self) -> None:
        with trio.CancelScope(deadline=self._at) as self._scope:
            await trio.lowlevel.wait_readable(self._udp)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        pass


class _Setting(ctypes.Structure):
    """struct itimerspec: an interval, here none, and a time."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )
    seconds: int
    nanoseconds: int


_libc: Final = ctypes.CDLL(None, use_errno=True)
# Where a long is no time_t, or there is no such call, the other class serves.
_create = getattr(_libc, "timerfd_create", None) if ctypes.sizeof(ctypes.c_long) == 8 else None
if _create is not None:
    _set = _libc.timerfd_settime
    _set.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(_Setting), ctypes.c_void_p)
