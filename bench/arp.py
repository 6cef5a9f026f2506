"""How many ARP questions one core answers in the speaker's frame handler, sockets left out.

    python bench/arp.py [--vips 1000] [--seconds 2]

A storm of questions from changing askers for all VIPs, and one of questions for other addresses, which is
what most broadcast traffic on a LAN is.  Processor time, so that a busy machine matters little.
"""

from __future__ import annotations

import argparse
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from speaker.reflex.l2 import arp
from speaker.reflex.l2.ethernet import BROADCAST
from speaker.reflex.l2.respond import Reply, Station, respond_arp

MAC = bytes.fromhex("02c71e070011")


def question(number: int, address: bytes) -> bytes:
    mac = b"\x02\xaa" + number.to_bytes(4, "big")
    sender = IPv4Address(0x0A010000 + number).packed
    asked = arp.Arp(BROADCAST, mac, arp.ETHERNET_IPV4, arp.Operation.REQUEST, mac, sender, bytes(6), address)
    return arp.encode(asked)


def rate(frames: list[bytes], station: Station, seconds: float, *, answered: bool) -> float:
    """Frames handled per second of processor time."""
    if any(isinstance(respond_arp(frame, station), Reply) is not answered for frame in frames):
        raise AssertionError("the handler does not do what is to be measured")
    done = 0
    began = time.process_time()
    while (took := time.process_time() - began) < seconds:
        for frame in frames:
            respond_arp(frame, station)
        done += len(frames)
    return done / took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vips", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    vips = [IPv4Address(0x0A400000 + number).packed for number in range(options.vips)]
    station = Station(
        MAC,
        arp={vip: arp.reply_middle(MAC, vip) for vip in vips},
        answered=frozenset(vips),
        watched=frozenset(vips),
        own_macs=frozenset((MAC,)),
    )
    ours = [question(number, vip) for number, vip in enumerate(vips)]
    others = [question(n, IPv4Address(0x0A800000 + n).packed) for n in range(options.vips)]
    print(f"{options.vips} VIPs, one core")
    print(f"{rate(ours, station, options.seconds, answered=True):10,.0f} answered a second")
    print(f"{rate(others, station, options.seconds, answered=False):10,.0f} for other addresses let go")


if __name__ == "__main__":
    main()
