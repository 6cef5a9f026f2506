"""FRR mode: how long until the prefixes we want are in the RIB of the router behind FRR.

    python bench/frr.py [--prefixes 10000] [--classes 1] [--runs 3] [--compare]

Needs root, FRR and BIRD (`make setup`).  FRR's zebra, bgpd and bfdd and a BIRD are in network namespaces of
one machine; what is measured is the time from `apply` to the moment BIRD has counted the last prefix, asked
every 10 ms.  Beside it stands the processor time bgpd took, which other work on the machine does not change.
`--compare` adds the other ways there are to tell FRR the same: each `network` command awaited before the next
one, all of them by `vtysh -f`, and MetalLB's: a prefix-list line for each prefix and peer, of which FRR 8.4
takes a thousand in about 15 s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from bgp_lite.attributes import Path as RoutePath
from bgp_lite.prefix import Prefix
from speaker.frr.backend import FrrRouters
from speaker.frr.vty import Vty
from tests.bgp_lite.rig import Bird, Rig, rig
from tests.frr.rig import Speaker, apply, paths, peer, session, until

PATIENCE = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prefixes", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=1, help="different sets of attributes among them")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--compare", action="store_true", help="the other ways, too; takes minutes")
    given = parser.parse_args()
    for measure in (ours, others) if given.compare else (ours,):
        with tempfile.TemporaryDirectory() as workdir, rig(Path(workdir)) as lan:
            trio.run(measure, lan, given.prefixes, given.classes, given.runs)


def many(count: int, classes: int) -> dict[Prefix, RoutePath]:
    routes: dict[Prefix, RoutePath] = {}
    for number in range(count):
        text = f"203.{number >> 16}.{number >> 8 & 255}.{number & 255}/32"
        routes |= paths(text, path=RoutePath(communities=(65001 << 16 | number % classes,)))
    return routes


async def ours(lan: Rig, count: int, classes: int, runs: int) -> None:
    bird, us = Bird(lan, 1), Speaker(lan)
    routers, peers, wanted = FrrRouters(us.paths), [peer()], many(count, classes)
    one_more = wanted | paths("198.51.100.1/32")
    found: dict[str, list[float]] = {"announce": [], "one more": [], "one less": [], "withdraw": []}
    busy: dict[str, list[float]] = {what: [] for what in found}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(routers.run)
        apply(routers, peers, {})
        await until(lambda: session(routers).state == "Established")
        for _ in range(runs):
            for what, routes in zip(found, (wanted, one_more, wanted, {}), strict=True):
                started, used = time.perf_counter(), processor(us)
                apply(routers, peers, routes)
                await counted(bird, len(routes))
                found[what].append(time.perf_counter() - started)
                busy[what].append(processor(us) - used)
                await trio.sleep(1.5)  # FRR looks at its changed route-maps a second later; not our time
        nursery.cancel_scope.cancel()
    print(f"Crier, {count} prefixes in {classes} classes:")
    for what, seconds in found.items():
        spread = f"[{min(seconds):.3f} .. {max(seconds):.3f}]"
        cpu = statistics.median(busy[what])
        print(f"  {what:10} {statistics.median(seconds):7.3f} s  {spread}  bgpd: {cpu:.2f} s of processor")


def processor(us: Speaker) -> float:
    """Seconds of processor bgpd has used."""
    fields = Path(f"/proc/{us.processes['bgpd'].pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def counted(bird: Bird, count: int) -> None:
    with trio.fail_after(PATIENCE):
        while await trio.to_thread.run_sync(bird.count) != count:  # noqa: ASYNC110 - BIRD wakes nobody
            await trio.sleep(0.01)


async def others(lan: Rig, count: int, _classes: int, _runs: int) -> None:
    bird, us = Bird(lan, 1), Speaker(lan)
    into = ["configure terminal", "router bgp 65001", "address-family ipv4 unicast"]
    base = [*into[:2], "no bgp ebgp-requires-policy", "no bgp network import-check"]
    vty = await Vty.open(us.run_dir / "bgpd.vty")
    await vty.ask_many([*base, "neighbor 10.9.0.1 remote-as 65000", "neighbor 10.9.0.1 timers connect 1"])
    await until(lambda: "Established" in bird.ask("show protocols all peer"))
    prefixes = list(map(str, many(count, 1)))

    async def one_by_one() -> None:
        await vty.ask_many(["end", *into])
        for prefix in prefixes:
            await vty.ask(f"network {prefix}")

    await timed("network, each awaited", one_by_one, bird, count)
    await vty.ask_many([f"no network {prefix}" for prefix in prefixes])
    await counted(bird, 0)

    async def by_vtysh() -> None:
        await vtysh(us, lan, [*into[1:], *(f"network {prefix}" for prefix in prefixes)])

    await timed("network, vtysh -f", by_vtysh, bird, count)
    await vty.ask_many([f"no network {prefix}" for prefix in prefixes])
    await counted(bird, 0)
    few = prefixes[:1000]

    async def by_lists() -> None:
        lists = [f"ip prefix-list allowed seq {n} permit {prefix}" for n, prefix in enumerate(few, 1)]
        policy = ["route-map out permit 1", " match ip address prefix-list allowed", "exit"]
        told = [*into[1:], "neighbor 10.9.0.1 route-map out out", *(f"network {prefix}" for prefix in few)]
        await vtysh(us, lan, [*lists, *policy, *told])

    await timed("MetalLB's lists, vtysh -f", by_lists, bird, len(few))


async def vtysh(us: Speaker, lan: Rig, lines: Sequence[str]) -> None:
    file = lan.workdir / "lines.conf"
    file.write_text("\n".join(lines) + "\n")
    await trio.run_process(["vtysh", "-N", us.host, "-f", str(file)], stdout=subprocess.DEVNULL)


async def timed(what: str, do: Callable[[], Awaitable[None]], bird: Bird, count: int) -> None:
    started = time.perf_counter()
    await do()
    await counted(bird, count)
    print(f"{what}: {count} prefixes in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
