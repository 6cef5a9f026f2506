"""The data path: what is planned, what is rendered, and where real packets go."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crier.lab import netns
from crier.lab.conntrack import forget_udp
from crier.lab.datapath import Backend, Front, lost_backends, plan, render
from crier.lab.lan import Lan
from crier.lab.process import Processes
from tests.lab.lans import PATIENCE, ask_tcp, ask_udp, open_lan, start_backend

VIP4 = ip_address("172.30.0.200")
VIP6 = ip_address("fd00:c71e:7::200")


def _service(**spec: Any) -> dict[str, Any]:
    ports = [
        {"name": "http", "protocol": "TCP", "port": 80},
        {"name": "probe", "protocol": "UDP", "port": 8000},
    ]
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": ports, **spec},
        "status": {"loadBalancer": {"ingress": [{"ip": str(VIP4)}, {"ip": str(VIP6)}]}},
    }


def _slice(family: str = "IPv4", ready: tuple[bool, ...] = (True, True)) -> dict[str, Any]:
    prefix = "172.30.0.1" if family == "IPv4" else "fd00:c71e:7::1"
    return {
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": family,
        "ports": [
            {"name": "http", "protocol": "TCP", "port": 8080},
            {"name": "probe", "protocol": "UDP", "port": 9080},
        ],
        "endpoints": [
            {"addresses": [f"{prefix}{n}"], "nodeName": f"node-{n}", "conditions": {"ready": good}}
            for n, good in enumerate(ready, 1)
        ],
    }


def _backends(*slices: dict[str, Any], node: str = "node-1", **spec: Any) -> dict[tuple[int, str], list[str]]:
    return {
        (front.address.version, front.protocol): [f"{b.address}:{b.port}" for b in front.backends]
        for front in plan([_service(**spec)], slices, node)
    }


def test_cluster_takes_every_ready_endpoint_of_the_family() -> None:
    found = _backends(_slice("IPv4", (True, False)), _slice("IPv6"))
    assert found == {
        (4, "tcp"): ["172.30.0.11:8080"],
        (4, "udp"): ["172.30.0.11:9080"],
        (6, "tcp"): ["fd00:c71e:7::11:8080", "fd00:c71e:7::12:8080"],
        (6, "udp"): ["fd00:c71e:7::11:9080", "fd00:c71e:7::12:9080"],
    }


def test_local_takes_this_nodes_endpoints_or_none() -> None:
    local = _backends(_slice(), externalTrafficPolicy="Local", node="node-2")
    assert local[4, "tcp"] == ["172.30.0.12:8080"]
    nowhere = _backends(_slice("IPv4", (True, False)), externalTrafficPolicy="Local", node="node-2")
    assert nowhere[4, "tcp"] == []


def test_prefer_same_node_prefers_and_does_not_insist() -> None:
    preferred = {"trafficDistribution": "PreferSameNode"}
    assert _backends(_slice(), **preferred)[4, "udp"] == ["172.30.0.11:9080"]
    assert _backends(_slice("IPv4", (False, True)), **preferred)[4, "udp"] == ["172.30.0.12:9080"]


def test_what_is_no_load_balancer_or_has_no_address_is_nothing_to_us() -> None:
    assert plan([_service(type="ClusterIP")], [_slice()], "node-1") == ()
    pending = _service()
    pending["status"] = {"loadBalancer": {}}
    assert plan([pending], [_slice()], "node-1") == ()


@given(st.permutations([_slice("IPv4"), _slice("IPv6"), _slice("IPv4", (False, False))]))
def test_the_same_world_gives_the_same_plan(slices: list[dict[str, Any]]) -> None:
    assert plan([_service()], slices, "node-1") == plan([_service()], slices[::-1], "node-1")


def test_nothing_planned_is_still_a_whole_ruleset() -> None:
    assert "dnat to" not in render([])
    assert render([]).count("delete table") == 2


def test_a_front_without_backends_is_dropped_not_forwarded() -> None:
    ruleset = render([Front(VIP4, "tcp", 80, ())])
    assert "dnat to" not in ruleset
    assert ruleset.count(f"ip daddr {{ {VIP4} }} drop") == 2


def test_only_a_new_udp_port_or_a_lost_backend_is_worth_forgetting() -> None:
    one, two = Backend(IPv4Address("172.30.0.11"), 9080), Backend(IPv4Address("172.30.0.12"), 9080)
    before = [Front(VIP4, "udp", 8000, (one, two)), Front(VIP4, "tcp", 80, (one,))]
    assert lost_backends(before, before) == {}
    assert lost_backends(before, [Front(VIP4, "udp", 8000, (one,))]) == {(VIP4, 8000): {(one.address, 9080)}}
    assert lost_backends(before, []) == {(VIP4, 8000): frozenset()}
    assert lost_backends([], before) == {(VIP4, 8000): {(one.address, 9080), (two.address, 9080)}}


# --------------------------------------------------------------------------------- with real packets


@pytest.fixture
def network(tmp_path: Path) -> Iterator[tuple[Lan, Processes]]:
    """Two nodes with backends; node-1 has both VIPs, as if its speaker announced them."""
    with open_lan(tmp_path) as (lan, _, processes):
        for host in lan.nodes.values():
            start_backend(processes, host, ["--tcp", "8080=default/web", "--udp", "9080=default/web"])
        netns.ip(
            lan.nodes["node-1"].netns, f"addr add {VIP4}/32 dev eth0", f"addr add {VIP6}/128 dev eth0 nodad"
        )
        yield lan, processes


def _program(lan: Lan, *nodes: str) -> None:
    """Both VIPs on node-1 go to these nodes' backends."""
    fronts = []
    for vip in (VIP4, VIP6):
        hosts = [lan.nodes[node] for node in nodes]
        addresses = [h.ipv4 if vip.version == 4 else h.ipv6 for h in hosts]
        fronts.append(Front(vip, "tcp", 80, tuple(Backend(a, 8080) for a in addresses)))
        fronts.append(Front(vip, "udp", 8000, tuple(Backend(a, 9080) for a in addresses)))
    netns.nft(lan.nodes["node-1"].netns, render(fronts))


def _node(answer: bytes | None) -> str | None:
    return None if answer is None else json.loads(answer.rpartition(b"\r\n")[2])["node"]


@pytest.mark.netns
@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["v4", "v6"])
@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_tcp_and_udp_reach_a_backend_here_or_elsewhere(
    network: tuple[Lan, Processes], vip: IPv4Address | IPv6Address, node: str
) -> None:
    lan, _ = network
    _program(lan, node)
    assert _node(ask_udp(lan.client, vip, 8000)) == node
    assert _node(ask_tcp(lan.client, vip, 80)) == node


@pytest.mark.netns
@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["v4", "v6"])
def test_several_backends_share(network: tuple[Lan, Processes], vip: IPv4Address | IPv6Address) -> None:
    lan, _ = network
    _program(lan, "node-1", "node-2")
    # 24 fair choices all fall the same way once in eight million runs
    assert {_node(ask_udp(lan.client, vip, 8000)) for _ in range(24)} == {"node-1", "node-2"}


@pytest.mark.netns
@pytest.mark.parametrize(("node", "source"), [("node-1", "client"), ("node-2", "node-1")])
def test_the_source_is_kept_here_and_masked_for_elsewhere(
    network: tuple[Lan, Processes], node: str, source: str
) -> None:
    """Local keeps the client's address because its backend is here; only a remote one needs us as the
    source.
    """
    lan, _ = network
    here, there, client = lan.nodes["node-1"], lan.nodes[node], lan.client
    fronts = [Front(VIP4, "udp", 8000, (Backend(there.ipv4, 9999),))]
    netns.nft(here.netns, render(fronts))
    with netns.open_socket(there.netns, socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((str(there.ipv4), 9999))
        listener.settimeout(PATIENCE)
        with netns.open_socket(client.netns, socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.settimeout(PATIENCE)
            sender.sendto(b"who am I?", (str(VIP4), 8000))
            _, seen = listener.recvfrom(100)
            assert seen[0] == str(client.ipv4 if source == "client" else here.ipv4)
            listener.sendto(b"you", seen)
            assert sender.recvfrom(100) == (b"you", (str(VIP4), 8000)), "the answer comes from the VIP"


@pytest.mark.netns
@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["v4", "v6"])
def test_a_vip_with_nowhere_to_go_is_silent(
    network: tuple[Lan, Processes], vip: IPv4Address | IPv6Address
) -> None:
    lan, _ = network
    netns.ip(lan.nodes["node-1"].netns, f"addr del {vip}/{vip.max_prefixlen} dev eth0")
    with_route = f"neigh add {vip} lladdr {lan.nodes['node-1'].mac} dev eth0"
    netns.ip(lan.client.netns, with_route)
    netns.nft(lan.nodes["node-1"].netns, render([Front(vip, "udp", 8000, ())]))
    assert ask_udp(lan.client, vip, 8000, patience=0.2) is None
    counted = netns.inside(
        lan.client.netns, lambda: Path("/proc/thread-self/net/snmp").read_text(encoding="ascii")
    )
    unreachable = [line.split()[3] for line in counted.splitlines() if line.startswith("Icmp: ")]
    assert unreachable[1:] == ["0"], "dropped without a word, as kube-proxy does under Local"


@pytest.mark.netns
@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["v4", "v6"])
def test_a_udp_flow_leaves_a_backend_that_is_gone(
    network: tuple[Lan, Processes], vip: IPv4Address | IPv6Address
) -> None:
    lan, _ = network
    here = lan.nodes["node-1"]
    _program(lan, "node-2")
    assert _node(ask_udp(lan.client, vip, 8000, source_port=5555)) == "node-2"
    _program(lan, "node-1")
    assert _node(ask_udp(lan.client, vip, 8000, source_port=5555)) == "node-2", "conntrack remembers the flow"
    allowed = {(vip, 8000): frozenset({(here.ipv4 if vip.version == 4 else here.ipv6, 9080)})}
    assert netns.inside(here.netns, lambda: forget_udp(allowed)) == 1
    assert _node(ask_udp(lan.client, vip, 8000, source_port=5555)) == "node-1"
    assert netns.inside(here.netns, lambda: forget_udp(allowed)) == 0
