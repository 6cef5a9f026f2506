"""`python -m crier.lab.kube.forward --fd 3 --to 172.30.0.2:6443`: connections taken here are made there.

The API server of the demo listens in the control plane's namespace.  This runs in that namespace too, but the
listening socket that it is handed was made outside: so this machine's kubectl reaches the server on loopback,
and TLS is between those two alone.
"""

from __future__ import annotations

import argparse
import socket
import sys
from contextlib import suppress
from typing import Final

import trio

from crier.lab.api.listen import ListenError, parse_endpoint

CHUNK: Final = 64 * 1024


async def forward(listener: trio.SocketListener, host: str, port: int) -> None:
    """Serve until cancelled.  A connection that cannot be made there is closed here."""

    async def carry(client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream(host, port)
        except OSError:
            return
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(_pump, client, server)
            nursery.start_soon(_pump, server, client)

    await trio.serve_listeners(carry, [listener])


async def _pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    # either side may go at any time; what it said before that arrives
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await source.receive_some(CHUNK):
            await sink.send_all(data)
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        await sink.send_eof()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m crier.lab.kube.forward", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--fd", type=int, required=True, help="a listening TCP socket")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="where every connection goes")
    options = parser.parse_args(argv)
    try:
        host, port = parse_endpoint(options.to)
        listening = socket.socket(fileno=options.fd)
    except (ListenError, OSError) as problem:
        parser.error(str(problem))
    trio.run(forward, trio.SocketListener(trio.socket.from_stdlib_socket(listening)), host, port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
