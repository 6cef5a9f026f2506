"""Twenty speakers in one process, each from an address of its own: `python -m tests.bgp_lite.crowd ROUTER`.

Speaker `n` is 10.9.0.(96 + n), announces 198.51.(100 + n).0/24 and prints a line when it is established.
"""

from __future__ import annotations

import random
import sys

import trio

from bgp_lite.attributes import Path
from bgp_lite.config import PeerConfig
from bgp_lite.core import Changed, Session
from bgp_lite.driver import Driver
from bgp_lite.fsm import State
from bgp_lite.prefix import parse_prefix

COUNT = 20


def source(number: int) -> str:
    return f"10.9.0.{96 + number}"


def prefix(number: int) -> str:
    return f"198.51.{100 + number}.0/24"


def changed(change: Changed) -> None:
    if change.new is State.ESTABLISHED:
        print("up", flush=True)


async def main(router: str) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(COUNT):
            address = source(number)
            config = PeerConfig(peer=router, source=address, local_as=65001, peer_as=65000, router_id=address)
            session = Session(config, rng=random.Random(number))
            session.rib.announce(parse_prefix(prefix(number)), Path())
            nursery.start_soon(Driver(session, changed).run)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
