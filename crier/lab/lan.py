"""A LAN of network namespaces on one machine: a switch, nodes, a client and the control plane's host.

    node-1 ... node-N     eth0 172.30.0.11...  fd00:c71e:7::11...    the cluster's nodes
    client                eth0 172.30.0.100    fd00:c71e:7::100      an ordinary host beside them
    control-plane         eth0 172.30.0.2      fd00:c71e:7::2        where the Kubernetes API listens
    switch                a bridge; port names are the hosts' names

With a *fabric*, a second network, nodes and control plane also have eth1 with 172.31.0.11... and
fd00:c71e:8::11..., which is where the cluster knows them: the API, gossip and pods are there, and only the
clients of Services are on the LAN.

Nothing of it is in the host's own namespace, and sysctls that new namespaces inherit are set to the kernel's
defaults, so two machines run the same LAN.  Faults are made at the switch: a port goes down (the host loses
its carrier, like a pulled cable), turns silent (frames vanish but the carrier stays, like a broken link
further away), or drops a share of frames.  The fabric has none but a power-off.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Final

from crier.lab import netns
from crier.lab.errors import LabError, NotPossible
from crier.lab.frames import ASKER_MAC, askers6
from crier.lab.runs import Run

NETWORK4: Final = IPv4Network("172.30.0.0/24")
NETWORK6: Final = IPv6Network("fd00:c71e:7::/64")
FABRIC4: Final = IPv4Network("172.31.0.0/24")
FABRIC6: Final = IPv6Network("fd00:c71e:8::/64")
MIN_NODES: Final = 2
MAX_NODES: Final = 10
SWITCH: Final = "switch"

# What a fresh namespace may inherit from this machine's settings (net.core.devconf_inherit_init_net) and
# what a host in a data centre has: no redirects, no address detection delays, loose enough for answers that
# leave by another way than the request came.
_HOST_SYSCTLS: Final[Mapping[str, int]] = {
    **{
        f"ipv4/conf/{scope}/{key}": value
        for scope in ("all", "default")
        for key, value in {
            "rp_filter": 0, "arp_ignore": 0, "arp_announce": 0, "arp_filter": 0, "arp_accept": 0,
            "proxy_arp": 0,
            "accept_redirects": 0, "send_redirects": 0, "accept_local": 0, "route_localnet": 0,
        }.items()
    },
    **{
        f"ipv6/conf/{scope}/{key}": value
        for scope in ("all", "default")
        for key, value in {
            "disable_ipv6": 0, "accept_dad": 0, "dad_transmits": 0, "accept_ra": 0, "router_solicitations": 0,
            "addr_gen_mode": 0, "use_tempaddr": 0, "accept_redirects": 0,
        }.items()
    },
}  # fmt: skip
# The neighbour cache as the kernel ships it (arp(7), ip-sysctl.rst).
_NEIGHBOUR_SYSCTLS: Final[Mapping[str, int]] = {
    f"{family}/neigh/{interface}/{key}": value
    for family in ("ipv4", "ipv6")
    for interface in ("eth0", "eth1")
    for key, value in {
        "base_reachable_time_ms": 30000, "retrans_time_ms": 1000, "delay_first_probe_time": 5,
        "gc_stale_time": 60, "ucast_solicit": 3, "mcast_solicit": 3, "app_solicit": 0,
    }.items()
}  # fmt: skip
_TOOLS: Final = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "setpriv": "util-linux"}
_BRIDGE_SYSCTLS: Final = {
    f"bridge/bridge-nf-call-{kind}": 0 for kind in ("iptables", "ip6tables", "arptables")
}


@dataclass(frozen=True, slots=True)
class Host:
    """One machine on the LAN."""

    name: str
    netns: str
    mac: str
    ipv4: IPv4Address
    ipv6: IPv6Address
    internal4: IPv4Address
    """Where the cluster knows it: on the fabric if it is on one, else the same as on the LAN."""
    internal6: IPv6Address
    routes: bool
    """Forwards packets, as a Kubernetes node does."""

    @property
    def on_fabric(self) -> bool:
        return self.internal4 != self.ipv4


def plan_hosts(run: Run, nodes: int, *, fabric: bool = False) -> tuple[Host, ...]:
    """The client, the control plane and `nodes` nodes.  Raises LabError for a number that does not fit."""
    if not MIN_NODES <= nodes <= MAX_NODES:
        raise LabError(f"nodes: {nodes} is not between {MIN_NODES} and {MAX_NODES}")

    return (
        make_host(run, "client", 100),
        make_host(run, "control-plane", 2, fabric=fabric),
        *(make_host(run, f"node-{n}", 10 + n, routes=True, fabric=fabric) for n in range(1, nodes + 1)),
    )


def make_host(run: Run, name: str, number: int, *, routes: bool = False, fabric: bool = False) -> Host:
    """`number` is the last part of its addresses."""
    last6 = int(str(number), 16)  # so that ::11 is beside .11
    return Host(
        name=name,
        netns=run.netns(name),
        mac=f"02:c7:1e:07:00:{number:02x}",
        ipv4=NETWORK4[number],
        ipv6=NETWORK6[last6],
        internal4=(FABRIC4 if fabric else NETWORK4)[number],
        internal6=(FABRIC6 if fabric else NETWORK6)[last6],
        routes=routes,
    )


def render_faults(silent: AbstractSet[str], lossy: Mapping[str, float]) -> str:
    """The switch's faults as one nftables transaction: ports that carry nothing, ports that drop a share.

    The chain sees every frame the bridge forwards, with the port it came in by and the one it goes out by.
    """
    shares = {port: round(share * 10000) for port, share in lossy.items()} | dict.fromkeys(silent, 10000)
    rules = [
        f'{way} "{port}" ' + ("drop" if share >= 10000 else f"numgen random mod 10000 < {share} drop")
        for port, share in sorted(shares.items())
        for way in ("iifname", "oifname")
        if share > 0
    ]
    body = "".join(f"    {rule}\n" for rule in rules)
    return (
        "table bridge faults\ndelete table bridge faults\n"
        "table bridge faults {\n  chain forward {\n    type filter hook forward priority 0; policy accept;\n"
        f"{body}  }}\n}}\n"
    )


def check_machine(*rulesets: str) -> None:
    """Raises NotPossible with the one thing that stands in the way of a LAN here.

    `rulesets` are nftables rules that have to work besides the LAN's own faults.
    """
    if os.geteuid() != 0:
        raise NotPossible("network namespaces need root: run this as root")
    for tool, package in {
        "ip": "iproute2",
        "nft": "nftables",
        "nsenter": "util-linux",
        "setpriv": "util-linux",
    }.items():
        if shutil.which(tool) is None:
            raise NotPossible(f"{tool} is not installed (Debian package {package})")
    try:
        netns.run("unshare", "--net", "ip", "link", "set", "lo", "up")
    except LabError as problem:
        raise NotPossible(f"this machine lets us make no network namespaces: {problem}") from None
    if not Path("/proc/sys/net/ipv6").is_dir():
        raise NotPossible("IPv6 is switched off in this kernel (ipv6.disable=1)")
    for ruleset in (render_faults({"silent"}, {"lossy": 0.5}), *rulesets):
        try:
            netns.run("unshare", "--net", "nft", "-f", "-", stdin=ruleset)
        except LabError as problem:
            raise NotPossible(f"nftables lacks something here: {problem}") from None


def _fabric_port(host: Host) -> str:
    return f"{host.name}.1"


def _fabric_mac(host: Host) -> str:
    return f"02:c7:1e:08:00:{host.mac[-2:]}"  # a node that boots is still itself to its neighbours


class Lan:
    """The LAN of one run.  Calls are short (a few `ip` commands) and synchronous."""

    def __init__(self, run: Run, nodes: int, *, fabric: bool = False) -> None:
        self._run = run
        hosts = plan_hosts(run, nodes, fabric=fabric)
        self.client, self.control_plane = hosts[:2]
        self.nodes: dict[str, Host] = {host.name: host for host in hosts[2:]}
        self._more: list[Host] = []
        self.switch = run.netns(SWITCH)
        self._silent: set[str] = set()
        self._lossy: dict[str, float] = {}
        self._off: set[str] = set()

    def up(self) -> None:
        netns.add(self.switch)
        netns.set_sysctls(
            self.switch, {**_HOST_SYSCTLS, **_BRIDGE_SYSCTLS, "ipv6/conf/default/disable_ipv6": 1}
        )
        # No spanning tree and no snooping: ports forward from the first moment, multicast goes everywhere.
        netns.ip(
            self.switch,
            "link add lan type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            "link set lan up",
            "link add fabric type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            "link set fabric up",
        )
        for host in self._hosts():
            self._plug_in(host)

    def plug_in(self, name: str, number: int, *, routes: bool = True) -> Host:
        """One more host, such as a router, at the address with that last part.  Raises LabError."""
        host = make_host(self._run, name, number, routes=routes)
        if any(host.ipv4 == other.ipv4 or name == other.name for other in self._hosts()):
            raise LabError(f"there is a host {name!r} or {host.ipv4} on this LAN already")
        self._more.append(host)
        self._plug_in(host)
        return host

    def _hosts(self) -> tuple[Host, ...]:
        return (self.client, self.control_plane, *self.nodes.values(), *self._more)

    def host(self, name: str) -> Host:
        for host in self._hosts():
            if host.name == name:
                return host
        raise LabError(f"no host {name!r} on this LAN")

    def _plug_in(self, host: Host) -> None:
        netns.add(host.netns)
        netns.set_sysctls(
            host.netns,
            {
                **_HOST_SYSCTLS,
                "ipv4/ip_forward": int(host.routes),
                "ipv6/conf/all/forwarding": int(host.routes),
                "ipv6/conf/default/forwarding": int(host.routes),
            },
        )
        netns.ip(
            self.switch,
            f"link add {host.name} type veth peer name eth0 address {host.mac} netns {host.netns}",
            f"link set {host.name} master lan",
            f"link set {host.name} up",
        )
        netns.ip(
            host.netns,
            "link set lo up",
            f"addr add {host.ipv4}/{NETWORK4.prefixlen} brd + dev eth0",
            f"addr add {host.ipv6}/{NETWORK6.prefixlen} dev eth0 nodad",
            "link set eth0 up",
        )
        if host.routes:
            told = (f"neigh add {each} lladdr {ASKER_MAC} dev eth0 nud permanent" for each in askers6())
            netns.ip(host.netns, *told)
        if host.on_fabric:
            port = _fabric_port(host)
            netns.ip(
                self.switch,
                f"link add {port} type veth peer name eth1 address {_fabric_mac(host)} netns {host.netns}",
                f"link set {port} master fabric",
                f"link set {port} up",
            )
            netns.ip(
                host.netns,
                f"addr add {host.internal4}/{FABRIC4.prefixlen} brd + dev eth1",
                f"addr add {host.internal6}/{FABRIC6.prefixlen} dev eth1 nodad",
                "link set eth1 up",
            )
        netns.set_sysctls(host.netns, _NEIGHBOUR_SYSCTLS)

    # -- faults

    def cut(self, name: str, *, silent: bool = False) -> None:
        """Cut a host off the LAN: its port and so its carrier go down or, `silent`, frames vanish."""
        self.host(name)
        if silent:
            self._silent.add(name)
            self._apply_faults()
        else:
            netns.set_link(self.switch, name, up=False)

    def heal(self, name: str) -> None:
        """Undo `cut`, either kind, and `lose`."""
        self.host(name)
        self._silent.discard(name)
        self._lossy.pop(name, None)
        self._apply_faults()
        netns.set_link(self.switch, name, up=True)

    def lose(self, name: str, share: float) -> None:
        """Drop this share (0..1) of all frames to and from a host, at random."""
        self.host(name)
        if not 0 <= share <= 1:
            raise LabError(f"share: {share} is not between 0 and 1")
        self._lossy[name] = share
        self._apply_faults()

    def _apply_faults(self) -> None:
        netns.nft(self.switch, render_faults(self._silent, self._lossy))

    def freeze(self, name: str) -> int:
        """Stop every process of a host in its tracks (SIGSTOP).  Returns how many."""
        return netns.signal_members(self.host(name).netns, signal.SIGSTOP)

    def thaw(self, name: str) -> int:
        return netns.signal_members(self.host(name).netns, signal.SIGCONT)

    def power_off(self, name: str) -> None:
        """Pull the plug: no frame leaves any more, every process is killed, kernel state is lost."""
        host = self.host(name)
        ports = [name, _fabric_port(host)] if host.on_fabric else [name]
        for port in ports:
            netns.set_link(self.switch, port, up=False)  # first, so that no dying process can say good-bye
        netns.signal_members(host.netns, signal.SIGKILL)
        netns.ip(self.switch, *(f"link delete {port}" for port in ports))
        netns.delete(host.netns)
        self._off.add(name)

    def power_on(self, name: str) -> None:
        """The node boots: the same addresses, nothing else remembered."""
        if name not in self._off:
            raise LabError(f"{name} is not powered off")
        host = self.host(name)
        self._plug_in(host)
        self._off.discard(name)

    def is_on(self, name: str) -> bool:
        return name not in self._off

    def enter(self, name: str) -> str:
        """The command that gives a shell on a host."""
        return f"nsenter --net={netns.path(self.host(name).netns)}"

    def down(self) -> None:
        """Remove the namespaces.  `Run.remove` does this and the rest; this is for a LAN used alone."""
        for name in self._run.namespaces():
            with suppress(LabError):
                netns.delete(name)
