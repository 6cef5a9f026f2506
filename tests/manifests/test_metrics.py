"""What /metrics prints is what MetalLB's dashboards and alerts read; our own read what is printed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from allocator.metrics import registry
from crier.ops.metrics import Registry
from speaker.orders import Gossip, Happened, Hello, Pulse
from speaker.planner import bgpmetrics
from speaker.planner.metrics import Metrics
from speaker.planner.reflex import Reflex
from tests.manifests.render import MANIFESTS

BOTH = {
    "metallb_k8s_client_updates_total": ("counter", ()),
    "metallb_k8s_client_update_errors_total": ("counter", ()),
    "metallb_k8s_client_config_loaded_bool": ("gauge", ()),
    "metallb_k8s_client_config_stale_bool": ("gauge", ()),
}
CONTROLLER = {
    **BOTH,
    "metallb_allocator_addresses_total": ("gauge", ("pool",)),
    "metallb_allocator_addresses_in_use_total": ("gauge", ("pool",)),
    "metallb_allocator_ipv4_addresses_total": ("gauge", ("pool",)),
    "metallb_allocator_ipv4_addresses_in_use_total": ("gauge", ("pool",)),
    "metallb_allocator_ipv6_addresses_total": ("gauge", ("pool",)),
    "metallb_allocator_ipv6_addresses_in_use_total": ("gauge", ("pool",)),
}
SPEAKER = {
    **BOTH,
    "metallb_speaker_announced": ("gauge", ("service", "protocol", "node", "ip")),
    "metallb_layer2_requests_received": ("counter", ("ip",)),
    "metallb_layer2_responses_sent": ("counter", ("ip",)),
    "metallb_layer2_gratuitous_sent": ("counter", ("ip",)),
}
NATIVE = {
    "metallb_bgp_session_up": ("gauge", ("peer",)),
    "metallb_bgp_updates_total": ("counter", ("peer",)),
    "metallb_bgp_announced_prefixes_total": ("gauge", ("peer",)),
    "metallb_bgp_pending_prefixes_total": ("gauge", ("peer",)),
}
_PEER_VRF = ("peer", "vrf")
FRR = {
    "metallb_bgp_session_up": ("gauge", _PEER_VRF),
    "metallb_bgp_announced_prefixes_total": ("gauge", _PEER_VRF),
    **{
        f"metallb_bgp_{name}": ("counter", _PEER_VRF)
        for name in [
            "updates_total",
            "opens_sent",
            "opens_received",
            "notifications_sent",
            "updates_total_received",
            "keepalives_sent",
            "keepalives_received",
            "route_refresh_sent",
            "total_sent",
            "total_received",
        ]
    },
    "metallb_bfd_session_up": ("gauge", _PEER_VRF),
    **{
        f"metallb_bfd_{name}": ("counter", _PEER_VRF)
        for name in [
            "control_packet_input",
            "control_packet_output",
            "echo_packet_input",
            "echo_packet_output",
            "session_up_events",
            "session_down_events",
            "zebra_notifications",
        ]
    },
}
"""MetalLB's, by name: kind and labels.  FRR's are the sidecar's there, ours here."""


def speaker(native: bool = True) -> Metrics:
    reflex = Reflex(Hello(protocol=1, node="n", generation=0, membership=True, planner_starts=1))
    return Metrics("n", reflex, more=bgpmetrics.families(list, native=native))


def controller() -> Registry:
    class Nobody:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} is read before anybody scrapes")

    return registry(Nobody(), lambda: 0)  # type: ignore[arg-type]


def table(found: Registry) -> Mapping[str, tuple[str, tuple[str, ...]]]:
    return {name: (family.kind, tuple(family.labels)) for name, family in found._families.items()}


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (table(controller()), CONTROLLER),
        (table(speaker().registry), SPEAKER | NATIVE),
        (table(speaker(native=False).registry), SPEAKER | FRR),
    ],
    ids=["controller", "speaker, native", "speaker, frr"],
)
def test_metallbs_metrics(
    found: Mapping[str, tuple[str, tuple[str, ...]]], wanted: Mapping[str, tuple[str, tuple[str, ...]]]
) -> None:
    assert {name: found.get(name) for name in wanted} == wanted
    beyond = {name for name in found if not name.startswith("crier_")} - set(wanted)
    assert all(name.startswith(("metallb_bgp_", "metallb_bfd_", "process_")) for name in beyond), beyond


def test_ours_are_under_our_name_and_explained() -> None:
    for found in (controller(), speaker().registry):
        for family in found._families.values():
            assert family.name.startswith(("metallb_", "crier_", "process_"))
            assert family.help.endswith(".")


def test_failovers_are_counted_with_their_time() -> None:
    found = speaker()
    for at, what in [
        (9.0, "took_over"),  # nobody was lost
        (10.0, "member_unreachable"),
        (10.25, "took_over"),
        (10.5, "took_over"),
        (99.0, "took_over"),  # long after
        (98.0, "member_left"),
        (97.0, "took_over"),  # a clock set back
    ]:
        found.note(Happened(at=at, what=what, subject="x"))
    assert found.failovers.value() == 2
    assert found.failover_seconds.value() == pytest.approx(0.75)
    assert found.happened.value("took_over") == 5
    found.note(Happened(at=200.0, what="took_over", subject="x"))
    found.note(Happened(at=200.001, what="member_unreachable", subject="x"))  # told after it was acted upon
    assert found.failovers.value() == 3
    assert found.failover_seconds.value() == pytest.approx(0.75)
    assert (
        'crier_speaker_happenings_total{what="conflict"} 0' in found.registry.render().decode().splitlines()
    )


def test_the_watchers_opinions_are_told_by_member() -> None:
    reflex = Reflex(Hello(protocol=1, node="n", generation=0, membership=True, planner_starts=1))
    found = Metrics("n", reflex)
    assert b"crier_speaker_watch_up" not in found.registry.render()  # nothing is known yet
    packets = {"received": 9, "dropped": 2, "sent": 8, "unsent": 0}
    gossip = Gossip({"a": False, "b": True}, False, 3, 70, 1, 0, packets)
    reflex.note(Pulse(1.0, 0.0, 0.0, 0, 0, gossip))
    printed = found.registry.render().decode().splitlines()
    assert {line for line in printed if line.startswith("crier_speaker_watch_up")} == {
        'crier_speaker_watch_up{member="a"} 1',
        'crier_speaker_watch_up{member="b"} 0',
    }
    assert 'crier_speaker_gossip_packets_total{what="dropped"} 2' in printed
    assert "crier_speaker_gossip_probes_failed_total 1" in printed
    assert "crier_speaker_gossip_alone 0" in printed


# ------------------------------------------------------------------------------ alerts and dashboard

PROMETHEUS = MANIFESTS / "overlays" / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text(encoding="utf-8"))["spec"]
DASHBOARD = json.loads((PROMETHEUS / "dashboard.json").read_text(encoding="utf-8"))


def expressions() -> Iterator[tuple[str, str]]:
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


@pytest.mark.parametrize(("name", "expression"), [*expressions()])
def test_it_reads_what_is_printed(name: str, expression: str) -> None:
    printed = {**table(controller()), **table(speaker().registry)}
    read = set(re.findall(r"\b(?:metallb|crier)_[a-z0-9_]+", expression))
    assert read <= printed.keys(), f"{name} reads what nobody prints"
    assert read
    own = {"pod", "job", "namespace"}
    labels = {label for metric in read for label in printed[metric][1]} | own
    for grouped in re.findall(r"\b(?:by|on) ?\(([a-z, ]*)\)", expression):
        assert {each.strip() for each in grouped.split(",") if each.strip()} <= labels, expression


def test_metallbs_alerts_are_all_there() -> None:
    alerts = {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}
    assert alerts >= {
        "MetalLBStaleConfig", "MetalLBConfigNotLoaded", "MetalLBAddressPoolExhausted",
        "MetalLBBGPSessionDown",
        *(f"MetalLBAddressPoolUsage{percent}Percent" for percent in (75, 85, 95)),
    }  # fmt: skip


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program is not None, "promtool (Debian package prometheus) is part of the setup"
    return subprocess.run(
        [program, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


TIMES: dict[str, dict[str, Any]] = {
    "CrierMembersMissing": {
        "series": {
            'crier_speaker_members_reachable{pod="a"}': "3x20",
            'crier_speaker_members_reachable{pod="b"}': "3x20",
            'crier_speaker_members_reachable{pod="c"}': "2x20",
        },
        "labels": {"pod": "c", "severity": "warning"},
    },
    "CrierAddressConflict": {
        "series": {'crier_vip_conflicts_total{ip="192.0.2.1",mac="m",pod="a"}': "0+1x20"},
        "labels": {"ip": "192.0.2.1", "mac": "m", "severity": "critical"},
    },
    "CrierAddressConflict, once": {
        "series": {'crier_vip_conflicts_total{ip="192.0.2.1",mac="m",pod="a"}': "_x9 1x10"},
        "labels": {"ip": "192.0.2.1", "mac": "m", "severity": "critical"},
    },
    "CrierNoController": {"series": {}, "labels": {"severity": "critical"}},
    "CrierVipAmiss": {
        "series": {'crier_vip_amiss{ip="192.0.2.1",what="unanswered",pod="a"}': "1x20"},
        "labels": {"ip": "192.0.2.1", "what": "unanswered", "severity": "critical"},
    },
    "MetalLBAddressPoolExhausted": {
        "series": {
            'metallb_allocator_addresses_in_use_total{pool="p",pod="c"}': "4x20",
            'metallb_allocator_addresses_total{pool="p",pod="c"}': "4x20",
        },
        "labels": {"pool": "p", "severity": "critical"},
    },
    "MetalLBBGPSessionDown": {
        "series": {'metallb_bgp_session_up{peer="192.0.2.9:179",pod="a"}': "0x20"},
        "labels": {"peer": "192.0.2.9:179", "pod": "a", "severity": "critical"},
    },
}


@pytest.mark.parametrize("name", TIMES)
def test_alerts_fire(name: str, tmp_path: Path) -> None:
    """In Prometheus's own opinion, and with the labels that its text speaks of."""
    case, alert = TIMES[name], name.partition(",")[0]
    rule = next(rule for group in RULES["groups"] for rule in group["rules"] if rule["alert"] == alert)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES), encoding="utf-8")
    expected = {"exp_labels": case["labels"]}
    # texts are Go templates: filled in by hand here, for those that name labels
    texts = dict(rule["annotations"])
    for key, text in texts.items():
        for label, value in case["labels"].items():
            text = text.replace(f"{{{{ $labels.{label} }}}}", value)
        texts[key] = text
    expected["exp_annotations"] = texts
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in case["series"].items()],
                "alert_rule_test": [{"eval_time": "15m", "alertname": alert, "exp_alerts": [expected]}],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules_and_the_page(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES), encoding="utf-8")
    done = promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    page = speaker()
    page.conflict("192.0.2.1", '"\\\n')
    assert promtool("check", "metrics", stdin=page.registry.render().decode()).returncode in (0, 3)


def test_the_dashboard_is_one_grafana_can_load() -> None:
    assert DASHBOARD["uid"] == "crier"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            refs = [target["refId"] for target in panel["targets"]]
            assert refs == sorted(set(refs))
