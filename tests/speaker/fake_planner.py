"""A planner for tests: sends the orders in a file whenever it changes, appends what comes up to another.

    python fake_planner.py ORDERS REPORTS

ORDERS is JSON: {"generation": 1, "vips": [{...}], "seeds": [...]}; with "misbehave" it also does that, once:
"garbage", "flood" or "deaf" (it reads no more).  REPORTS gets one JSON object per message.
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
    misbehave: str = ""


DEAF = threading.Event()


def misbehave(sock: socket.socket, how: str, orders: Orders) -> None:
    if how == "garbage":
        sock.sendall(b"\0\0\0\5hello")
    elif how == "flood":
        frame = encode(orders)
        while True:
            sock.sendall(frame)
    elif how == "deaf":
        DEAF.set()


def listen(sock: socket.socket, reports: Path) -> None:
    with sock.makefile("rb") as stream, reports.open("ab", buffering=0) as out:
        while header := stream.read(HEADER):
            while DEAF.is_set():
                time.sleep(3600)
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
            said = msgspec.json.decode(text, type=Wanted)
            orders = Orders(said.generation, said.vips)
            sock.sendall(encode(Seeds(said.seeds)) + encode(orders))
            told = text
            misbehave(sock, said.misbehave, orders)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
