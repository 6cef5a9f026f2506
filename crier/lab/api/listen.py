"""Listening sockets, also in other network namespaces."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from typing import Final

CLONE_NEWNET: Final = 0x40000000
BACKLOG: Final = 512


class ListenError(Exception):
    """An address that cannot be listened on; the message names it and the reason."""


def parse_endpoint(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[HOST]:PORT`.

    Raises:
        ListenError: it is neither.
    """
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ListenError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes one that is free.

    Raises:
        ListenError: no such address here, or it is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"{host}:{port}: {error.strerror or error}") from None
    return sock


def listen_in_netns(namespace: str, host: str, port: int) -> socket.socket:
    """The same inside the namespace `namespace` (a path as `/run/netns/lan`); the caller stays where it is.

    A socket belongs for ever to the namespace it was made in, and a namespace is entered by one thread: so a
    thread that does nothing else enters, makes the socket and ends.

    Raises:
        ListenError: there is no such namespace, or see `listen`.
    """
    made: list[socket.socket | ListenError] = []

    def enter_and_listen() -> None:
        try:
            _enter(namespace)
            made.append(listen(host, port))
        except ListenError as error:
            made.append(ListenError(f"{namespace}: {error}"))
        except OSError as error:
            made.append(ListenError(f"{namespace}: {error.strerror}"))

    thread = threading.Thread(target=enter_and_listen, name="netns")
    thread.start()
    thread.join()
    if isinstance(made[0], ListenError):
        raise made[0]
    return made[0]


def _enter(namespace: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(fd, CLONE_NEWNET) != 0:  # os.setns is there from Python 3.12 only
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
