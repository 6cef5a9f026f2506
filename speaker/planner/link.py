"""Our end of the socketpair to the reflex."""

from __future__ import annotations

import math
import socket
from typing import Final

import msgspec
import trio

from speaker import orders
from speaker.orders import BadOrder, Down, Hello, Orders, Seeds, Up

MAX_READ: Final = 256 * 1024


class ReflexGone(Exception):
    """The reflex closed its end.  There is nothing left to do for a planner."""


class Link:
    """Reads what the reflex says and sends it the newest orders.

    Snapshots supersede one another on the way down too: when the reflex is slow, what waits to be sent is
    replaced, never queued.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._waiting: dict[type[Down], Down] = {}
        self._news = trio.Event()
        self.sent_generation = 0
        """Generation of the last orders the kernel took from us."""

    @classmethod
    def inherit(cls, fd: int) -> Link:
        """Raises OSError when `fd` is not an open socket."""
        sock = socket.socket(fileno=fd)
        sock.set_inheritable(False)
        return cls(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))

    async def hello(self) -> Hello:
        """The first message.  Raises ReflexGone, BadOrder."""
        message = await self.receive()
        if not isinstance(message, Hello):
            raise BadOrder(f"the first message is {type(message).__name__}, not Hello")
        if message.protocol != orders.PROTOCOL:
            raise BadOrder(f"the reflex speaks protocol {message.protocol}, this planner {orders.PROTOCOL}")
        return message

    async def receive(self) -> Up:
        """Raises ReflexGone, or BadOrder when what came is not for us to understand."""
        length = orders.frame_length(await self._take(orders.HEADER))
        message = orders.decode(await self._take(length))
        if isinstance(message, Orders | Seeds):
            raise BadOrder(f"{type(message).__name__} came up")
        return message

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                data = await self._stream.receive_some(MAX_READ)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise ReflexGone from None
            if not data:
                raise ReflexGone
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def send(self, message: Down) -> None:
        """Replaces what of this kind still waits.  Returns at once."""
        self._waiting[type(message)] = message
        self._news.set()

    async def keep_sending(self) -> None:
        """Raises ReflexGone."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            while self._waiting:
                kind = next(iter(self._waiting))
                message = self._waiting.pop(kind)
                try:
                    await self._stream.send_all(orders.encode(message))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    raise ReflexGone from None
                if isinstance(message, Orders):
                    self.sent_generation = message.generation


def fit(found: Orders, limit: int = orders.MAX_FRAME) -> Orders:
    """The same orders, with fewer candidates per VIP if they would not fit into one frame.

    The best are kept, the same number for every VIP and node, so all nodes still agree.  It takes tens
    of thousands of VIPs times hundreds of nodes to come here.
    """
    if _size(found) <= limit:
        return found
    most = max((len(vip.candidates) for vip in found.vips), default=0)
    low, high = 0, most  # `low` candidates fit, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _size(_cut(found, middle)) <= limit else (low, middle)
    return _cut(found, low)


def _cut(found: Orders, most: int) -> Orders:
    vips = tuple(msgspec.structs.replace(vip, candidates=vip.candidates[:most]) for vip in found.vips)
    return msgspec.structs.replace(found, vips=vips)


def _size(found: Orders) -> float:
    try:
        return len(orders.encode(found)) - orders.HEADER
    except BadOrder:
        return math.inf
