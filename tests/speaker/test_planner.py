"""The planner as our child: checked, bounded, restarted.  Its processes are real, the waiting is not."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest
import trio
import trio.testing

from speaker.orders import Happened, Hello, Pulse, Sealed, Seeds
from speaker.reflex import planner
from speaker.reflex.outbox import Outbox
from speaker.reflex.planner import BACKOFF_MAX, GOOD_LIFE, HUNG_AFTER, Planner

PULSE = Pulse(1.0, 0.0, 0.0, 0, 0)


# --------------------------------------------------------------------------------------- real processes

TALK = """
import os, socket, sys, time
sys.path.insert(0, {root!r})
from speaker.orders import *
sock = socket.socket(fileno=int(os.environ["CRIER_REFLEX_FD"]))
def read():
    header = b""
    while len(header) < HEADER:
        header += sock.recv(HEADER - len(header)) or sys.exit()
    body = b""
    while len(body) < frame_length(header):
        body += sock.recv(frame_length(header) - len(body)) or sys.exit()
    return decode(body)
"""


class Supervised:
    """A planner that runs `script`, and what came of it."""

    def __init__(self, script: str) -> None:
        root = str(Path(__file__).parent.parent.parent)
        self.taken: list[Sealed] = []
        self.news = trio.Event()
        self.outbox = Outbox({"pulse": self._pulse})
        self.planner = Planner(
            (sys.executable, "-c", TALK.format(root=root) + script),
            os.environ,
            self.outbox,
            hello=lambda starts: Hello(1, "a", 7, True, starts),
            take=self._take,
        )

    async def _pulse(self) -> Pulse:
        return PULSE

    async def _take(self, message: Sealed) -> None:
        self.taken.append(message)
        self.news.set()

    async def until_taken(self, count: int) -> None:
        with trio.fail_after(60):
            while len(self.taken) < count:
                self.news = trio.Event()
                await self.news.wait()


async def running(supervised: Supervised, until: Awaitable[None]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervised.planner.run)
        await until
        await supervised.planner.stop()


async def test_hello_comes_first_and_then_everything() -> None:
    supervised = Supervised(
        "said = [read(), read(), read()]\nsock.sendall(encode(Seeds(tuple(repr(m) for m in said))))\nread()\n"
    )
    happened = Happened(1.0, "took_over", "192.0.2.1")
    supervised.outbox.happened(happened)
    await running(supervised, supervised.until_taken(1))
    assert supervised.taken == [Seeds((repr(Hello(1, "a", 7, True, 1)), repr(PULSE), repr(happened)))]


async def test_octet_by_octet_is_a_message_too() -> None:
    supervised = Supervised(
        "for octet in encode(Seeds(('10.0.0.1',))): sock.sendall(bytes([octet])); time.sleep(0.001)\n"
        "time.sleep(60)"
    )
    await running(supervised, supervised.until_taken(1))
    assert supervised.taken == [Seeds(("10.0.0.1",))]


@pytest.mark.parametrize(
    "ending",
    [
        "sys.exit(3)",
        "os.kill(os.getpid(), 9)",
        "sock.close(); time.sleep(60)",
        "sock.shutdown(2); time.sleep(60)",
        "sock.sendall(bytes(4)); time.sleep(60)",
        "sock.sendall(b'\\xff' * 4); time.sleep(60)",
        "sock.sendall(b'\\0\\0\\0\\1x'); time.sleep(60)",
        "sock.sendall(encode(Pulse(1, 0, 0, 0, 0))); time.sleep(60)",
    ],
)
async def test_however_it_ends_there_is_another(ending: str) -> None:
    hello = "first = read()\nsock.sendall(encode(Seeds((str(first.planner_starts),))))\n"
    supervised = Supervised(f"{hello}{ending}")
    await running(supervised, supervised.until_taken(3))
    assert supervised.taken[:3] == [Seeds(("1",)), Seeds(("2",)), Seeds(("3",))]


async def test_a_program_that_is_not_there_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    supervised = Supervised("")
    supervised.planner._command = ("/nonexistent/planner",)
    starts: list[float] = []

    async def five_starts() -> None:
        while len(starts) < 5:
            if supervised.planner.starts > len(starts):
                starts.append(trio.current_time())
            await trio.sleep(0.01)

    await running(supervised, five_starts())
    waits = [after - before for before, after in itertools.pairwise(starts)]
    # time jumps only while everybody sleeps, so a wait is at least the backoff; how long a process takes
    # is its own
    assert all(wait >= backoff - 0.02 for wait, backoff in zip(waits, (0.1, 0.2, 0.4, 0.8), strict=True))


def test_backoff_and_patience_are_within_what_kubelet_allows() -> None:
    assert BACKOFF_MAX <= GOOD_LIFE
    assert HUNG_AFTER < 30


async def test_a_planner_that_reads_nothing_counts_as_hung(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = socket.socketpair()
    slow_reads = 4
    with ours, theirs:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read_ever_so_slowly() -> None:
                for _ in range(100):
                    ours.send(b"news")
                for _ in range(slow_reads):
                    await trio.sleep(HUNG_AFTER - 1)
                    theirs.recv(4)

            why = await planner._hung(ours)
    assert why == "read nothing for 25 s"
    last_read = slow_reads * (HUNG_AFTER - 1)
    assert last_read + HUNG_AFTER <= trio.current_time() < last_read + HUNG_AFTER + 1


async def test_a_planner_that_reads_at_once_is_never_hung(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, trio.move_on_after(600) as ten_minutes:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read_each_pulse_a_little_later() -> None:
                while True:
                    ours.send(b"pulse")
                    await trio.sleep(0.01)
                    theirs.recv(5)
                    await trio.sleep(0.99)

            raise AssertionError(await planner._hung(ours))
    assert ten_minutes.cancelled_caught


async def test_stopping_is_kind_first_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "FAREWELL", 0.1)
    supervised = Supervised(
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\n"
        "sock.sendall(encode(Seeds((str(os.getpid()),))))\nwhile True: time.sleep(60)"
    )
    await running(supervised, supervised.until_taken(1))
    (told,) = supervised.taken
    assert isinstance(told, Seeds)
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.addresses[0]), signal.SIG_DFL)
