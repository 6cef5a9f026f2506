"""The doctor's checks: what is well passes all, and each illness fails the one that is about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from crier.cli import _checks as checks
from crier.cli._checks import Check
from crier.inspect.gather import Picture
from crier.inspect.words import HailWords, InterfaceWords
from tests.cli.pictures import NODES, host, picture
from tests.speaker.planner.builders import ad_object, node, pool_object


def found(seen: Picture, kube_proxy: str = "mode: iptables") -> list[Check]:
    return [*checks.of_cluster(seen), *checks.of_nodes(seen, kube_proxy)]


def states(some: list[Check]) -> dict[str, str]:
    """The worst state of each check."""
    worst: dict[str, str] = {}
    for each in some:
        order = ("ok", "skipped", "warn", "fail")
        worst[each.name] = max(worst.get(each.name, "ok"), each.state, key=order.index)
    return worst


def with_host(seen: Picture, name: str, **fields: Any) -> Picture:
    speakers = tuple(
        replace(each, host=host(name, **fields)) if each.node == name else each for each in seen.speakers
    )
    return replace(seen, speakers=speakers)


def test_what_is_well_passes_all() -> None:
    assert set(states(found(picture())).values()) == {"ok"}


def hailing(name: str, how: str) -> tuple[HailWords, ...]:
    return tuple(
        HailWords(other, "192.0.2.1", 7946, **{how: "no answer within 2 s"})
        for other in NODES
        if other != name
    )


IPVS = {"kube_proxy": "ipvs"}
TWO_NETWORKS = (InterfaceWords("eth0", True), InterfaceWords("eth1", True))
ILL_NODES: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "udp blocked": ({"gossip": hailing("iris1", "udp")}, "gossip-udp", "fail"),
    "tcp blocked": ({"gossip": hailing("iris1", "tcp")}, "gossip-tcp", "fail"),
    "ipvs, loose": (IPVS, "kube-proxy", "fail"),
    "ipvs, strict": (IPVS | {"sysctls": {"all": {"arp_ignore": 1, "arp_announce": 2}}}, "kube-proxy", "ok"),
    "rp_filter": ({"interfaces": TWO_NETWORKS, "sysctls": {"all": {"rp_filter": 1}}}, "rp_filter", "warn"),
    "rp_filter, loose": (
        {"interfaces": TWO_NETWORKS, "sysctls": {"all": {"rp_filter": 2}}},
        "rp_filter",
        "ok",
    ),
    "all excluded": ({"exclude_l2": (".*",)}, "interfaces", "fail"),
    "into the pods": ({"interfaces": (InterfaceWords("cali1", True),)}, "interfaces", "warn"),
}


@pytest.mark.parametrize("illness", ILL_NODES)
def test_an_ill_node(illness: str) -> None:
    fields, name, state = ILL_NODES[illness]
    seen = with_host(picture(), "iris1", **fields)
    some = found(seen, kube_proxy="")
    assert states(some)[name] == state
    for each in some:
        assert each.advice or each.state in ("ok", "skipped"), "what is wrong comes with what to do"


def test_a_speaker_that_takes_too_long_about_its_node_is_not_silent() -> None:
    seen = picture()
    first, *others = seen.speakers
    late = replace(first, host=None, host_silence="no answer within 3 s")
    checked = found(replace(seen, speakers=(late, *others)))
    (told,) = [each for each in checked if each.state != "ok"]
    assert (told.name, told.state) == ("nodes", "warn")
    assert first.node in told.text
    assert "--timeout" in told.advice


def test_strict_arp_in_the_file_and_not_on_the_node() -> None:
    seen = with_host(picture(), "iris1", **IPVS)
    assert states(found(seen, 'mode: "ipvs"\nipvs:\n  strictARP: true\n'))["kube-proxy"] == "warn"


def test_a_clock_that_is_off() -> None:
    seen = picture()
    speakers = tuple(
        replace(each, skew=skew) for each, skew in zip(seen.speakers, (0.0, -2.5, 60.0), strict=True)
    )
    clocks = [each for each in found(replace(seen, speakers=speakers)) if each.name == "clock"]
    assert [(each.state, each.text.split()[0]) for each in clocks] == [("warn", "iris2"), ("fail", "iris3")]


def test_a_dead_node_is_not_taken_for_a_closed_port() -> None:
    seen = with_host(picture(dead=["iris3"]), "iris1", gossip=hailing("iris1", "udp")[1:])
    assert states(found(seen))["gossip-udp"] != "fail"
    assert states(found(seen))["gossip"] == "warn"


ILL_CLUSTERS: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "no CRDs": ({"gaps": {"ipaddresspools": "Crier's CRDs are not installed"}}, "crds", "fail"),
    "no pools": ({"pools": {}}, "pools", "warn"),
    "bad pool": ({"pools": {"p": pool_object("p", "10.0.0.9-10.0.0.1")}}, "configuration", "fail"),
    "no advertisement": ({"l2_advertisements": ()}, "advertisements", "warn"),
    "other pool": ({"l2_advertisements": (ad_object(ipAddressPools=["x"]),)}, "advertisements", "warn"),
    "no controller": ({"controllers": ()}, "controller", "fail"),
    "no speakers": ({"speakers": ()}, "speakers", "fail"),
    "node in pool": (
        {"nodes": {"iris1": replace(node("iris1"), internal_ips=("10.20.30.9",))}}, "duplicates", "fail",
    ),
}  # fmt: skip


@pytest.mark.parametrize("illness", ILL_CLUSTERS)
def test_an_ill_cluster(illness: str) -> None:
    fields, name, state = ILL_CLUSTERS[illness]
    assert states(found(picture(**fields)))[name] == state


def test_two_services_with_one_address_they_do_not_share() -> None:
    assert states(found(picture({"a": ("10.20.30.1",), "b": ("10.20.30.1",)})))["duplicates"] == "fail"


def test_nobody_answers() -> None:
    assert states(found(picture(answering={})))["answers"] == "fail"
