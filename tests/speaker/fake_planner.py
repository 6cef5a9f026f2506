"""A planner for tests: sends the orders in a file whenever it changes, appends what comes up to another.

    python fake_planner.py ORDERS REPORTS

ORDERS is JSON: {"generation": 1, "vips": [{...}], "seeds": [...]}.  REPORTS gets one JSON object per message.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

import msgspec

from speaker.orders import HEADER, Orders, Seeds, Vip, decode, encode, frame_length


class Wanted(msgspec.Struct):
    generation: int
    vips: tuple[Vip, ...] = ()
    seeds: tuple[str, ...] = ()


def listen(sock: socket.socket, reports: Path) -> None:
    with sock.makefile("rb") as stream, reports.open("ab", buffering=0) as out:
        while header := stream.read(HEADER):
            message = decode(stream.read(frame_length(header)))
            out.write(msgspec.json.encode(message) + b"\n")
    os._exit(0)


def main() -> None:
    wanted, reports = Path(sys.argv[1]), Path(sys.argv[2])
    sock = socket.socket(fileno=int(os.environ["CRIER_REFLEX_FD"]))
    threading.Thread(target=listen, args=(sock, reports), daemon=True).start()
    told: bytes | None = None
    while True:
        text = wanted.read_bytes() if wanted.exists() else b""
        if text and text != told:
            orders = msgspec.json.decode(text, type=Wanted)
            sock.sendall(encode(Seeds(orders.seeds)) + encode(Orders(orders.generation, orders.vips)))
            told = text
        time.sleep(0.02)


if __name__ == "__main__":
    main()
