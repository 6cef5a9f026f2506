"""keepalived on the lab's nodes: VRRP with one virtual address and no Kubernetes.

The address sits on the master's interface, so the backends listen on it themselves.  The first node has the
highest priority and takes the address back when it returns, as ours does.
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from crier.lab import netns
from crier.lab.errors import NotPossible
from crier.lab.lan import NETWORK4, Host, Lan
from crier.lab.process import Processes
from crier.lab.runs import Run
from crier.lab.services import LabService, Port

VIP: Final = IPv4Address("172.30.0.200")
SERVICE: Final = LabService(
    "echo", ("IPv4",), (Port("probe", "UDP", 9080, 9080),), "Cluster", "UDP, IPv4, on the node itself"
)
STOP_PATIENCE: Final = 15.0


def render(host: Host, priority: int, advert_int: float | None) -> str:
    """One node's configuration.  `advert_int` in seconds; None is keepalived's own (1 s, VRRP version 2)."""
    fast = "" if advert_int is None else f"  advert_int {advert_int:g}\n"
    version = "" if advert_int is None else "  vrrp_version 3\n"
    return (
        f"global_defs {{\n  router_id {host.name}\n{version}}}\n"
        "vrrp_instance lab {\n  state BACKUP\n  interface eth0\n  virtual_router_id 51\n"
        f"  priority {priority}\n{fast}  virtual_ipaddress {{\n"
        f"    {VIP}/{NETWORK4.prefixlen} dev eth0\n  }}\n}}\n"
    )


class Keepalived:
    """A LAN whose nodes run keepalived and a backend."""

    def __init__(self, run: Run, nodes: int, advert_int: float | None) -> None:
        """Raises NotPossible when keepalived is not installed."""
        program = shutil.which("keepalived") or shutil.which("keepalived", path="/usr/sbin")
        if program is None:
            raise NotPossible("keepalived is not installed (Debian package keepalived)")
        self._program = program
        self._run = run
        self._advert_int = advert_int
        self.lan = Lan(run, nodes)
        self.processes = Processes(run)

    async def start(self, say: Callable[[str], None]) -> None:
        say(f"a LAN of {len(self.lan.nodes)} nodes with keepalived")
        self.lan.up()
        for name in self.lan.nodes:
            self._start_node(name)

    async def addresses(self) -> dict[str, list[str]]:
        return {SERVICE.name: [str(VIP)]}

    def _start_node(self, name: str) -> None:
        host = self.lan.nodes[name]
        netns.set_sysctls(host.netns, {"ipv4/ip_nonlocal_bind": 1})
        port = f"{SERVICE.port('UDP')}={SERVICE.key}"
        self.processes.start(
            f"backend-{name}",
            [sys.executable, "-m", "crier.lab.backend", "--node", name, "--address", str(VIP), "--udp", port],
            namespace=host.netns,
        )
        self.start_speaker(name)

    def start_speaker(self, name: str) -> None:
        directory = self._run.directory / name
        directory.mkdir(exist_ok=True)
        priority = 200 - 10 * list(self.lan.nodes).index(name)
        config = directory / "keepalived.conf"
        for left in directory.glob("*.pid"):  # by a power-off; its number may be somebody else's by now
            left.unlink()
        config.write_text(render(self.lan.nodes[name], priority, self._advert_int), encoding="utf-8")
        self.processes.start(
            f"speaker-{name}",
            [
                self._program, "--dont-fork", "--log-console", "--vrrp", "--use-file", str(config),
                "--pid", str(directory / "keepalived.pid"), "--vrrp_pid", str(directory / "vrrp.pid"),
            ],
            namespace=self.lan.nodes[name].netns,
        )  # fmt: skip

    async def stop_speaker(self, node: str) -> None:
        speaker = self.processes.all[f"speaker-{node}"]
        speaker.expected = True
        speaker.send(signal.SIGTERM)
        await speaker.wait(STOP_PATIENCE)

    def kill_speaker(self, node: str) -> None:
        speaker = self.processes.all[f"speaker-{node}"]
        speaker.expected = True
        speaker.kill_tree()

    def power_off(self, node: str) -> None:
        for name, process in self.processes.all.items():
            if name.endswith(f"-{node}"):
                process.expected = True
        self.lan.power_off(node)
        self.processes.reap()

    async def power_on(self, node: str) -> None:
        self.lan.power_on(node)
        self._start_node(node)
