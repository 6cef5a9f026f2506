"""FRR as the speaker's side: zebra, bgpd and bfdd without any configuration, at host 2 of bgp_lite's rig."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio

from bgp_lite.attributes import Path as RoutePath
from bgp_lite.prefix import Prefix, parse_prefix
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.node import Node
from speaker.frr.backend import FrrPaths, FrrRouters
from speaker.planner.routers import SessionView
from tests.bgp_lite.rig import FRR_DAEMONS, Rig, eventually, need

NODE = Node(name="node-2", internal_ips=("10.9.0.2", "fd09::2"))


class Speaker:
    """The daemons, and where their sockets are.  bgpd does not listen, as beside a speaker."""

    def __init__(self, rig: Rig, number: int = 2) -> None:
        need("bgpd", "bfdd", "zebra")
        self._rig = rig
        self.host = rig.host(number)
        self.run_dir = Path("/var/run/frr") / self.host
        self.config_dir = Path("/etc/frr") / self.host
        for home in (self.run_dir, self.config_dir):
            home.mkdir(parents=True)
            shutil.chown(home, "frr", "frr")
            rig.callback(partial(shutil.rmtree, home, ignore_errors=True))
        (self.config_dir / "vtysh.conf").write_text("service integrated-vtysh-config\n")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for daemon in ("zebra", "bgpd", "bfdd"):
            self.start(daemon)

    def start(self, daemon: str) -> None:
        command = [str(FRR_DAEMONS / daemon), "-N", self.host, *(["-p", "0"] if daemon == "bgpd" else [])]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes[daemon] = self._rig.spawn(self.host, command, **quiet)
        eventually((self.run_dir / f"{daemon}.vty").exists)

    def kill(self, daemon: str) -> None:
        self.processes[daemon].kill()
        self.processes[daemon].wait()

    def lead_vtysh_here(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever calls `vtysh` speaks to these daemons.  `directory` is made for it."""
        wrapper = directory / "vtysh"
        directory.mkdir()
        wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/vtysh -N {self.host} "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setenv("PATH", str(directory), prepend=":")

    @property
    def paths(self) -> FrrPaths:
        return FrrPaths(run_dir=self.run_dir, config_file=self._rig.workdir / "frr.conf")

    def show(self, command: str) -> str:
        shown = subprocess.run(
            ["vtysh", "-N", self.host, "-c", command], capture_output=True, text=True, check=True
        )
        return shown.stdout


def peer(name: str = "tor", address: str = "10.9.0.1", **more: Any) -> BgpPeer:
    """One that comes back soon, as tests like it."""
    found = {"my_asn": 65001, "peer_asn": 65000, "connect_time": 1} | more
    if "interface" not in found:
        found["address"] = ip_address(address)
    return BgpPeer(name=name, **found)


def paths(*prefixes: str, path: RoutePath | None = None) -> dict[Prefix, RoutePath]:
    return {parse_prefix(prefix): path or RoutePath() for prefix in prefixes}


def apply(
    routers: FrrRouters,
    peers: Sequence[BgpPeer],
    routes: dict[Prefix, RoutePath] | dict[str, dict[Prefix, RoutePath]] | None = None,
) -> None:
    """`routes`: of every peer, or by the peer's name."""
    told: dict[str, Any] = {}
    for each in peers:
        named = routes is not None and any(isinstance(key, str) for key in routes)
        told[each.name] = (routes or {}).get(each.name, {}) if named else routes or {}  # type: ignore[call-overload]
    routers.apply(peers, told, NODE)


def session(routers: FrrRouters, name: str = "tor") -> SessionView:
    return next(view for view in routers.sessions() if view.peer == name)


async def until(what: Callable[[], Any], within: float = 30.0) -> Any:
    """`eventually`, while the routers run."""
    ends = time.monotonic() + within
    while True:
        value = await trio.to_thread.run_sync(what)
        if value:
            return value
        assert time.monotonic() < ends, f"not within {within} s; last seen: {value!r}"
        await trio.sleep(0.02)
