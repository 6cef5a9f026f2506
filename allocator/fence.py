"""No write leaves a controller that does not lead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from crier.kube.errors import Unavailable
from crier.kube.transport import Stream, Transport


def clock() -> float:
    """Seconds on a clock that nobody sets and that counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Fence:
    """Open until a moment; asked by every thread that is about to write."""

    def __init__(self, now: Callable[[], float] = clock) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._open_until = float("-inf")
        self._closed = False
        self._passing = 0

    def open_until(self, moment: float) -> None:
        with self._lock:
            self._open_until = moment

    def close(self) -> None:
        """For good.  Who is inside already may still be, see `passing`."""
        with self._lock:
            self._closed = True

    @property
    def passing(self) -> int:
        """Writes under way."""
        return self._passing

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Raises Unavailable when it is closed."""
        with self._lock:
            if self._closed or self._now() >= self._open_until:
                raise Unavailable(0, "NotLeading", "this controller does not lead, so it does not write")
            self._passing += 1
        try:
            yield
        finally:
            with self._lock:
                self._passing -= 1


class FencedTransport(Transport):
    """Another transport, whose writes have to pass the fence."""

    def __init__(self, inner: Transport, fence: Fence) -> None:
        self.host = inner.host
        self._inner = inner
        self._fence = fence

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: float,
    ) -> bytes:
        def send() -> bytes:
            return self._inner.request(
                method, path, query=query, body=body, content_type=content_type, timeout=timeout
            )

        if method == "GET":
            return send()
        with self._fence.enter():
            return send()

    def stream(self, path: str, *, query: Mapping[str, str], timeout: float) -> Stream:
        return self._inner.stream(path, query=query, timeout=timeout)

    def close(self) -> None:
        self._inner.close()
