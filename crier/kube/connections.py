"""Requests to one server over connections that stay open, by the standard library's HTTP client.

urllib3 does as much and more, and takes three times the processor time for it: most of what a controller does
for a Service.  It is left to watches, and to where a proxy stands in between.
"""

from __future__ import annotations

import http.client
import weakref
from collections.abc import Callable, Mapping
from typing import Final

from urllib3.util.wait import wait_for_read

from crier.kube.access import POOL_SIZE, SOCKET_OPTIONS

CONNECT_TIMEOUT: Final = 5.0


class TooLarge(Exception):
    """An answer with more octets than are read.  `status` is its own."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Connections:
    """Thread-safe: each request has a connection of its own, which the next one may have after it."""

    def __init__(self, make: Callable[[], http.client.HTTPConnection]) -> None:
        """`make`: a connection that is not connected yet."""
        self._make = make
        self._idle: list[http.client.HTTPConnection] = []  # `append` and `pop` are each one step
        weakref.finalize(self, _close_all, self._idle)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        timeout: float,
        most: int,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of the answer, of at most so many octets.

        `timeout` bounds each wait for octets, in seconds; a connection is waited for no longer than
        `CONNECT_TIMEOUT`.

        Raises:
            OSError, http.client.HTTPException: there is no whole answer.
            TooLarge: there is, and more of it than is read.
        """
        connection = self._connected(timeout)
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            response = connection.getresponse()
            data = _read(response, most)
        except BaseException:
            connection.close()
            raise
        if response.will_close or len(self._idle) >= POOL_SIZE:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, response.headers, data

    def close(self) -> None:
        """Those that nobody uses at the moment."""
        _close_all(self._idle)

    def _connected(self, timeout: float) -> http.client.HTTPConnection:
        connection = self._take()
        while connection is not None and wait_for_read(connection.sock, timeout=0.0):
            connection.close()  # nothing was asked for, so this is the end of it
            connection = self._take()
        if connection is None:
            connection = self._make()
            connection.timeout = min(CONNECT_TIMEOUT, timeout)
            connection.connect()
            for option in SOCKET_OPTIONS:
                connection.sock.setsockopt(*option)
        connection.sock.settimeout(timeout)
        return connection

    def _take(self) -> http.client.HTTPConnection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None


def _read(response: http.client.HTTPResponse, most: int) -> bytes:
    data = response.read(most + 1)
    if len(data) > most:
        raise TooLarge(response.status)
    if response.length:  # it ended before its time, which a read of so many octets does not tell
        raise http.client.IncompleteRead(data, response.length)
    return data


def _close_all(connections: list[http.client.HTTPConnection]) -> None:
    while connections:
        connections.pop().close()
