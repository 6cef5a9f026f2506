"""Our member beside hashicorp/memberlist v0.5.1 (MetalLB's), both with LAN defaults, on loopback, in one run.

    python bench/memberlist_peers.py [--trials 3] [--members 21] [--seconds 30] [--large-trials 0]
    python bench/memberlist_peers.py --members 100 [--all-processes --large-trials 2]

A crash is a SIGKILL at a random moment, noticed when the last survivor has noticed.  Processor time is what
the kernel counted for one process; the others of its cluster run beside it.  All packets are encrypted.

More than 50 members are not as many processes: ours, watching, is then one process beside a crowd of light
members in one other process (`bench/memberlist_crowd.py`), and the other kinds are left out of that row.
With `--all-processes` they are processes all the same: 20 MiB and, watching, a fiftieth of a core each.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.interop.gobuild import CannotBuildError, go_peer
from tests.interop.peer import PYTHON_PEER, ROOT, Peer

PORT: Final = 17947
ALL_IN_SECONDS: Final = 60.0
"""Plus as many for each further `MAX_PROCESSES` members."""
AT_A_TIME: Final = 8
"""Processes that start together; more only wait for the processor."""
NOTICED_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 3.0
SMALL: Final = 3
MAX_PROCESSES: Final = 50
KEY: Final = bytes(range(32)).hex()
"""No secret: it is there so that encrypting is measured too."""


@dataclass
class Contender:
    """One kind of member and what was measured of it."""

    title: str
    command: Sequence[str]
    block: int
    start: dict[str, Any] = field(default_factory=dict)
    unreachable: list[float] = field(default_factory=list)
    dead: list[float] = field(default_factory=list)
    busy: dict[int, float] = field(default_factory=dict)
    memory: dict[int, tuple[int, int]] = field(default_factory=dict)
    large: list[float] = field(default_factory=list)
    """Crash to unreachable, or to dead without watchers, in the large cluster."""


@asynccontextmanager
async def open_cluster(contender: Contender, members: int) -> AsyncIterator[list[Peer]]:
    """That many members that all know one another; killed at the end."""
    async with trio.open_nursery() as nursery:
        peers: list[Peer] = []
        try:
            for number in range(1, members + 1):
                host = f"127.{contender.block}.{members}.{number}"
                peers.append(Peer(f"member-{number:02}", host, PORT, contender.command))
            await begin(peers[0], contender, nursery, peers[0])
            limit = trio.CapacityLimiter(AT_A_TIME)
            async with trio.open_nursery() as starting:
                for peer in peers[1:]:
                    starting.start_soon(begin_in_turn, limit, peer, contender, nursery, peers[0])
            for peer in peers:
                await sees_all(peer, len(peers))
            yield peers
        finally:
            for peer in peers:
                peer.kill()
        nursery.cancel_scope.cancel()


async def begin(peer: Peer, contender: Contender, nursery: trio.Nursery, known: Peer) -> None:
    await peer.open(nursery)
    settings = {"Name": peer.name, "BindAddr": peer.host, "BindPort": PORT}
    await peer.call("start", bare=True, secret_key=KEY, **{**contender.start, "settings": settings})
    if peer is not known:
        await peer.call("join", addresses=[known.address])


async def begin_in_turn(
    limit: trio.CapacityLimiter, peer: Peer, contender: Contender, nursery: trio.Nursery, known: Peer
) -> None:
    async with limit:
        await begin(peer, contender, nursery, known)


async def sees_all(peer: Peer, members: int) -> None:
    with trio.fail_after(ALL_IN_SECONDS * (1 + members // MAX_PROCESSES)):
        while len(await peer.call("members")) < members:  # noqa: ASYNC110 (bare members tell no more than this)
            await trio.sleep(0.1)


async def measure_small(contender: Contender, trials: int, seconds: float) -> None:
    """Three members: idle first, then crash after crash."""
    async with trio.open_nursery() as nursery, open_cluster(contender, SMALL) as peers:
        await measure_idle(contender, peers, seconds)
        for _ in range(trials):
            await measure_crash(contender, peers, nursery)
        nursery.cancel_scope.cancel()


async def measure_large(contender: Contender, members: int, seconds: float, trials: int) -> None:
    async with trio.open_nursery() as nursery, open_cluster(contender, members) as peers:
        await measure_idle(contender, peers, seconds)
        before = len(contender.unreachable), len(contender.dead)
        for _ in range(trials):
            await measure_crash(contender, peers, nursery)
        watching = bool(contender.start.get("watch"))
        contender.large = contender.unreachable[before[0] :] if watching else contender.dead[before[1] :]
        del contender.unreachable[before[0] :], contender.dead[before[1] :]
        nursery.cancel_scope.cancel()


async def measure_in_crowd(contender: Contender, members: int, seconds: float) -> None:
    """One process of ours beside light members, all of them in one other process."""
    name, host = "member-00", f"127.{contender.block}.255.1"
    command = [sys.executable, "-m", "bench.memberlist_crowd", "--around", name, "--key", KEY]
    command += ["--size", str(members - 1), "--block", str(contender.block), "--port", str(PORT)]
    crowd = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    peer = Peer(name, host, PORT, contender.command)
    try:
        assert crowd.stdout is not None
        with trio.fail_after(4 * ALL_IN_SECONDS):
            await crowd.stdout.receive_some()
        async with trio.open_nursery() as nursery:
            light = Peer("light-001", f"127.{contender.block}.0.1", PORT, ())
            await begin(peer, contender, nursery, light)
            await sees_all(peer, members)
            await measure_idle(contender, [peer], seconds, members)
            nursery.cancel_scope.cancel()
    finally:
        peer.kill()
        crowd.kill()


async def measure_idle(
    contender: Contender, peers: Sequence[Peer], seconds: float, members: int | None = None
) -> None:
    await trio.sleep(SETTLE_SECONDS)
    subject, members = peers[-1].pid, members or len(peers)
    began, used = time.monotonic(), processor_seconds(subject)
    await trio.sleep(seconds)
    share = (processor_seconds(subject) - used) / (time.monotonic() - began)
    contender.busy[members] = share
    contender.memory[members] = (resident(subject, "Rss"), resident(subject, "Pss"))


async def measure_crash(contender: Contender, peers: Sequence[Peer], nursery: trio.Nursery) -> None:
    # Not the member whose turn it is to probe, nor always the same place in the probe interval.
    await trio.sleep(1 + random.random())
    victim, *survivors = random.sample(peers, len(peers))
    marks = {peer.name: peer.mark() for peer in survivors}
    crashed_at = time.time()
    victim.kill()
    for kind, found in (("leave", contender.dead), ("unreachable", contender.unreachable)):
        if kind == "unreachable" and not contender.start.get("watch"):
            continue
        events = [
            await peer.expect(kind, about=victim.name, since=marks[peer.name], within=NOTICED_SECONDS)
            for peer in survivors
        ]
        found.append(max(event["at"] for event in events) - crashed_at)
    await victim.wait_gone()
    await begin(victim, contender, nursery, survivors[0])
    for peer in peers:
        await sees_all(peer, len(peers))


def processor_seconds(pid: int) -> float:
    """User and system time of all threads, in nanosecond steps; those that ended before are not in it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident(pid: int, kind: str) -> int:
    """KiB of memory: Rss as mapped, Pss with what is shared divided among those who share it."""
    found = re.search(rf"^{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def spread(times: Sequence[float]) -> str:
    if not times:
        return "-"
    if len(times) == 1:
        return f"{times[0]:.2f} s"
    return f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"


def show(contenders: Sequence[Contender], trials: int, members: int) -> None:
    def crash_row(name: str) -> list[str]:
        return [spread(getattr(contender, name)) for contender in contenders]

    def busy_row(size: int) -> list[str]:
        shares = [contender.busy.get(size) for contender in contenders]
        return ["-" if share is None else f"{share:.2%} of a core" for share in shares]

    def memory_row(size: int) -> list[str]:
        sizes = [contender.memory.get(size) for contender in contenders]
        return ["-" if one is None else f"{one[0] / 1024:.1f} MiB ({one[1] / 1024:.1f})" for one in sizes]

    rows = [
        ("", [contender.title for contender in contenders]),
        (f"crash to unreachable, {SMALL} members", crash_row("unreachable")),
        (f"crash to dead, {SMALL} members", crash_row("dead")),
        (f"crash to noticed, {members} members", crash_row("large")),
        (f"idle, {SMALL} members", busy_row(SMALL)),
        (f"idle, {members} members", busy_row(members)),
        (f"Rss (Pss), {SMALL} members", memory_row(SMALL)),
        (f"Rss (Pss), {members} members", memory_row(members)),
    ]
    print(f"crash: median (least to most) of {trials}, last of the survivors")
    for title, cells in rows:
        print(f"{title:<34}" + "".join(f"{cell:<26}" for cell in cells).rstrip())


async def run(
    contenders: Sequence[Contender],
    trials: int,
    members: int,
    seconds: float,
    large_trials: int,
    *,
    all_processes: bool,
) -> None:
    # The small clusters together load a fraction of one core; the large ones go one after the other.
    print(f"{SMALL} members each: idle, then {trials} crashes", flush=True)
    async with trio.open_nursery() as nursery:
        for contender in contenders:
            nursery.start_soon(measure_small, contender, trials, seconds)
    for contender in contenders:
        print(f"{members} members, {contender.title}", flush=True)
        if members <= MAX_PROCESSES or all_processes:
            await measure_large(contender, members, seconds, large_trials)
        elif contender.start.get("watch"):
            await measure_in_crowd(contender, members, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=3, help="crashes of each kind (default 3)")
    parser.add_argument("--members", type=int, default=21, help="members of the large cluster (default 21)")
    parser.add_argument("--seconds", type=float, default=30, help="of idling to measure (default 30)")
    parser.add_argument(
        "--large-trials", type=int, default=0, help="crashes in the large cluster (default 0)"
    )
    parser.add_argument(
        "--all-processes", action="store_true", help=f"also more than {MAX_PROCESSES} members are processes"
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="only members whose title has this in it")
    arguments = parser.parse_args()

    block = random.randrange(16, 200)
    contenders = [
        Contender("ours, watching", PYTHON_PEER, block, {"watch": True}),
        Contender("ours, plain SWIM", PYTHON_PEER, block + 1),
    ]
    try:
        program = go_peer("0.5.1", lambda line: print(line, flush=True))
    except CannotBuildError as missing:
        print(f"without the Go library: {missing}")
    else:
        contenders.append(Contender("Go memberlist v0.5.1", [str(program)], block + 2))
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} processors, load {load:.1f}, Python {platform.python_version()}, {compiler()}")
    began = time.monotonic()
    contenders = [one for one in contenders if arguments.only in one.title]
    work = partial(run, all_processes=arguments.all_processes)
    trio.run(work, contenders, arguments.trials, arguments.members, arguments.seconds, arguments.large_trials)
    show(contenders, arguments.trials, arguments.members)
    for contender in contenders:
        command = " ".join(map(str, contender.command))
        print(f"{contender.title}: {command}  start: {contender.start or 'defaults'}")
    print(f"all of it in {time.monotonic() - began:.0f} s")


def compiler() -> str:
    try:
        return subprocess.run(["go", "version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "no Go"


if __name__ == "__main__":
    main()
