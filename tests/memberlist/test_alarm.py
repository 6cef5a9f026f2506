"""Both kinds of alarm keep the same promises, whichever this system would choose."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing

from memberlist.alarm import Alarm, ScopeAlarm, TimerAlarm, alarm

PATIENCE = 60.0
LONG = 1000.0


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.setblocking(False)
        yield one


kinds = pytest.mark.parametrize("kind", [TimerAlarm, ScopeAlarm])


def ring(udp: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(b"x", udp.getsockname())


@kinds
async def test_it_ends_at_the_moment(udp: socket.socket, kind: Callable[[socket.socket], Alarm]) -> None:
    with contextlib.closing(kind(udp)) as it, trio.fail_after(PATIENCE):
        for _ in range(3):
            at = trio.current_time() + 0.01
            it.set(at)
            await it.wait()
            assert trio.current_time() >= at - 1e-6


@kinds
async def test_it_ends_when_something_can_be_read_and_until_it_was_read(
    udp: socket.socket, kind: Callable[[socket.socket], Alarm]
) -> None:
    with contextlib.closing(kind(udp)) as it, trio.fail_after(PATIENCE):
        it.set(float("inf"))
        ring(udp)
        await it.wait()
        await it.wait()
        assert udp.recv(10) == b"x"
        with trio.move_on_after(0.02) as scope:
            await it.wait()
        assert scope.cancelled_caught


@kinds
async def test_a_wait_under_way_ends_earlier_or_later_when_it_is_set_anew(
    udp: socket.socket, kind: Callable[[socket.socket], Alarm]
) -> None:
    with contextlib.closing(kind(udp)) as it, trio.fail_after(PATIENCE):
        it.set(trio.current_time() + LONG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.wait)
            await trio.testing.wait_all_tasks_blocked()
            it.set(trio.current_time())
        for lead in (0.01, 0.1, 1.0, 10.0):  # a busy machine may take that long to set it anew
            ended = trio.Event()

            async def wait(ended: trio.Event = ended) -> None:
                await it.wait()
                ended.set()

            at = trio.current_time() + 2 * lead
            it.set(at - lead)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                if under_way := not ended.is_set():
                    it.set(at)
            if under_way:
                assert trio.current_time() >= at - 1e-6
                return
        pytest.fail("no wait was ever under way")


@kinds
async def test_a_moment_that_has_passed_ends_it_at_once(
    udp: socket.socket, kind: Callable[[socket.socket], Alarm]
) -> None:
    with contextlib.closing(kind(udp)) as it, trio.fail_after(PATIENCE):
        it.set(trio.current_time() - 5.0)
        await it.wait()


@kinds
async def test_what_can_be_read_is_never_denied(
    udp: socket.socket, kind: Callable[[socket.socket], Alarm]
) -> None:
    with contextlib.closing(kind(udp)) as it:
        for payload in (b"x", b""):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(payload, udp.getsockname())
            assert it.readable()
            assert udp.recv(10) == payload
    with contextlib.closing(TimerAlarm(udp)) as it:
        it.set(trio.current_time() - 1.0)  # what is due is nothing to read
        assert not it.readable()


async def test_linux_has_the_cheap_one(udp: socket.socket) -> None:
    with contextlib.closing(alarm(udp)) as it:
        assert isinstance(it, TimerAlarm)
