"""The report's schema, the picture, the views, and the judgement of what is steady: all pure."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from crier.lab import timeline
from crier.lab.errors import LabError
from crier.lab.observe import GREEN, Member, Snapshot, SpeakerStatus, SpeakerVip, decode_status, trouble
from crier.lab.prober import Vip, VipRecord, VipState
from crier.lab.probes import Segment, Summary
from crier.lab.report import SCENARIOS, Phase, Report, ScenarioResult, VipResult, vip_result
from crier.lab.scenarios import choose_victim, describe, parse_scenarios
from crier.lab.services import CATALOGUE, parse_services
from crier.lab.timeline import Mark, Row
from crier.lab.view import CELLS, node_styles, strip, summary_table

VIP = Vip(CATALOGUE["web"], "172.30.0.200")


def _summary(**changes: Any) -> Summary:
    fields: dict[str, Any] = {
        "sent": 100, "lost": 0, "outage": 0.0, "outage_at": None, "recovered": True, "shared": 0.0,
        "answerers": (),
    }  # fmt: skip
    return Summary(**{**fields, **changes})


def _result(
    *, before: str = "node-1", after: tuple[str, ...] = ("node-2",), recovered: bool = True
) -> VipResult:
    record = VipRecord(
        probes=_summary(lost=40, outage=0.2051, recovered=recovered),
        requests=_summary(sent=20, lost=4),
        asks=_summary(outage=0.21, shared=0.02),
        announcements=((99.9, "node-2"), (100.2, "node-1"), (100.25, "node-2"), (101.3, "node-2")),
    )
    return vip_result(VIP, record, event_at=100.0, before=(before,), after=after)


def _report(*results: VipResult) -> Report:
    phase = Phase("kill -9 of the speaker on node-1", 12.5, 1.25, results, 0.4, 0.0)
    report = Report(3, {"seed": 1}, {"kernel": "6"})
    report.scenarios.append(ScenarioResult("kill", 1, "node-1", phase, phase))
    return report


def test_the_report_has_the_fields_that_are_documented(tmp_path: Path) -> None:
    document = json.loads(_report(_result()).write(tmp_path / "new").read_text(encoding="utf-8"))
    assert document["nodes"] == 3
    assert document["problems"] == []
    (scenario,) = document["scenarios"]
    assert (scenario["name"], scenario["run"], scenario["node"]) == ("kill", 1, "node-1")
    assert scenario["vips"] == [
        {
            "service": "default/web",
            "address": "172.30.0.200",
            "outage_ms": 205.1,
            "probes_sent": 100,
            "probes_lost": 40,
            "requests_sent": 20,
            "requests_lost": 4,
            "arp_gap_ms": 210.0,
            "two_owners_ms": 20.0,
            "gratuitous_ms": 250.0,
            "from": "node-1",
            "to": "node-2",
            "owners_after": ["node-2"],
            "recovered": True,
        }
    ]
    assert scenario["afterwards"]["vips"] == scenario["vips"]
    documented = Path(__file__).parents[2].joinpath("docs/demo.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in documented for name in (*document, *scenario, *scenario["vips"][0]))


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (_result(after=()), "no node answers"),
        (_result(after=("node-1", "node-2")), "node-1 and node-2 answer at once"),
        (_result(recovered=False), "the client never recovered"),
    ],
)
def test_what_went_wrong_is_a_problem_and_named(result: VipResult, complaint: str) -> None:
    problems = _report(result).problems()
    assert len(problems) == 2, "in the scenario and in its undoing"
    assert all(problem.endswith(complaint) and "172.30.0.200" in problem for problem in problems)
    assert complaint in describe(result)


def test_a_failure_of_the_demo_itself_is_a_problem_too() -> None:
    report = _report(_result())
    report.failure = "the API did not start"
    assert report.problems() == ["the API did not start"]


def test_a_vip_that_stays_has_no_gratuitous_frame_to_wait_for() -> None:
    stays = _result(before="node-2")
    assert stays.gratuitous_ms is None
    assert "stays on node-2" in describe(stays)
    assert "node-1 -> node-2" in describe(_result())


# ------------------------------------------------------------------------------------- the picture

_segments = st.lists(
    st.tuples(
        st.floats(0, 50),
        st.floats(0, 5),
        st.sets(st.sampled_from(["node-1", "node-2", "02:00", "<&>"]), max_size=2),
    ),
    max_size=20,
).map(lambda parts: [Segment(start, start + length, tuple(sorted(who))) for start, length, who in parts])


@given(_segments, _segments, st.lists(st.floats(0, 50), max_size=9), st.integers(1, 10))
def test_whatever_happened_the_picture_is_well_formed(
    served: list[Segment], owners: list[Segment], marks: list[float], nodes: int
) -> None:
    names = [f"node-{n}" for n in range(1, nodes + 1)]
    rows = [Row("web", "172.30.0.200", served, owners), Row("<&>", "fd00::1", owners, served)]
    picture = timeline.render(
        names, rows, [Mark(at, "a < b & c", {"172.30.0.200": 205.0}) for at in sorted(marks)], 0.0, 50.0
    )
    root = ElementTree.fromstring(picture)
    height = float(root.attrib["height"])
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(bar.attrib["width"]) > 0
        assert 0 <= float(bar.attrib["x"]) <= timeline.WIDTH
        assert 0 <= float(bar.attrib["y"]) <= height


def test_an_outage_is_visible_and_its_length_written() -> None:
    served = [Segment(0, 10, ("node-1",)), Segment(10, 10.2, ()), Segment(10.2, 20, ("node-2",))]
    picture = timeline.render(
        ["node-1", "node-2"], [Row("web", "172.30.0.200", served, [])],
        [Mark(10.0, "power off", {"172.30.0.200": 200.0})], 0.0, 20.0,
    )  # fmt: skip
    assert ">200 ms</text>" in picture
    assert ">1</text>" in picture
    reds = [part for part in picture.splitlines() if timeline.DOWN in part and "<rect" in part]
    assert len(reds) == 3, "in the legend, in the overview and magnified"


@pytest.mark.parametrize(("change_at", "span"), [(10.1, 1.0), (13.0, 3.6), (19.9, 10.0), (None, 1.0)])
def test_the_magnified_part_shows_what_changed(change_at: float | None, span: float) -> None:
    changes = [Segment(0, 30, ("node-1",))]
    if change_at is not None:
        changes = [Segment(0, change_at, ("node-1",)), Segment(change_at, 30, ("node-2",))]
    row = Row("web", "172.30.0.200", changes, [])
    assert timeline.zoom_span([row], Mark(10.0, "", {}), 25.0) == pytest.approx(span)


# --------------------------------------------------------------------------------------- the views


def test_the_little_time_line_shows_losses() -> None:
    styles = node_styles(["node-1", "node-2"])
    served = [Segment(70, 95, ("node-1",)), Segment(95, 95.2, ()), Segment(95.2, 101, ("node-2",))]
    text = strip(served, 100.0, styles)
    assert len(text.plain) == CELLS
    assert text.plain.count("▒") == 1
    assert text.plain.endswith("█" * 9)


def test_the_summary_names_every_vip_and_event() -> None:
    out = io.StringIO()
    Console(file=out, width=130, no_color=True).print(summary_table(_report(_result())))
    shown = out.getvalue()
    for text in ("172.30.0.200", "node-1", "node-2", "205", "40/100", "4/20", "kill"):
        assert text in shown


# ------------------------------------------------------------------------------------- what is steady

NODES = frozenset({"node-1", "node-2"})


def _status(
    node: str, *, owner: str = "node-1", reach: frozenset[str] = NODES, **changes: Any
) -> SpeakerStatus:
    fields: dict[str, Any] = {
        "node": node,
        "joined": True,
        "synced": True,
        "members": tuple(Member(name, "alive", name in reach) for name in sorted(NODES | reach)),
        "vips": {VIP.address: SpeakerVip(VIP.address, owner, owner == node)},
    }
    return SpeakerStatus(**{**fields, **changes})


def _snapshot(
    speakers: Mapping[str, SpeakerStatus | None] | None = None,
    owners: tuple[str, ...] = ("node-1",),
    good_since: float | None = 0.0,
) -> Snapshot:
    both = {node: _status(node) for node in sorted(NODES)}
    return Snapshot(
        100.0,
        {**both, **(speakers or {})},
        {VIP.address: VipState(VIP.address, good_since, owners, "node-1")},
    )


def test_a_steady_lab_has_no_trouble() -> None:
    assert trouble(_snapshot(), NODES) is None


@pytest.mark.parametrize(
    ("snapshot", "live", "complaint"),
    [
        (_snapshot({"node-2": None}), NODES, "node-2 gives no status yet"),
        (_snapshot({"node-2": _status("node-2", joined=False)}), NODES, "node-2 is still joining"),
        (_snapshot({"node-2": _status("node-2", synced=False)}), NODES, "node-2 is still joining"),
        (
            _snapshot({"node-2": _status("node-2", reach=frozenset({"node-2"}))}),
            NODES,
            "does not reach node-1",
        ),
        (_snapshot(), frozenset({"node-1"}), "still believes in node-2"),
        (_snapshot(owners=()), NODES, "nobody answers"),
        (_snapshot(owners=("node-1", "node-2")), NODES, "node-1 and node-2 answer"),
        (_snapshot(good_since=None), NODES, "get lost"),
        (_snapshot(good_since=100.0 - GREEN / 2), NODES, "get lost"),
        (_snapshot({"node-2": _status("node-2", owner="node-2")}), NODES, "node-2 thinks"),
        (_snapshot({"node-2": _status("node-2", vips={})}), NODES, "knows nothing of"),
        (
            _snapshot(
                {"node-2": _status("node-2", vips={VIP.address: SpeakerVip(VIP.address, "node-1", True)})}
            ),
            NODES,
            "node-2 still answer",
        ),
    ],
)
def test_each_thing_amiss_is_told(snapshot: Snapshot, live: frozenset[str], complaint: str) -> None:
    said = trouble(snapshot, live)
    assert said is not None
    assert complaint in said


def test_a_dead_nodes_answer_is_trouble() -> None:
    alone = _status("node-2", reach=frozenset({"node-2"}))
    said = trouble(_snapshot({"node-2": alone}), frozenset({"node-2"}))
    assert said == "node-1 still answers for 172.30.0.200"


@pytest.mark.parametrize(
    ("owners", "bfd", "live", "complaint"),
    [
        (("node-1", "node-2"), ("Up",), NODES, None),
        (("node-1",), ("Up",), NODES, "the router does not send packets for 172.30.0.200 to node-2"),
        ((), ("Up",), NODES, "the router does not send packets for 172.30.0.200 to node-1, node-2"),
        (("node-1", "node-2"), (), NODES, "node-1 and the router do not watch each other yet"),
        (("node-1", "node-2"), ("Down",), NODES, "node-1 and the router do not watch each other yet"),
        (
            ("node-1", "node-2"),
            ("Up",),
            frozenset({"node-2"}),
            "the router still sends packets for 172.30.0.200 to node-1",
        ),
    ],
)
def test_behind_a_router_all_that_live_are_to_be_sent_packets(
    owners: tuple[str, ...], bfd: tuple[str, ...], live: frozenset[str], complaint: str | None
) -> None:
    """Whoever answers, and whoever the speakers think it is: nobody is asked in layer 2."""
    speakers = {
        node: _status(node, reach=live, owner="", bfd=bfd) if node in live else None for node in NODES
    }
    assert trouble(replace(_snapshot(speakers, owners), routed=True), live) == complaint


def test_a_status_is_decoded_as_documented() -> None:
    document = {
        "node": "node-1", "version": "0.1.0", "joined": True, "orders": {"generation": 3},
        "members": [{"name": "node-1", "port": 1, "state": "dead", "reachable": True}
        ],
        "vips": [{"address": VIP.address, "services": ["default/web"], "owner": None, "answering": False}],
        "reflex": {}, "planner": {"pid": 7, "uptime": 1.0, "synced": True},
    }  # fmt: skip
    status = decode_status(document)
    assert status.reachable == {"node-1"}
    assert status.synced
    assert status.vips[VIP.address].owner is None
    with pytest.raises(LabError, match="members"):
        decode_status({"node": "node-1", "joined": True})


# --------------------------------------------------------------------------------------- the rest


def test_a_victim_owns_as_many_as_anybody() -> None:
    assert choose_victim(["node-3", "node-1", "node-3"], random.Random(1)) == "node-3"
    seen = {choose_victim(["node-1", "node-2", "node-3"], random.Random(seed)) for seed in range(50)}
    assert seen == {"node-1", "node-2", "node-3"}


def test_names_are_parsed_and_strangers_refused() -> None:
    assert parse_scenarios("all") == SCENARIOS
    assert parse_scenarios("kill, power-off") == ("kill", "power-off")
    with pytest.raises(LabError, match=r"'nap' is none of all, stop"):
        parse_scenarios("kill,nap")
    assert [service.name for service in parse_services("web6,web")] == ["web6", "web"]
    with pytest.raises(LabError, match="twice"):
        parse_services("web,web")


def test_no_two_services_want_the_same_port_of_a_node() -> None:
    ports = [(p.protocol, p.target) for service in CATALOGUE.values() for p in service.ports]
    assert len(set(ports)) == len(ports)
