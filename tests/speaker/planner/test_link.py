from __future__ import annotations

import socket
from contextlib import suppress

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from speaker import orders
from speaker.orders import BadOrder, Hello, Members, Orders, Pulse, Seeds, Vip
from speaker.planner.link import Link, ReflexGone, fit

HELLO = Hello(orders.PROTOCOL, "iris1", 3, True, 1)


def vip(number: int, candidates: int) -> Vip:
    names = tuple(f"node-{each}" for each in range(candidates))
    return Vip(f"10.0.{number >> 8}.{number & 255}", (f"default/web-{number}",), names)


async def test_messages_come_up_whatever_the_pieces() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    link = Link(theirs)
    octets = b"".join(orders.encode(each) for each in (HELLO, Members((), True), Pulse(1.0, 0.0, 0.0, 0, 0)))

    async def dribble() -> None:
        for octet in octets:
            await ours.send_all(bytes((octet,)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dribble)
        assert await link.hello() == HELLO
        assert await link.receive() == Members((), True)
        assert isinstance(await link.receive(), Pulse)


@pytest.mark.parametrize(
    ("octets", "error"),
    [
        (b"", ReflexGone),
        (b"\x00\x00", ReflexGone),
        (orders.encode(HELLO)[:-1], ReflexGone),
        (b"\xff\xff\xff\xff", BadOrder),
        (b"\x00\x00\x00\x01\xc1", BadOrder),
        (orders.encode(Seeds(())), BadOrder),
        (orders.encode(Members((), True)), BadOrder),
        (orders.encode(Hello(orders.PROTOCOL + 1, "iris1", 0, True, 1)), BadOrder),
    ],
)
async def test_what_is_no_hello_ends_it(octets: bytes, error: type[Exception]) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(octets)
    await ours.aclose()
    with pytest.raises(error):
        await Link(theirs).hello()


@given(st.binary(max_size=200))
def test_no_octets_do_worse_than_the_two_errors(octets: bytes) -> None:
    async def read() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await ours.send_all(octets)
        await ours.aclose()
        link = Link(theirs)
        with suppress(ReflexGone, BadOrder):
            while True:
                await link.receive()

    trio.run(read)


async def test_only_the_newest_orders_wait_for_a_slow_reflex() -> None:
    left, right = socket.socketpair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    link = Link(trio.SocketStream(trio.socket.from_stdlib_socket(left)))
    reader = trio.SocketStream(trio.socket.from_stdlib_socket(right))
    last = 200
    seen: list[int] = []
    async with trio.open_nursery() as nursery, reader, trio.open_nursery() as inner:
        inner.start_soon(link.keep_sending)
        for generation in range(1, last + 1):
            link.send(Orders(generation, tuple(vip(each, 5) for each in range(200))))
            link.send(Seeds((str(generation),)))
            await trio.testing.wait_all_tasks_blocked()
        buffer = bytearray()
        while last not in seen:
            buffer += await reader.receive_some(1 << 20)
            while len(buffer) >= 4 and len(buffer) >= 4 + orders.frame_length(bytes(buffer[:4])):
                size = orders.frame_length(bytes(buffer[:4]))
                message = orders.decode(bytes(buffer[4 : 4 + size]))
                del buffer[: 4 + size]
                if isinstance(message, Orders):
                    seen.append(message.generation)
        inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    assert seen == sorted(seen)
    assert len(seen) < 20, "what waits is replaced, not queued"
    left.close()


async def test_a_reflex_that_goes_is_noticed_while_sending() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.aclose()
    link = Link(theirs)
    link.send(Seeds(()))
    with pytest.raises(ReflexGone):
        await link.keep_sending()


def test_orders_that_fit_are_left_alone() -> None:
    found = Orders(1, tuple(vip(each, 10) for each in range(100)))
    assert fit(found) is found


@given(st.integers(0, 30), st.integers(1, 40), st.integers(200, 20_000))
def test_orders_that_do_not_fit_keep_the_best_candidates(vips: int, candidates: int, limit: int) -> None:
    found = Orders(1, tuple(vip(each, candidates) for each in range(vips)))
    fitted = fit(found, limit)
    kept = {len(each.candidates) for each in fitted.vips}
    assert len(kept) <= 1
    for before, after in zip(found.vips, fitted.vips, strict=True):
        assert before.candidates[: len(after.candidates)] == after.candidates
    size = len(orders.encode(fitted)) - orders.HEADER
    assert size <= limit or kept == {0}
    if fitted is not found and kept != {0}:
        one_more = Orders(1, tuple(vip(each, kept.copy().pop() + 1) for each in range(vips)))
        assert len(orders.encode(one_more)) - orders.HEADER > limit


def test_the_largest_cluster_fits() -> None:
    found = Orders(1, tuple(vip(each, 10) for each in range(10_000)))
    assert fit(found) is found
