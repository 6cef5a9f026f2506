"""A router on the lab's LAN: FRR or BIRD from Debian in a namespace of its own, with ECMP into its kernel.

Everything it needs and writes is in the run's directory, so that ending the run ends it.  Each neighbour is
named, and the router never connects itself: it is our sessions that are looked at.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from crier.lab import netns
from crier.lab.errors import LabError, NotPossible
from crier.lab.lan import Host, Lan
from crier.lab.ontime import PRIORITY
from crier.lab.process import LabProcess, Processes

PATIENCE: Final = 15.0
DAEMONS: Final = Path("/usr/lib/frr")
USER: Final = "frr"
FIRST: Final = ("chrt", "--fifo", str(PRIORITY))
"""A router on a machine of its own would not wait for a processor; BFD takes one that does for dead."""
NUMBER: Final = 120
"""Last part of a router's address; not 128 to 191, in whose names the client asks (`frames`)."""
NODES_ASN: Final = 64500
"""AS of the lab's nodes."""
BFD: Final = (50, 3)
MARK: Final = "198.18.255.254"
"""Of nobody: routes to it come and go to see whether somebody watches."""
PATHS: Final = 16
"""Ways to one prefix at most: to more nodes than a LAN has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A node, as the router expects it."""

    address: str
    asn: int
    password: str = field(default="", repr=False)
    bfd: tuple[int, int] | None = None
    """Milliseconds, multiplier."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a router knows of one path to a prefix."""

    next_hop: str
    local_pref: int | None
    communities: frozenset[str]
    """`65000:1` and `65000:1:2`."""


def check(*programs: str) -> None:
    """Raises NotPossible with the one that is missing."""
    for program in programs:
        if shutil.which(program, path=f"/usr/bin:/usr/sbin:/bin:/sbin:{DAEMONS}") is None:
            raise NotPossible(f"{program} is not installed (Debian packages frr and bird2)")


class Router(ABC):
    """One router.  Calls are synchronous and short."""

    def __init__(
        self, lan: Lan, processes: Processes, directory: Path, name: str, number: int, asn: int
    ) -> None:
        """`number`: the last part of its address; plugs it in."""
        self.asn = asn
        self.host: Host = lan.plug_in(name, number)
        self._processes = processes
        self._home = directory / name
        self._home.mkdir(parents=True)
        # each connection its own way, as a router in a data centre spreads them
        netns.set_sysctls(
            self.host.netns, {"ipv4/fib_multipath_hash_policy": 1, "ipv6/fib_multipath_hash_policy": 1}
        )

    @property
    def address(self) -> str:
        return str(self.host.ipv4)

    @abstractmethod
    def start(self, neighbours: Sequence[Neighbour]) -> None:
        """Run with these neighbours.  Returns when it can be asked."""

    @abstractmethod
    def configure(self, neighbours: Sequence[Neighbour]) -> None:
        """Change to these neighbours; what stays the same keeps its session."""

    @abstractmethod
    def known(self, prefix: str) -> list[Route]:
        """The paths it has heard of."""

    @abstractmethod
    def established(self) -> set[str]:
        """Addresses of the neighbours with a session."""

    @abstractmethod
    def _all(self) -> list[LabProcess]: ...

    def signal(self, number: signal.Signals) -> None:
        """To all of its daemons."""
        for process in self._all():
            process.expected = True
            process.send(number)

    def stop(self) -> None:
        """It ends as its operator ends it; its routes go with it."""
        self.signal(signal.SIGTERM)
        for process in self._all():
            process.popen.wait(PATIENCE)

    def crash(self) -> None:
        self.signal(signal.SIGKILL)
        for process in self._all():
            process.popen.wait(PATIENCE)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def fib(self) -> dict[str, frozenset[str]]:
        """The kernel's routes that a routing daemon made: prefix (a bare address for a host) to next hops."""
        found: dict[str, frozenset[str]] = {}
        for family in ("-4", "-6"):
            for route in json.loads(netns.run("ip", "-j", family, "-n", self.host.netns, "route")):
                if route.get("protocol") in ("bgp", "bird"):
                    ways = route.get("nexthops") or [route]
                    hops = frozenset(way.get("gateway") or way.get("via", {}).get("host", "") for way in ways)
                    found[route["dst"]] = found.get(route["dst"], frozenset()) | hops
        return found

    def watch_fib(self, name: str) -> FibLog:
        """Every change of its kernel's routes from now on."""
        command = ["ip", "-o", "-t", "monitor", "route"]
        process = self._processes.start(f"monitor-{name}", command, namespace=self.host.netns)
        process.expected = True
        log = FibLog(process)

        def listens() -> bool:
            """It does not say when it does, but it says what it heard."""
            netns.ip(self.host.netns, *(f"route {what} blackhole {MARK}" for what in ("replace", "delete")))
            return bool(log.events(MARK))

        _wait_for(listens, f"{process.name} to listen")
        return log


@dataclass(frozen=True, slots=True)
class FibLog:
    process: LabProcess

    def events(self, prefix: str) -> list[str]:
        """What happened to a route, a line each."""
        text = self.process.log.read_text(encoding="utf-8", errors="replace")
        # `ip -t` puts the time on a line of its own before each event
        return [
            line for line in text.splitlines() if re.search(rf"(^|\s|\]){re.escape(prefix)}(\s|/|$)", line)
        ]

    def stop(self) -> None:
        self.process.popen.kill()
        self.process.popen.wait(PATIENCE)


class Frr(Router):
    """zebra, bgpd and bfdd."""

    def start(self, neighbours: Sequence[Neighbour]) -> None:
        self._neighbours = tuple(neighbours)
        self._daemons: dict[str, LabProcess] = {}
        for above in (self._home.parent, self._home.parent.parent):  # of the run, which is root's alone
            shutil.chown(above, group=USER)
            above.chmod(0o710)
        (self._home / "vtysh.conf").write_text("no service integrated-vtysh-config\n", encoding="ascii")
        for daemon in ("zebra", "bfdd", "bgpd"):
            self._start(daemon)
        self.do(*self._base(), *_lines(self.asn, self._neighbours))

    def _start(self, daemon: str) -> None:
        home = self._home
        config = home / f"{daemon}.conf"
        config.write_text("", encoding="ascii")
        for path in (home, config):  # the daemons give up being root
            shutil.chown(path, USER, USER)
        (home / f"{daemon}.vty").unlink(missing_ok=True)
        command = [str(DAEMONS / daemon), "--vty_socket", str(home), "-z", str(home / "zserv.api")]
        command += ["-i", str(home / f"{daemon}.pid"), "-f", str(config)]
        if daemon == "bfdd":
            command += ["--bfdctl", str(home / "bfdd.sock")]
        name = f"{daemon}-{self.host.name}"
        self._daemons[daemon] = self._processes.start(name, [*FIRST, *command], namespace=self.host.netns)
        _wait_for((home / f"{daemon}.vty").exists, f"{name} to listen")

    def _all(self) -> list[LabProcess]:
        return list(self._daemons.values())

    def _base(self) -> list[str]:
        return [
            f"router bgp {self.asn}",
            f"bgp router-id {self.host.ipv4}",
            "no bgp ebgp-requires-policy",
            "no bgp default ipv4-unicast",
            "bgp bestpath as-path multipath-relax",
            "bgp route-map delay-timer 1",
            *(
                line
                for family in ("ipv4", "ipv6")
                for line in (
                    f"address-family {family} unicast",
                    f"maximum-paths {PATHS}",
                    "exit-address-family",
                )
            ),
            "exit",
        ]

    def configure(self, neighbours: Sequence[Neighbour]) -> None:
        was, now = (
            {each.address: each for each in self._neighbours},
            {each.address: each for each in neighbours},
        )
        for address in was:
            if was[address] != now.get(address):
                self.do(f"router bgp {self.asn}", f"no neighbor {address}")
        self._neighbours = tuple(neighbours)
        changed = [each for each in neighbours if was.get(each.address) != each]
        if changed:
            self.do(*_lines(self.asn, changed))

    def do(self, *commands: str) -> None:
        """Configuration commands."""
        words = [word for command in ("configure", *commands) for word in ("-c", command)]
        self._vtysh(*words)

    def ask(self, command: str) -> Any:
        """The JSON answer of a show command."""
        return json.loads(self._vtysh("-c", f"{command} json") or "null")

    def known(self, prefix: str) -> list[Route]:
        family = "ipv6" if ":" in prefix else "ipv4"
        found = self.ask(f"show bgp {family} unicast {prefix}") or {}
        return [
            Route(
                _global(path["nexthops"]),
                path.get("locPrf"),
                frozenset(path.get("community", {}).get("list", ()))
                | frozenset(path.get("largeCommunity", {}).get("list", ())),
            )
            for path in found.get("paths", ())
        ]

    def neighbour(self, address: str) -> dict[str, Any]:
        found = self.ask(f"show bgp neighbors {address}") or {}
        return dict(found.get(address, {}))

    def established(self) -> set[str]:
        found = self.ask("show bgp neighbors") or {}
        return {name for name, one in found.items() if dict(one).get("bgpState") == "Established"}

    def _vtysh(self, *words: str) -> str:
        command = ["vtysh", "--vty_socket", str(self._home), "--config_dir", str(self._home), *words]
        return netns.run(*command)


def _lines(asn: int, neighbours: Iterable[Neighbour]) -> list[str]:
    lines = [f"router bgp {asn}"]
    for each in neighbours:
        at = f"neighbor {each.address}"
        lines += [f"{at} remote-as {each.asn}", f"{at} passive"]
        if each.password:
            lines.append(f"{at} password {each.password}")
        if each.bfd is not None:
            lines.append(f"{at} bfd {each.bfd[1]} {each.bfd[0]} {each.bfd[0]}")
        for family in ("ipv4", "ipv6"):
            lines += [f"address-family {family} unicast", f"{at} activate", "exit-address-family"]
    return [*lines, "exit"]


def _global(hops: Iterable[dict[str, Any]]) -> str:
    return next((str(hop["ip"]) for hop in hops if hop.get("scope", "global") == "global"), "")


class Bird(Router):
    """BIRD 2."""

    def start(self, neighbours: Sequence[Neighbour]) -> None:
        self._control = self._home / "bird.ctl"
        self._config = self._home / "bird.conf"
        self._config.write_text(self._render(neighbours), encoding="ascii")
        self._control.unlink(missing_ok=True)
        command = ["bird", "-f", "-c", str(self._config), "-s", str(self._control)]
        name = f"bird-{self.host.name}"
        self._process = self._processes.start(name, [*FIRST, *command], namespace=self.host.netns)
        _wait_for(self._control.exists, f"{name} to listen")

    def _all(self) -> list[LabProcess]:
        return [self._process]

    def configure(self, neighbours: Sequence[Neighbour]) -> None:
        self._config.write_text(self._render(neighbours), encoding="ascii")
        answer = self.ask("configure")
        if "Reconfig" not in answer:
            raise LabError(f"BIRD refused: {answer}")

    def _render(self, neighbours: Iterable[Neighbour]) -> str:
        merge = f"merge paths yes limit {PATHS};"
        sessions = "".join(
            f"""
protocol bgp {_protocol(each.address)} {{
  local {self.host.ipv4} as {self.asn}; neighbor {each.address} as {each.asn}; passive yes; direct;
  {f'password "{each.password}";' if each.password else ""}
  {_bird_bfd(each.bfd)}
  error wait time 1, 5;
  ipv4 {{ import all; export none; }};
  ipv6 {{ import all; export none; }};
}}"""
            for each in neighbours
        )
        return f"""router id {self.host.ipv4};
protocol device {{ scan time 1; }}
protocol direct {{ ipv4; ipv6; }}
protocol bfd {{ accept direct; }}
protocol kernel {{ {merge} ipv4 {{ import none; export where source = RTS_BGP; }}; }}
protocol kernel {{ {merge} ipv6 {{ import none; export where source = RTS_BGP; }}; }}
{sessions}
"""

    def ask(self, command: str) -> str:
        """The control socket's answer, up to its final status line."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self._control))
            with sock.makefile("rb") as stream:
                stream.readline()
                sock.sendall(f"{command}\n".encode())
                text = ""
                for line in stream:
                    text += line.decode(errors="replace")
                    if re.match(rb"\d{4} ", line) and line[:1] in b"089":
                        break
        return text

    def known(self, prefix: str) -> list[Route]:
        found: list[Route] = []
        for block in re.split(r"BGP\.origin", self.ask(f"show route {prefix} all"))[1:]:
            hop = re.search(r"BGP\.next_hop: (\S+)", block)
            preference = re.search(r"BGP\.local_pref: (\d+)", block)
            standard = re.search(r"BGP\.community: (.*)", block)
            large = re.search(r"BGP\.large_community: (.*)", block)
            pairs = re.findall(r"\((\d+),(\d+)\)", standard[1]) if standard else []
            triples = re.findall(r"\((\d+), ?(\d+), ?(\d+)\)", large[1]) if large else []
            texts = frozenset(":".join(each) for each in [*pairs, *triples])
            found.append(Route(hop[1] if hop else "", int(preference[1]) if preference else None, texts))
        return found

    def established(self) -> set[str]:
        up = re.findall(
            r"^(?:1002-| )?(n_\S+)\s+BGP\s+\S+\s+up\s.*Established", self.ask("show protocols"), re.MULTILINE
        )
        return {name.removeprefix("n_").replace("_", ".") for name in up}


@dataclass(frozen=True, slots=True)
class Kind:
    """A router the lab can have."""

    make: type[Router]
    programs: tuple[str, ...]
    asn: int
    """Of FRR another than the nodes', of BIRD the same: both kinds of BGP are there to be looked at."""


KINDS: Final = {
    "frr": Kind(Frr, ("zebra", "bgpd", "bfdd", "vtysh"), 65000),
    "bird": Kind(Bird, ("bird",), NODES_ASN),
}


def _protocol(address: str) -> str:
    return f"n_{IPv4Address(address)}".replace(".", "_")


def _bird_bfd(bfd: tuple[int, int] | None) -> str:
    if bfd is None:
        return ""
    return f"bfd {{ interval {bfd[0]} ms; multiplier {bfd[1]}; }};"


def _wait_for(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {PATIENCE:g} s for {what}")
        time.sleep(0.02)
