"""`bfd`: BFD sessions in a process of their own, their transitions on stdout.

A process with nothing else to do is never late: it lives on while what announces is restarted, and neither
waits for the other.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
from dataclasses import replace
from functools import partial

import trio

from bgp_lite.bfd.core import Changed, Profile
from bgp_lite.bfd.driver import Driver, Peer
from bgp_lite.cli.prompt import be_prompt
from bgp_lite.cli.report import Report


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("bfd", help="BFD with one or more peers; prints transitions")
    parser.add_argument("--peer", action="append", required=True, metavar="ADDR", help="repeatable")
    parser.add_argument("--source", metavar="ADDR")
    parser.add_argument("--device", metavar="NAME")
    parser.add_argument("--transmit", type=float, default=300, metavar="MS", help="10..60000 (300)")
    parser.add_argument("--receive", type=float, default=300, metavar="MS", help="10..60000 (300)")
    parser.add_argument("--multiplier", type=int, default=3, metavar="N", help="2..255 (3)")
    parser.add_argument("--multihop", action="store_true")
    parser.add_argument("--minimum-ttl", type=int, default=254, metavar="N", help="multihop: 1..254 (254)")
    parser.add_argument("--passive", action="store_true")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        profile = replace(
            Profile(),
            transmit_interval=arguments.transmit / 1000,
            receive_interval=arguments.receive / 1000,
            detect_multiplier=arguments.multiplier,
            minimum_ttl=arguments.minimum_ttl,
            passive=arguments.passive,
        )
    except ValueError as problem:
        print(f"bfd: {problem}", file=sys.stderr)
        return 2
    peers = [Peer(peer, arguments.source, arguments.device, arguments.multihop) for peer in arguments.peer]
    return trio.run(partial(_bfd, peers, profile, Report(as_json=arguments.json)))


async def _bfd(peers: list[Peer], profile: Profile, report: Report) -> int:
    driver = Driver(rng=random.SystemRandom())

    def changed(peer: Peer, change: Changed) -> None:
        report("bfd", peer=peer.address, old=change.old.name, new=change.new.name, why=change.diagnostic.name)

    async with trio.open_nursery() as nursery:
        try:
            sessions = [driver.add(peer, profile, partial(changed, peer)) for peer in peers]
        except (OSError, ValueError) as problem:
            print(f"bfd: {problem}", file=sys.stderr)
            return 1
        await nursery.start(driver.run)
        be_prompt()  # sessions make no cycles: what they drop is freed at once
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        for running in sessions:
            driver.say_goodbye(running)
        sent, received = sum(each.sent for each in sessions), sum(each.received for each in sessions)
        report("stopped", sent=sent, received=received, dropped=driver.dropped)
        nursery.cancel_scope.cancel()
    return 0
