"""The LAN of namespaces: it comes up, does what a LAN does, takes faults, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crier.lab import netns
from crier.lab.errors import LabError
from crier.lab.lan import (
    FABRIC4,
    FABRIC6,
    MAX_NODES,
    MIN_NODES,
    NETWORK4,
    NETWORK6,
    plan_hosts,
    render_faults,
)
from crier.lab.runs import Run
from tests.lab.lans import PATIENCE, eventually, inside, open_lan, pings, reaches


def _links() -> set[str]:
    out = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in out.splitlines()}


def _namespaces(run_id: str) -> list[str]:
    return Run(run_id).namespaces()


@given(st.integers(MIN_NODES, MAX_NODES))
def test_no_two_hosts_share_anything(nodes: int) -> None:
    hosts = plan_hosts(Run("abcdef"), nodes)
    assert len(hosts) == nodes + 2
    for values in zip(*((h.name, h.netns, h.mac, h.ipv4, h.ipv6) for h in hosts), strict=True):
        assert len(set(values)) == len(hosts)
    assert all(h.ipv4 in NETWORK4 and h.ipv6 in NETWORK6 for h in hosts)


def test_with_a_fabric_the_cluster_knows_its_hosts_by_other_addresses() -> None:
    plain, split = plan_hosts(Run("abcdef"), 3), plan_hosts(Run("abcdef"), 3, fabric=True)
    assert all((h.internal4, h.internal6) == (h.ipv4, h.ipv6) and not h.on_fabric for h in plain)
    assert [h.name for h in split if not h.on_fabric] == ["client"]
    inner = [h for h in split if h.on_fabric]
    assert all(h.internal4 in FABRIC4 and h.internal6 in FABRIC6 and h.ipv4 in NETWORK4 for h in inner)
    assert len({h.internal4 for h in inner}) == len({h.internal6 for h in inner}) == len(inner)


@pytest.mark.parametrize("nodes", [-1, 0, 1, 11])
def test_a_number_of_nodes_that_does_not_fit_is_named(nodes: int) -> None:
    with pytest.raises(LabError, match=f"nodes: {nodes} is not between 2 and 10"):
        plan_hosts(Run("abcdef"), nodes)


def test_faults_drop_both_ways_and_nothing_else() -> None:
    ruleset = render_faults({"node-1"}, {"node-2": 0.25, "node-3": 0.0})
    rules = [line.strip() for line in ruleset.splitlines() if "drop" in line]
    assert rules == [
        'iifname "node-1" drop',
        'oifname "node-1" drop',
        'iifname "node-2" numgen random mod 10000 < 2500 drop',
        'oifname "node-2" numgen random mod 10000 < 2500 drop',
    ]


@pytest.mark.netns
@pytest.mark.parametrize("nodes", [2, 10])
def test_everybody_reaches_everybody_and_nothing_is_left(tmp_path: Path, nodes: int) -> None:
    before = _links()
    with open_lan(tmp_path, nodes) as (lan, run, _):
        hosts = [lan.control_plane, *lan.nodes.values()]
        assert all(reaches(lan.client, h.ipv4) and reaches(lan.client, h.ipv6) for h in hosts)
        assert _links() == before, "the lab's interfaces belong to the lab"
        run_id = run.id
    assert _namespaces(run_id) == []
    assert list(tmp_path.glob(f"*{run_id}*")) == []


@pytest.mark.netns
def test_hosts_have_the_kernels_defaults_whatever_ours_are(tmp_path: Path) -> None:
    with open_lan(tmp_path) as (lan, _, _):
        node = lan.nodes["node-1"]
        keys = (
            "ipv4/conf/eth0/rp_filter", "ipv4/conf/eth0/arp_ignore", "ipv6/conf/eth0/accept_dad",
            "ipv4/ip_forward", "ipv4/neigh/eth0/base_reachable_time_ms",
        )  # fmt: skip
        values = inside(node, "cat", *(f"/proc/sys/net/{key}" for key in keys)).stdout.split()
        assert values == ["0", "0", "0", "1", "30000"]
        assert inside(lan.client, "cat", "/proc/sys/net/ipv4/ip_forward").stdout == "0\n"
        addresses = inside(node, "ip", "-6", "-o", "addr", "show", "dev", "eth0").stdout
        assert "tentative" not in addresses
        assert "fe80::" in addresses


@pytest.mark.netns
def test_a_cut_port_takes_the_carrier_and_a_silent_one_does_not(tmp_path: Path) -> None:
    with open_lan(tmp_path) as (lan, _, _):
        node = lan.nodes["node-1"]

        def carrier() -> str:
            return inside(node, "ip", "-br", "link", "show", "dev", "eth0").stdout.split()[1]

        lan.cut("node-1")
        assert not pings(lan.client, node.ipv4)
        eventually(lambda: carrier() in ("DOWN", "LOWERLAYERDOWN"), "loss of the carrier")
        lan.heal("node-1")
        eventually(lambda: pings(lan.client, node.ipv4), "the healed link")
        lan.cut("node-1", silent=True)
        assert not pings(lan.client, node.ipv4)
        assert carrier() == "UP"
        assert reaches(lan.client, lan.nodes["node-2"].ipv6), "others are not affected"
        lan.heal("node-1")
        assert reaches(lan.client, node.ipv6)


@pytest.mark.netns
def test_a_lossy_port_loses_some_and_not_all(tmp_path: Path) -> None:
    with open_lan(tmp_path) as (lan, _, _):
        node = lan.nodes["node-1"]
        assert reaches(lan.client, node.ipv4)  # neighbours are known: only echoes get lost from here
        lan.lose("node-1", 0.5)
        out = inside(lan.client, "ping", "-q", "-c", "200", "-i", "0.005", "-W", "0.2", str(node.ipv4)).stdout
        received = int(out.split(" received")[0].split()[-1])
        # a quarter comes back; 200 tries put the chance of leaving these bounds below 1e-9
        assert 15 < received < 95
        lan.lose("node-1", 1.0)
        assert not pings(lan.client, node.ipv4)
        with pytest.raises(LabError, match=r"share: 1\.5 is not between 0 and 1"):
            lan.lose("node-1", 1.5)


@pytest.mark.netns
def test_a_node_without_power_forgets_everything_but_who_it_is(tmp_path: Path) -> None:
    with open_lan(tmp_path) as (lan, _, processes):
        node = lan.nodes["node-1"]
        sleeper = processes.start("sleeper", ["sleep", "60"], namespace=node.netns)
        netns.nft(node.netns, "table ip something {}\n")
        eventually(lambda: sleeper.pid in set(netns.members(node.netns)), "the process in its namespace")
        lan.power_off("node-1")
        assert sleeper.popen.wait(timeout=PATIENCE) == -signal.SIGKILL
        assert not lan.is_on("node-1")
        assert not pings(lan.client, node.ipv4)
        lan.power_on("node-1")
        eventually(lambda: pings(lan.client, node.ipv4), "the node after its boot")
        assert node.mac in inside(node, "ip", "link", "show", "dev", "eth0").stdout
        assert inside(node, "nft", "list", "ruleset").stdout == ""


@pytest.mark.netns
def test_frozen_processes_stand_still_and_go_on(tmp_path: Path) -> None:
    with open_lan(tmp_path) as (lan, _, processes):
        node = lan.nodes["node-1"]
        process = processes.start("sleeper", ["sleep", "60"], namespace=node.netns)
        eventually(lambda: process.pid in set(netns.members(node.netns)), "the process in its namespace")

        def state() -> str:
            return Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]

        assert lan.freeze("node-1") == 1
        eventually(lambda: state() == "T", "the stop")
        assert lan.thaw("node-1") == 1
        eventually(lambda: state() == "S", "the continuation")


def test_an_unknown_host_is_named() -> None:
    from crier.lab.lan import Lan

    with pytest.raises(LabError, match="no host 'node-7'"):
        Lan(Run("abcdef"), 3).host("node-7")


@pytest.mark.netns
def test_a_cut_leaves_the_fabric_and_a_power_off_does_not(tmp_path: Path) -> None:
    with open_lan(tmp_path, 2, fabric=True) as (lan, _, _):
        node, other = lan.nodes.values()
        assert reaches(lan.client, node.ipv4)
        assert not pings(lan.client, node.internal4)
        for cut in ({"silent": True}, {"silent": False}):
            lan.cut(node.name, **cut)
            assert not pings(lan.client, node.ipv4)
            assert reaches(other, node.internal4)
            assert reaches(lan.control_plane, node.internal6)
            lan.heal(node.name)
            eventually(lambda: pings(lan.client, node.ipv4), "the healed link")
        lan.power_off(node.name)
        assert not pings(other, node.internal4)
        lan.power_on(node.name)
        eventually(lambda: pings(other, node.internal4), "the node after its boot")
