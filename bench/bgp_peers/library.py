"""A child of bench/bgp.py: one process with `bgp_lite` as a library, driven by lines on stdin.

prepare N      have N /32 ready              -> "ready"
go             want them, all at once        -> "written UPDATES" when all is handed to the kernel
withdraw       want none                     -> the same
memory         -> "memory KIB-WITHOUT KIB-NOW": after trio was imported, and now
"""

from __future__ import annotations

import os
import random
import sys
from functools import partial
from pathlib import Path as FilePath

import trio


def rss() -> int:
    status = FilePath("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


async def main(peers: list[str], source: str, with_bfd: bool) -> None:
    bare = rss()
    from bgp_lite.attributes import Path
    from bgp_lite.bfd.core import Profile
    from bgp_lite.bfd.driver import Driver as BfdDriver
    from bgp_lite.bfd.driver import Peer as BfdPeer
    from bgp_lite.config import PeerConfig
    from bgp_lite.core import Session
    from bgp_lite.driver import Driver
    from bgp_lite.prefix import Family, Prefix

    def say(text: str) -> None:
        print(text, flush=True)

    def synced(session: Session) -> None:
        say(f"written {session.counters.updates_sent}")

    drivers = []
    rng = random.SystemRandom()
    for peer in peers:
        config = PeerConfig(
            peer=peer, source=source, local_as=65001, peer_as=65000, router_id=source, restart_time=120
        )
        session = Session(config, rng=rng)
        drivers.append(Driver(session, lambda _: None, partial(synced, session)))
    async with trio.open_nursery() as nursery:
        if with_bfd:
            bfd = BfdDriver(rng=rng)
            await nursery.start(bfd.run)
            profile = Profile(transmit_interval=0.05, receive_interval=0.05)
            for peer in peers:
                bfd.add(BfdPeer(peer, source), profile, lambda _: None)
        for driver in drivers:
            nursery.start_soon(driver.run)
        wanted: dict[Prefix, Path] = {}
        rest = b""
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            async for data in stdin:
                *lines, rest = (rest + bytes(data)).split(b"\n")
                for line in lines:
                    match line.decode().split():
                        case ["prepare", count]:
                            path = Path()
                            octets = ((0x0A400000 + n).to_bytes(4, "big") for n in range(int(count)))
                            wanted = {Prefix(Family.IPV4, b"\x20" + each): path for each in octets}
                            say("ready")
                        case ["go" | "withdraw" as what]:
                            for driver in drivers:
                                driver.session.rib.replace(wanted if what == "go" else {})
                                driver.poke()
                            wanted = {}
                        case ["memory"]:
                            say(f"memory {bare} {rss()}")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[2].split(","), sys.argv[1], "bfd" in sys.argv[3:])
