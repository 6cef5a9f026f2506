"""What a Service's pod on one node does in the lab: HTTP and UDP servers that say which node served.

    python -m crier.lab.backend --node node-1 --address 172.30.0.11 --tcp 8080=default/web

HTTP answers any GET with `{"node": ..., "service": ...}`; UDP answers a datagram with the same and the
datagram's text as `echo`, and as `waited` the seconds that it lay in the socket: a slow answer that did
is nobody's failure but this process's.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from crier.lab.ontime import Arrivals, be_first

MAX_ECHO: Final = 64
"""Octets of a datagram that are echoed; the rest is cut off."""
REQUEST_PATIENCE: Final = 2.0


def http_server(node: str, service: str, address: str, port: int) -> ThreadingHTTPServer:
    body = json.dumps({"node": node, "service": service}).encode() + b"\n"

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_PATIENCE

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # the client is gone: its own affair
                super().handle()

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        request_queue_size = 128
        daemon_threads = True

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(self.server_address)  # http.server's own would ask DNS for our name
            self.server_name, self.server_port = address, port

    return Server((address, port), Handler)


def udp_answer(node: str, service: str, datagram: bytes, waited: float) -> bytes:
    echo = datagram[:MAX_ECHO].decode("ascii", errors="replace")
    answer = {"node": node, "service": service, "echo": echo, "waited": round(waited, 4)}
    return json.dumps(answer).encode()


def serve_udp(node: str, sockets: list[tuple[socket.socket, str]]) -> None:
    arrivals = Arrivals()
    with selectors.DefaultSelector() as selector:
        for sock, service in sockets:
            sock.setblocking(False)
            arrivals.note_on(sock)
            selector.register(sock, selectors.EVENT_READ, service)
        while True:
            ready = selector.select()
            arrivals.calibrate()
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                receiver = key.fileobj
                with suppress(OSError):
                    while True:
                        datagram, at, sender = arrivals.receive(receiver)
                        waited = time.monotonic() - at
                        receiver.sendto(udp_answer(node, key.data, datagram, waited), sender)


def _port(text: str) -> tuple[int, str]:
    number, _, service = text.partition("=")
    if not number.isdecimal() or not 0 < int(number) < 65536 or not service:
        raise argparse.ArgumentTypeError(f"{text!r}: expected PORT=NAMESPACE/NAME")
    return int(number), service


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m crier.lab.backend", description=__doc__.splitlines()[0])
    parser.add_argument("--node", required=True)
    parser.add_argument("--address", action="append", required=True, help="listen here; may be repeated")
    parser.add_argument("--tcp", action="append", default=[], type=_port, metavar="PORT=SERVICE")
    parser.add_argument("--udp", action="append", default=[], type=_port, metavar="PORT=SERVICE")
    options = parser.parse_args(argv)
    be_first()
    sockets = []
    for address in options.address:
        for port, service in options.tcp:
            server = http_server(options.node, service, address, port)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        for port, service in options.udp:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((address, port))
            sockets.append((sock, service))
    print("serving", flush=True)
    serve_udp(options.node, sockets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
