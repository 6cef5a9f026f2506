"""`bgp_lite` beside ExaBGP, GoBGP and MetalLB's native session, in one run, against the real BIRD and FRR.

    python bench/bgp.py [--runs 5] [--crashes 20] [--urgent] [--zebra-hold 0] [--parts tables memory crashes]
                           [--only NAME] [--hogs MINUTES]

Each speaker has a host (a network namespace) and one eBGP session to BIRD, over one bridge; both share the
processors of this machine.  A row's time begins with the trigger (the wanted set given, the lines written)
and ends when BIRD counts all routes as imported.  Octets are what the speaker's interface sent, headers
included.  Medians, with the least and the most.

A crash: the node's process is stopped where it stands, its TCP connection stays, and FRR's kernel says when
the route is gone (BFD 50 ms x 3, hold time 90 s).  `--hogs`: four busy processes beside
`python -m bgp_lite bfd` and `announce --bfd`, and how often either end saw the session down; FRR's at
real-time priority.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.bgp_peers.build import NotPossible
from bench.bgp_peers.contenders import CONTENDERS, SOURCE, Contender
from crier.lab import runs
from crier.lab.router import Bird as LabBird
from tests.bgp_lite.rig import Announcer, Bird, Frr, Rig, eventually, rig
from tests.routed.stage import AllProcesses, Stage

BIRD: Final = "10.9.0.4"
MANY, MOST = 10_000, 100_000
LONGEST: Final = 60.0
"""Seconds a speaker may take for a row."""
SAME: Final = 0.5
"""Seconds; BIRD turns its clock into the time of day anew each time it is asked."""
POLL: Final = 0.001
PARTS: Final = ("tables", "memory", "crashes")
SETTLE: Final = 8.0
"""Seconds from the last change of a speaker until its memory is looked at."""
SERVED: Final = "203.0.113.9"


def frr_peer(address: str, asn: int) -> str:
    return f""" neighbor {address} remote-as {asn}
 neighbor {address} timers 30 90
 neighbor {address} timers connect 1
 neighbor {address} bfd
 neighbor {address} bfd profile fast
 address-family ipv4 unicast
  neighbor {address} activate
 exit-address-family
"""


class Control:
    """BIRD's control socket, kept open: a question costs it next to nothing."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(10)
        self._sock.connect(str(path))
        self._stream = self._sock.makefile("rb")
        self._stream.readline()

    def ask(self, command: str) -> str:
        self._sock.sendall(f"{command}\n".encode())
        text = b""
        for line in self._stream:
            text += line
            if re.match(rb"(0\d|8\d|9\d)\d\d ", line):
                break
        return text.decode()

    def imported(self) -> int:
        found = re.search(r"Routes: +(\d+) imported", self.ask("show protocols all peer"))
        return int(found[1]) if found else 0

    def established(self) -> bool:
        return "Established" in self.ask("show protocols peer")

    def since(self) -> float:
        """When the session began, by the time of day; nothing comparable when there is none."""
        found = re.search(r"(\d+):(\d+):(\d+\.\d+)  Established", self.ask("show protocols peer"))
        return float(found[1]) * 3600 + float(found[2]) * 60 + float(found[3]) if found else float("inf")

    def close(self) -> None:
        self._stream.close()
        self._sock.close()


@dataclass
class Row:
    announce: list[float] = field(default_factory=list)
    withdraw: list[float] = field(default_factory=list)
    octets: list[int] = field(default_factory=list)
    updates: list[int] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    resets: int = 0

    def __str__(self) -> str:
        times = f"{spread(self.announce):24}{spread(self.withdraw):24}"
        if not self.withdraw:
            return f"{times}(not waited for any longer)"
        sizes = f"{max(self.octets) / 1000:<9.1f}{max(self.memory) / 1024:<9.1f}"
        session = f"{self.resets} resets" if self.resets else "stays"
        return f"{times}{max(self.updates, default='-'):<10}{sizes}{session}"


def until(control: Control, count: int, began: float) -> float:
    while control.imported() != count:
        if time.monotonic() - began > LONGEST:
            return float("inf")
        time.sleep(POLL)
    return time.monotonic() - began


def sent(host: str) -> int:
    shown = subprocess.run(
        ["ip", "-j", "-s", "-n", host, "link", "show", "eth0"], check=True, capture_output=True, text=True
    )
    return int(json.loads(shown.stdout)[0]["stats64"]["tx"]["bytes"])


def status(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(name)).split()[1])


@contextmanager
def speaking(kind: type[Contender], lan: Rig, host: str, control: Control) -> Iterator[Contender]:
    speaker = kind(lan, host, BIRD)
    try:
        eventually(control.established, within=180)  # some take their time to start
        time.sleep(0.3)  # its end-of-RIB
        yield speaker
    finally:
        speaker.stop()
        eventually(lambda: not control.established() and control.imported() == 0, within=30)


def one_run(lan: Rig, host: str, control: Control, kind: type[Contender], count: int, row: Row) -> None:
    with speaking(kind, lan, host, control) as speaker:
        told = speaker.updates()
        speaker.prepare(count)
        before, session = sent(host), control.since()
        began = time.monotonic()
        speaker.go()
        row.announce.append(until(control, count, began))
        if row.announce[-1] > LONGEST:
            return  # it is still at it, so the rest would not be its figures
        time.sleep(0.2)
        row.octets.append(sent(host) - before)
        if told is not None:
            row.updates.append((speaker.updates() or 0) - told)
        row.memory.append(status(speaker.speaker, "VmHWM"))
        began = time.monotonic()
        speaker.withdraw()
        row.withdraw.append(until(control, 0, began))
        time.sleep(0.2)
        row.resets += abs(control.since() - session) > SAME


def spread(values: list[float], unit: float = 1.0, digits: int = 3) -> str:
    if not values:
        return "-"
    if max(values) == float("inf"):
        return f"more than {LONGEST:g}"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle / unit:.{digits}f} [{low / unit:.{digits}f}-{high / unit:.{digits}f}]"


def tables(lan: Rig, options: argparse.Namespace) -> None:
    host = lan.host(2)
    bird = Bird(lan, 4, fib=False)
    control = Control(bird.control)
    titles = (("speaker", 24), ("announced, s", 24), ("withdrawn, s", 24), ("messages", 10), ("kB sent", 9))
    head = "".join(f"{title:{width}}" for title, width in (*titles, ("RSS, MB", 9), ("session", 0)))
    for count in (MANY, MOST):
        print(f"\n{count:,} /32 to BIRD, session up\n{head}")
        for name, kind in CONTENDERS.items():
            if options.only and options.only not in name:
                continue
            row = Row()
            # What takes half a minute a time is not measured more often than it needs to be believed.
            runs = options.runs if count == MANY or name.startswith("bgp_lite") else 1
            try:
                for _ in range(runs):
                    one_run(lan, host, control, kind, count, row)
                    if row.announce[-1] > LONGEST:
                        break
            except NotPossible as problem:
                print(f"{name:24}not measured: {problem}")
                continue
            except AssertionError as problem:
                print(f"{name:24}stopped: {problem}")
            print(f"{name:24}{row}", flush=True)
    control.close()
    bird.process.terminate()
    bird.process.wait()


def memory(lan: Rig, host: str) -> None:
    """One process with sessions and BFD to four routers, beside one that has only imported trio."""
    others = [f"10.9.0.{number}" for number in range(11, 15)]
    birds = [Bird(lan, number, extra="bfd on;", fib=False) for number in range(11, 15)]
    child = _child(lan, host, others)
    try:
        eventually(lambda: all("Established" in b.ask("show protocols peer") for b in birds), within=30)
        eventually(lambda: all("Up" in b.ask("show bfd sessions") for b in birds), within=30)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"memory\n")
        child.stdin.flush()
        words = next(line.split() for line in child.stdout if line.startswith(b"memory"))
        bare, now = int(words[1]) / 1024, int(words[2]) / 1024
        print(
            f"\nmemory: {now - bare:.1f} MB for BGP and BFD with 4 routers, all of the process {now:.1f} MB"
        )
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


def speaker_memory() -> None:
    """The real speaker of a node, before it has a peer and with sessions and BFD to four routers."""
    run = runs.create()
    try:
        stage = Stage(run, AllProcesses(run), nodes=2)
        node = next(iter(stage.lan.nodes))
        homes, first = run.directory / "routers", 122
        more = [
            LabBird(stage.lan, stage.processes, homes, f"bird-{n}", n, 65000 + n) for n in (first, first + 1)
        ]
        for each in more:
            each.start(stage.neighbours())
        routers = {router.host.name: router for router in (*stage.routers, *more)}
        stage.service("web", "198.51.100.1")
        stage.make("BGPAdvertisement", "ad")
        stage.make("BFDProfile", "fast", receiveInterval=50, transmitInterval=50, detectMultiplier=3)
        time.sleep(SETTLE)
        bare = pss(stage, node)
        for name, router in routers.items():
            stage.make(
                "BGPPeer", name, **stage.towards(router, bfdProfile="fast", enableGracefulRestart=True)
            )
        eventually(
            lambda: [stage.session(node, name).get("bfd") for name in routers] == ["Up"] * len(routers)
        )
        eventually(lambda: all(stage.session(node, name)["state"] == "Established" for name in routers))
        time.sleep(SETTLE)
        now = pss(stage, node)
        print("\nmemory of a speaker, PSS in MB: without a peer, and with 4, BGP and BFD up")
        for part, before, after in zip(("reflex", "planner"), bare, now, strict=True):
            print(f"  {part:10}{before:6.1f}{after:6.1f}")
        print(f"  {'both':10}{sum(bare):6.1f}{sum(now):6.1f}")
    finally:
        run.remove()


def pss(stage: Stage, node: str) -> list[float]:
    """Of a speaker's two processes, MB."""
    says = stage.document(node)
    found = []
    for part in ("reflex", "planner"):
        text = Path(f"/proc/{says[part]['pid']}/smaps_rollup").read_text()
        found.append(
            int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) / 1024
        )
    return found


def _child(lan: Rig, host: str, routers: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.bgp_peers.library", SOURCE, ",".join(routers), "bfd"]
    where = Path(__file__).parents[1]
    return lan.spawn(host, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=where)


class FibMonitor:
    """When the kernel of a router lost a route, by its own clock."""

    def __init__(self, lan: Rig, host: str) -> None:
        self._output = lan.workdir / "fib.txt"
        with self._output.open("wb") as file:
            # It tells the time when it comes to read, so it must not wait for a processor.
            command = ["chrt", "-f", "30", "ip", "-ts", "monitor", "route"]
            self.process = lan.spawn(host, command, stdout=file)

    def lost(self, net: str, after: float) -> float | None:
        """Seconds after a wall-clock time."""
        for line in self._output.read_text().splitlines():
            found = re.match(r"\[(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+\.\d+)\] Deleted (\S+)", line)
            if found and found[7] == net:
                *date, seconds = found.groups()[:6]
                text = "-".join(date[:3]) + " " + ":".join(date[3:])
                at = time.mktime(time.strptime(text, "%Y-%m-%d %H:%M")) + float(seconds)
                if at >= after:
                    return at - after
        return None


class Heard:
    """When bgpd of a router heard from its bfdd that a node is gone, by its log."""

    def __init__(self, router: Frr) -> None:
        self._log = Path("/var/run/frr") / router.host / "heard.log"  # where FRR's user may write
        router.do("configure terminal", f"log file {self._log} informational", "log timestamp precision 6")

    def down(self, node: str, after: float) -> float:
        """Seconds after a wall-clock time."""
        said = rf"NOTIFICATION.*: sent to neighbor {re.escape(node)} .*BFD Down"
        pattern = rf"(\S+ \S+)\.(\d+) BGP: .*{said}"
        for found in re.finditer(pattern, self._log.read_text()):
            at = time.mktime(time.strptime(found[1], "%Y/%m/%d %H:%M:%S")) + float(f"0.{found[2]}")
            if at >= after:
                return at - after
        raise LookupError(f"bgpd has not heard of {node}")


def crashes(lan: Rig, host: str, options: argparse.Namespace) -> None:
    """Of a node with our announcer, and of one that runs FRR; the router is another FRR."""
    peers = frr_peer(SOURCE, 65001) + frr_peer("10.9.0.5", 65005)
    router = Frr(lan, 3, peers=peers, urgent=options.urgent)
    count = options.crashes
    how = ", the router's daemons at real-time priority" if options.urgent else ""
    if options.zebra_hold is not None:
        router.do("configure terminal", f"zebra work-queue {options.zebra_hold}")
        how += f", its zebra lets changes gather for {options.zebra_hold} ms"
    print(f"\ncrash of the node -> out of FRR's FIB, BFD 50x3, {count} times{how}, ms")
    words = ["--peer", "10.9.0.3", "--source", SOURCE, "--hold", "90", "--bfd", "50x3", "--connect-time", "1"]
    announcer = Announcer(lan, host, *words)
    announcer.say(f"+ {SERVED}")
    one_crash_after_another("bgp_lite", lan, router, SOURCE, [announcer.process], count)
    network = (
        " no bgp network import-check\n address-family ipv4 unicast\n"
        f"  network {SERVED}/32\n exit-address-family\n"
    )
    node = Frr(lan, 5, peers=frr_peer("10.9.0.3", 65000) + network, asn=65005)
    one_crash_after_another("FRR's bgpd and bfdd", lan, router, "10.9.0.5", [*node.processes.values()], count)
    for process in (*router.processes.values(), *node.processes.values()):
        process.terminate()
        process.wait()


def one_crash_after_another(
    name: str, lan: Rig, router: Frr, node: str, processes: list[subprocess.Popen[bytes]], count: int
) -> None:
    """Its processes stop where they stand, and go on once the route is gone; killed in the end."""
    took: list[float] = []
    missed: list[float] = []
    monitor, heard = FibMonitor(lan, router.host), Heard(router)

    def watched() -> bool:
        return (node, "up") in ((peer["peer"], peer["status"]) for peer in router.ask("show bfd peers"))

    for _ in range(count):
        eventually(lambda: SERVED in lan.routes(router.host), within=60)
        eventually(watched, within=60)
        time.sleep(0.6 + os.urandom(1)[0] / 2560)  # both ends at full speed, and no common beat
        began = time.time()
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        took.append(eventually(partial(monitor.lost, SERVED, began), within=30))
        missed.append(heard.down(node, began))
        for process in processes:
            process.send_signal(signal.SIGCONT)
    for process in processes:
        process.kill()
        process.wait()
    eventually(lambda: SERVED not in lan.routes(router.host), within=120)
    print(f"  {name:24}{delays(took)}; load {os.getloadavg()[0]:.1f}", flush=True)
    print(f"  {'  bgpd hears of it':24}{delays(missed)}")
    after = [whole - part for whole, part in zip(took, missed, strict=True)]
    print(f"  {'  from then on':24}{delays(after)}")


def delays(seconds: list[float]) -> str:
    p99 = sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]
    shown = (("median", statistics.median(seconds)), ("p99", p99), ("most", max(seconds)))
    return ", ".join(f"{name} {1000 * value:.0f}" for name, value in shown)


def hogs(lan: Rig, minutes: float) -> None:
    """BFD by itself, and in the process that announces, beside four who are always busy."""
    alone, beside = lan.host(2), lan.host(6)
    # it is our end that is to bear the hogs
    frr = Frr(lan, 3, peers=frr_peer(SOURCE, 65001) + frr_peer("10.9.0.6", 65001), urgent=True)
    output = lan.workdir / "bfd.json"
    command = [sys.executable, "-m", "bgp_lite", "bfd", "--json", "--peer", "10.9.0.3", "--source", SOURCE]
    with output.open("wb") as file:
        lan.spawn(alone, [*command, "--transmit", "50", "--receive", "50"], stdout=file)
    words = ["--peer", "10.9.0.3", "--source", "10.9.0.6", "--bfd", "50x3", "--connect-time", "1"]
    announcer = Announcer(lan, beside, *words)

    def watched() -> set[tuple[str, str]]:
        return {(peer["peer"], peer["status"]) for peer in frr.ask("show bfd peers")}

    eventually(lambda: watched() == {(SOURCE, "up"), ("10.9.0.6", "up")}, within=60)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        time.sleep(minutes * 60)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    events = [json.loads(line) for line in output.read_text().splitlines()]
    theirs = {each["peer"]: each["session-down"] for each in frr.ask("show bfd peers counters")}
    print(f"\n4 hogs on {os.cpu_count()} cores for {minutes:g} min, BFD 50x3; load {os.getloadavg()[0]:.1f}")
    for name, said, address in (("bfd", events, SOURCE), ("announce", announcer.events, "10.9.0.6")):
        downs = sum(event["event"] == "bfd" and event["old"] == "UP" for event in said)
        print(f"  bgp_lite {name}: down {downs} times here, {theirs[address]} at FRR")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--crashes", type=int, default=20)
    parser.add_argument(
        "--zebra-hold", type=int, metavar="MS", help="how long the router's zebra lets changes gather (10)"
    )
    parser.add_argument("--urgent", action="store_true", help="the router's daemons at real-time priority")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--only", metavar="NAME", help="speakers whose name has this in it")
    parser.add_argument("--hogs", type=float, default=0.0, metavar="MINUTES", help="only this (0: not)")
    options = parser.parse_args()
    bird = subprocess.run(["bird", "--version"], capture_output=True, text=True, check=False)
    machine = f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    print(f"{bird.stderr.strip() or bird.stdout.strip()}; {machine}")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        if options.hogs:
            with rig(work) as lan:
                hogs(lan, options.hogs)
            return
        if "tables" in options.parts:
            with rig(work) as lan:
                tables(lan, options)
        if "memory" in options.parts:
            with rig(work) as lan:
                memory(lan, lan.host(2))
            speaker_memory()
        if "crashes" in options.parts:
            with rig(work) as lan:
                crashes(lan, lan.host(2), options)


if __name__ == "__main__":
    main()
