"""Real routers in network namespaces of their own: FRR, BIRD and GoBGP from Debian, one bridge between them.

Everything is bounded, and gone when the `with` block ends, however it ends.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

_numbers = itertools.count()
FRR_DAEMONS = Path("/usr/lib/frr")


def need(*programs: str) -> None:
    """Say plainly what is missing; `make setup` installs it."""
    where = f"{os.environ['PATH']}:/usr/sbin:/sbin:{FRR_DAEMONS}"
    missing = [program for program in programs if shutil.which(program, path=where) is None]
    if missing or os.geteuid() != 0:
        pytest.fail(f"needs root and {', '.join(missing) or 'no more'}: `make setup` as root installs it")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def eventually(what: Callable[[], Any], *, within: float = 30.0) -> Any:
    """Wait until `what()` is true; bounded, for there is a real router at the other end."""
    until = time.monotonic() + within
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < until, f"not within {within} s; last seen: {value!r}"
        time.sleep(0.02)


class Rig:
    """A switch and hosts: host `n` is 10.9.0.n and fd09::n on eth0."""

    def __init__(self, stack: ExitStack, workdir: Path) -> None:
        self._stack, self.workdir = stack, workdir
        self._id = f"bgpt{os.getpid()}x{next(_numbers)}"
        self.switch = f"{self._id}sw"
        self._add(self.switch)
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "br0", "up")

    def _add(self, name: str) -> None:
        ip("netns", "add", name)
        self._stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False, capture_output=True)
        for knob in ("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"):
            subprocess.run(["ip", "netns", "exec", name, "sysctl", "-qw", knob], check=True)
        ip("-n", name, "link", "set", "lo", "up")

    def host(self, number: int) -> str:
        name = f"{self._id}h{number}"
        self._add(name)
        port = f"v{number}"
        ip("link", "add", port, "netns", self.switch, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", self.switch, "link", "set", port, "master", "br0", "up")
        ip("-n", name, "addr", "add", f"10.9.0.{number}/24", "dev", "eth0")
        ip("-n", name, "addr", "add", f"fd09::{number}/64", "dev", "eth0", "nodad")
        ip("-n", name, "link", "set", "eth0", "up")
        return name

    def link(self, one: str, other: str, device: str = "eth1") -> None:
        """A cable between two hosts, with nothing but link-local addresses."""
        ip("link", "add", device, "netns", one, "type", "veth", "peer", "name", device, "netns", other)
        for name in (one, other):
            ip("-n", name, "link", "set", device, "up")

    def callback(self, clean_up: Callable[[], object]) -> None:
        self._stack.callback(clean_up)

    def spawn(self, host: str, command: Sequence[str], **how: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["ip", "netns", "exec", host, *command], **how)
        self._stack.callback(_end, process)
        return process

    def routes(self, host: str, *, six: bool = False) -> str:
        family = "-6" if six else "-4"
        shown = subprocess.run(
            ["ip", family, "-n", host, "route"], check=True, capture_output=True, text=True
        )
        return shown.stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(2)


@contextmanager
def rig(workdir: Path) -> Iterator[Rig]:
    need("ip", "sysctl")
    with ExitStack() as stack:
        yield Rig(stack, workdir)


class Bird:
    """BIRD 2 at host `number`, AS 65000, passive towards 10.9.0.2 and fd09::2."""

    def __init__(
        self,
        rig: Rig,
        number: int,
        *,
        peer: str = "10.9.0.2",
        extra: str = "",
        local_as: int = 65000,
        fib: bool = True,
        more: str = "",
    ) -> None:
        need("bird")
        self.host = rig.host(number)
        self.control = rig.workdir / f"bird{number}.ctl"
        config = rig.workdir / f"bird{number}.conf"
        local = f"fd09::{number}" if ":" in peer else f"10.9.0.{number}"
        kernel = "".join(
            f"protocol kernel {{ {family} {{ import none; export all; }}; }}\n"
            for family in ("ipv4", "ipv6")
            if fib
        )
        config.write_text(f"""
            log "{rig.workdir}/bird{number}.log" all; router id 10.9.0.{number};
            protocol device {{ scan time 1; }}
            protocol direct {{ ipv4; ipv6; }}
            {kernel}
            protocol bfd {{ accept direct; interface "eth0" {{
                min rx interval 50 ms; min tx interval 50 ms; multiplier 3; }}; }}
            protocol bgp peer {{ local {local} as {local_as}; neighbor {peer} as 65001;
                connect delay time 1; connect retry time 1; error wait time 1, 5; {extra}
                ipv4 {{ import all; export none; }}; ipv6 {{ import all; export none; }}; }}
            {more}
        """)
        self.process = rig.spawn(
            self.host, ["bird", "-f", "-c", str(config), "-s", str(self.control)], stderr=subprocess.DEVNULL
        )
        self.log = rig.workdir / f"bird{number}.log"
        eventually(self.control.exists)

    def ask(self, command: str) -> str:
        """The control socket's answer, up to its final status line."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self.control))
            stream = sock.makefile("rb")
            stream.readline()
            sock.sendall(f"{command}\n".encode())
            text = ""
            for line in stream:
                text += line.decode()
                if re.match(rb"\d{4} ", line) and line[:1] in b"089":
                    break
            return text

    def count(self, protocol: str = "peer") -> int:
        text = self.ask(f"show route protocol {protocol} count")
        found = re.search(r"Total: (\d+) of", text) or re.search(r"(\d+) of", text)
        return int(found[1]) if found else 0

    def routes(self, protocol: str = "peer") -> str:
        return self.ask(f"show route protocol {protocol} all")


class Frr:
    """zebra, bgpd and bfdd of FRR at host `number`."""

    def __init__(self, rig: Rig, number: int, *, peers: str, asn: int = 65000, urgent: bool = False) -> None:
        """`urgent`: ahead of whatever else runs on this machine, as on a machine that is only a router."""
        need("bgpd", "vtysh")
        self.host = rig.host(number)
        self._space = self.host
        homes = [Path("/etc/frr") / self._space, Path("/var/run/frr") / self._space]
        for home in homes:
            home.mkdir(parents=True)
            shutil.chown(home, "frr", "frr")
            rig.callback(partial(shutil.rmtree, home, ignore_errors=True))
        (homes[0] / "vtysh.conf").write_text("service integrated-vtysh-config\n")
        config = homes[0] / "frr.conf"
        config.write_text(f"""
bfd
 profile fast
  receive-interval 50
  transmit-interval 50
  detect-multiplier 3
 exit
exit
router bgp {asn}
 bgp router-id 10.9.0.{number}
 bgp log-neighbor-changes
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
{peers}
""")
        shutil.chown(config, "frr", "frr")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        before = ["chrt", "-f", "20"] if urgent else []
        for daemon in ("zebra", "bgpd", "bfdd"):
            command = [*before, str(FRR_DAEMONS / daemon), "-N", self._space]
            self.processes[daemon] = rig.spawn(self.host, command, **quiet)
            eventually((homes[1] / f"{daemon}.vty").exists)
        load = ["vtysh", "-N", self._space, "-b"]
        loaded = subprocess.run(load, capture_output=True, text=True, check=False)
        assert loaded.returncode == 0, loaded.stdout + loaded.stderr

    def ask(self, command: str) -> Any:
        """JSON answer of a show command."""
        shown = subprocess.run(
            ["vtysh", "-N", self._space, "-c", f"{command} json"], capture_output=True, text=True, check=True
        )
        return json.loads(shown.stdout or "null")

    def do(self, *commands: str) -> None:
        words = [word for command in commands for word in ("-c", command)]
        subprocess.run(["vtysh", "-N", self._space, *words], capture_output=True, check=True)

    def neighbor(self, address: str = "10.9.0.2") -> dict[str, Any]:
        found = self.ask(f"show bgp neighbors {address}")
        return dict((found or {}).get(address, {}))

    def prefixes(self, family: str = "ipv4") -> set[str]:
        return set((self.ask(f"show bgp {family} unicast") or {}).get("routes", {}))


class Gobgp:
    """gobgpd at host `number`, AS 65000."""

    def __init__(
        self,
        rig: Rig,
        number: int,
        *,
        families: Sequence[str] = ("ipv4", "ipv6"),
        neighbors: Mapping[str, str] | None = None,
    ) -> None:
        """`neighbors`: address -> lines of its [neighbors.config]; without, 10.9.0.2 of AS 65001."""
        need("gobgpd", "gobgp")
        self.host = rig.host(number)
        config = rig.workdir / f"gobgp{number}.toml"
        safis = "".join(
            f'[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = "{each}-unicast"\n'
            for each in families
        )
        described = "".join(
            f'[[neighbors]]\n[neighbors.config]\nneighbor-address = "{address}"\n{more}\n'
            "[neighbors.transport.config]\npassive-mode = true\n"
            "[neighbors.timers.config]\nhold-time = 9\nidle-hold-time-after-reset = 1\n"
            "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 60\n" + safis
            for address, more in (neighbors or {"10.9.0.2": "peer-as = 65001"}).items()
        )
        config.write_text(f'[global.config]\nas = 65000\nrouter-id = "10.9.0.{number}"\n{described}')
        command = ["gobgpd", "-f", str(config), "--pprof-disable", "--api-hosts=127.0.0.1:50051"]
        self.process = rig.spawn(self.host, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, *words: str) -> Any:
        command = ["ip", "netns", "exec", self.host, "gobgp", *words, "-j"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            return json.loads(shown.stdout)
        except ValueError:
            return None

    def prefixes(self, family: str = "ipv4") -> set[str]:
        return set(self.ask("global", "rib", "-a", family) or {})


class Announcer:
    """`python -m bgp_lite announce` at host 2, driven by its stdin, read by its JSON lines."""

    def __init__(
        self, rig: Rig, host: str, *arguments: str, peer_as: str = "65000", local_as: str = "65001"
    ) -> None:
        self.output = rig.workdir / f"announcer{next(_numbers)}.json"
        command = [sys.executable, "-m", "bgp_lite", "announce", "--json", "--local-as", local_as]
        command += ["--peer-as", peer_as, *arguments]
        with self.output.open("wb") as file:
            self.process = rig.spawn(host, command, stdin=subprocess.PIPE, stdout=file)
        rig.callback(self.stdin.close)

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def say(self, *lines: str) -> None:
        self.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.stdin.flush()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines() if line.endswith("}")]

    def states(self, peer: str = "") -> list[str]:
        return [e["new"] for e in self.events if e["event"] == "state" and e["peer"].startswith(peer)]

    def last_why(self) -> str:
        return str([e["why"] for e in self.events if e["event"] == "state"][-1])

    def wait_up(self, count: int = 1) -> None:
        eventually(lambda: self.states().count("ESTABLISHED") >= count, within=30)

    def whys(self) -> str:
        """Every reason given so far."""
        return "\n".join(str(e["why"]) for e in self.events if "why" in e)

    def stop(self, sig: int = signal.SIGTERM) -> None:
        self.process.send_signal(sig)
        self.process.wait(15)


class FibMonitor:
    """Every change the kernel of a router sees, from the moment it is made."""

    MARK = "198.18.255.254"

    def __init__(self, rig: Rig, host: str) -> None:
        self._host = host
        self._output = rig.workdir / f"monitor-{host}-{next(_numbers)}.txt"
        with self._output.open("wb") as file:
            self.process = rig.spawn(host, ["ip", "monitor", "route"], stdout=file)
        # It listens as soon as it has seen a change of ours.
        eventually(self._sees)

    def _sees(self) -> bool:
        for what in ("replace", "del"):
            ip("-n", self._host, "route", what, "blackhole", self.MARK)
        return self.MARK in self._output.read_text()

    def changes(self, net: str) -> list[str]:
        return [line for line in self._output.read_text().splitlines() if net in line]
