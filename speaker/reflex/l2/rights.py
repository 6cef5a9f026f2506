"""Whether this process may have packet sockets; with little to import, because it is asked first of all."""

from __future__ import annotations

import socket


class NotAllowed(Exception):
    """The system does not let us have packet sockets."""


def check() -> None:
    """Raises NotAllowed when no interface could ever be opened."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as problem:
        raise NotAllowed(f"packet sockets: {problem.strerror}; the capability NET_RAW is needed") from None
