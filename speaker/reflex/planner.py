"""The planner, our child: started, listened to, told, and started again.

Whatever it does, we go on: what it writes is bounded and decoded before it is believed, what it does not
read is replaced by newer, and if it ends, hangs or talks nonsense there is soon another.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import trio

from crier.ops import logs
from speaker.orders import HEADER, BadOrder, Hello, Sealed, UpSealed, decode_down, encode, frame_length
from speaker.reflex import birth, fair
from speaker.reflex.birth import Newborn
from speaker.reflex.outbox import Outbox

log = logs.get(__name__)

BACKOFF_MIN: Final = 0.1
BACKOFF_MAX: Final = 10.0
GOOD_LIFE: Final = 10.0
"""A planner that lived so long is restarted without delay again."""

HUNG_AFTER: Final = 25.0
"""Seconds without reading anything of what we wrote, until a planner counts as hung: less than the 30 s
after which kubelet would restart the whole pod for it, and us too."""

_LOOK_INTERVAL: Final = 0.23
"""Not a part of a second: who reads at once must not be looked at only just after our pulse was written."""

FAREWELL: Final = 1.5
"""Seconds a planner has to end when asked to."""

READ_SIZE: Final = 65536


class Planner:
    """Keeps one planner running.  `take` gets what it says; it may raise BadOrder."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        outbox: Outbox,
        *,
        hello: Callable[[int], Hello],
        take: Callable[[Sealed], Awaitable[None]],
        first: Newborn | None = None,
    ) -> None:
        """`first`: one that has been started already."""
        self._command = tuple(command)
        self._environ = dict(environ)
        self._outbox = outbox
        self._hello = hello
        self._take = take
        self._first = first
        self.starts = 0
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()

    async def run(self) -> None:
        """Until `stop`."""
        with self._scope:
            await self._keep_alive()
        self._stopped.set()

    async def stop(self) -> None:
        """Ask the planner to end, wait `FAREWELL` for that at most, and start no other."""
        self._scope.cancel()
        await self._stopped.wait()

    async def _keep_alive(self) -> None:
        backoff = BACKOFF_MIN
        while True:
            began = trio.current_time()
            try:
                why = await self._live()
            except OSError as problem:  # no memory, no descriptors, no such program
                why = f"not started: {problem}"
            lived = trio.current_time() - began
            if lived >= GOOD_LIFE:
                backoff = BACKOFF_MIN
            log.warning("planner_ended", why=why, lived=lived, restart_in=backoff)
            await trio.sleep(backoff)
            backoff = min(2 * backoff, BACKOFF_MAX)

    async def _live(self) -> str:
        """One planner's life; returns why it was over.  Raises OSError when it could not be born."""
        newborn, self._first = self._first or birth.start(self._command, self._environ), None
        process = newborn.process
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(newborn.socket))
        async with stream:
            self.starts += 1
            log.info("planner_started", pid=process.pid, starts=self.starts)
            causes: list[str] = []
            try:
                async with trio.open_nursery() as nursery:

                    async def first(part: Awaitable[str]) -> None:
                        causes.append(await part)
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(first, self._listen(stream))
                    nursery.start_soon(first, self._tell(stream))
                    nursery.start_soon(first, _hung(newborn.socket))
                    nursery.start_soon(first, _exited(process))
            finally:
                # asked kindly only when it is we who end: a planner that erred is not waited for
                await _end(process, kindly=not causes)
        return f"{causes[0]}; {_status(process)}"

    async def _listen(self, stream: trio.abc.ReceiveStream) -> str:
        buffer = bytearray()
        try:
            while True:
                while len(buffer) < HEADER:
                    if not await _more(stream, buffer):
                        return "closed its socket"
                length = frame_length(bytes(buffer[:HEADER]))
                while len(buffer) < HEADER + length:
                    if not await _more(stream, buffer):
                        return "closed its socket"
                began = trio.current_time()
                message = decode_down(bytes(memoryview(buffer)[HEADER : HEADER + length]))
                del buffer[: HEADER + length]
                await self._take(message)
                await fair.rest(began)
        except BadOrder as problem:
            return f"talked nonsense: {problem}"

    async def _tell(self, stream: trio.abc.SendStream) -> str:
        self._outbox.mark_all()
        message: UpSealed = self._hello(self.starts)
        while True:
            try:
                await stream.send_all(encode(message))
            except trio.BrokenResourceError:
                return "closed its socket"
            except BadOrder as problem:  # more VIPs than a report can hold; the planner has to do without
                log.warning("report_too_large", error=problem)
            began = trio.current_time()
            message = await self._outbox.next()
            await fair.rest(began)


async def _more(stream: trio.abc.ReceiveStream, buffer: bytearray) -> bool:
    try:
        data = await stream.receive_some(READ_SIZE)
    except trio.BrokenResourceError:
        return False
    buffer += data
    return bool(data)


async def _exited(process: subprocess.Popen[bytes]) -> str:
    await _wait(process)
    return "exited"


async def _wait(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        pidfd = os.pidfd_open(process.pid)
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)
        process.wait()


async def _hung(sock: socket.socket) -> str:
    """Returns when nothing of what waits in the socket was read for `HUNG_AFTER`."""
    waiting, since = 0, trio.current_time()
    while True:
        await trio.sleep(_LOOK_INTERVAL)
        (now_waiting,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
        # less than before, or nothing: it reads; more: we wrote, which tells nothing about it
        if now_waiting == 0 or now_waiting < waiting:
            since = trio.current_time()
        waiting = now_waiting
        if trio.current_time() - since >= HUNG_AFTER:
            return f"read nothing for {HUNG_AFTER:g} s"


async def _end(process: subprocess.Popen[bytes], *, kindly: bool) -> None:
    with trio.CancelScope(shield=True):
        if kindly:
            process.send_signal(signal.SIGTERM)
            with trio.move_on_after(FAREWELL):
                await _wait(process)
        if process.returncode is None:
            process.kill()
        await _wait(process)


def _status(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    assert code is not None
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"status {code}"
