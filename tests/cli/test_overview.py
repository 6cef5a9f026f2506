"""What is summed up of a cluster: health of each address, who moved, what is wrong."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crier.inspect import words
from crier.inspect.gather import bounded_skew
from crier.inspect.moves import Move, moves
from crier.inspect.overview import Overview, VipLine, overview
from crier.inspect.records import Event, ProgramPod, flag_of
from crier.inspect.words import BadAnswer, HostWords, SpeakerWords, VipWords, WhyWords
from crier.kube.model.errors import DecodeError
from crier.kube.model.states import ServiceBgpStatus
from speaker import orders
from speaker.orders import Hello, Members, MemberView
from speaker.planner import documents
from speaker.planner.plan import Rules, plan
from speaker.planner.reflex import Reflex
from speaker.planner.routes import Routes
from speaker.planner.view import Configuration, View, by_service
from tests.cli.pictures import NODES, event, picture, taken

VIP = "10.20.30.1"


def only(found: Overview) -> VipLine:
    (vip,) = found.vips
    return vip


def test_a_cluster_where_all_is_well() -> None:
    found = overview(picture())
    vip = only(found)
    assert (vip.health, vip.pool, vip.protocols) == ("ok", "default", ("layer2",))
    assert vip.owner == vip.candidates[0]
    assert vip.answering == (vip.owner,)
    assert found.problems == ()
    assert found.healthy
    assert [(line.name, line.state, line.reachable_for, line.asked) for line in found.nodes] == [
        (name, "alive", 2, 2) for name in NODES
    ]
    assert sum(line.vips for line in found.nodes) == 1


@pytest.mark.parametrize(
    ("answering", "health"),
    [((), "nobody"), (("iris1", "iris2"), "several"), (NODES, "several")],
)
def test_who_answers_decides_the_health(answering: tuple[str, ...], health: str) -> None:
    found = overview(picture(answering={VIP: answering}))
    assert only(found).health == health
    assert not found.healthy
    assert any(VIP in problem.about for problem in found.problems)


def test_another_than_the_owner_is_a_move_under_way() -> None:
    owner = only(overview(picture())).owner
    other = next(name for name in NODES if name != owner)
    found = overview(picture(answering={VIP: (other,)}))
    assert only(found).health == "moving"
    assert found.healthy


def test_a_stranger_with_the_address() -> None:
    seen = picture()
    first = seen.speakers[0]
    assert first.says is not None
    claimed = tuple(
        VipWords(
            each.address,
            each.services,
            each.candidates,
            each.owner,
            each.answering,
            claimed_by="02:00:00:00:00:09",
        )
        for each in first.says.vips
    )
    first = replace(first, says=msgspec.structs.replace(first.says, vips=claimed))
    found = overview(replace(seen, speakers=(first, *seen.speakers[1:])))
    assert only(found).health == "conflict"
    assert "02:00:00:00:00:09" in found.problems[0].text


def test_a_dead_node_is_a_problem_and_its_address_is_well_elsewhere() -> None:
    owner = only(overview(picture())).owner
    assert owner
    found = overview(picture(dead=[owner]))
    assert only(found).owner not in (owner, "")
    assert only(found).health == "ok"
    assert {problem.about for problem in found.problems} == {owner}
    assert not found.healthy


def test_when_no_speaker_can_be_asked_nothing_is_claimed() -> None:
    found = overview(picture(silent=NODES))
    assert only(found).health == "unknown"
    assert {problem.severity for problem in found.problems} == {"warning"}


def test_a_service_without_an_address_and_why() -> None:
    refusal = event(
        "default/db", "AllocationFailed", 'Failed to allocate IP for "default/db": no available IPs', "2"
    )
    found = overview(picture({"db": ()}, events=(refusal,)))
    (problem,) = found.problems
    assert (problem.about, problem.severity) == ("default/db", "error")
    assert "no available IPs" in problem.text


def test_what_could_not_be_read_is_said() -> None:
    found = overview(
        picture(gaps={"nodes": "forbidden"}, faults={"Service default/x": "spec: not an object"})
    )
    assert {(problem.about, problem.severity) for problem in found.problems} == {
        ("nodes", "warning"),
        ("Service default/x", "error"),
    }
    assert found.problems[0].severity == "error", "the worst first"


# ------------------------------------------------------------------------------------------------ moves


def test_moves_say_from_whom() -> None:
    events = [
        taken("default/web", "a", "2026-01-01T00:00:01Z"),
        taken("default/web", "b", "2026-01-01T00:00:05Z"),
    ]
    assert moves(events) == (
        Move("2026-01-01T00:00:05Z", "default/web", "b", "layer2", "a"),
        Move("2026-01-01T00:00:01Z", "default/web", "a", "layer2", ""),
    )


def test_an_event_that_was_counted_up_is_two_moves() -> None:
    events = [
        taken("default/web", "a", "2026-01-01T00:00:09Z", first="2026-01-01T00:00:01Z"),
        taken("default/web", "b", "2026-01-01T00:00:05Z"),
    ]
    assert [move.node for move in moves(events)] == ["a", "b", "a"]


def test_of_one_second_the_owner_comes_last() -> None:
    at = "2026-01-01T00:00:05Z"
    events = [taken("default/web", "a", at), taken("default/web", "b", at)]
    for owner in "ab":
        assert moves(events, {"default/web": owner})[0].node == owner


def test_of_an_earlier_second_the_order_is_that_of_writing() -> None:
    """Who has it now had it for a moment then, too; that must not hide that it came back."""
    then, now = "2026-01-01T00:00:01Z", "2026-01-01T00:00:09Z"
    events = [
        taken("default/web", "a", then, revision=1),
        taken("default/web", "b", then, revision=2),
        taken("default/web", "a", now, revision=3),
    ]
    assert [move.node for move in moves(events, {"default/web": "a"})] == ["a", "b", "a"]


@given(st.text(), st.text(max_size=40))
def test_no_message_can_do_worse_than_be_no_move(message: str, at: str) -> None:
    assert len(moves([event("default/web", "nodeAssigned", message, at)])) <= 1


# ------------------------------------------------------------------------------ what comes from outside


@given(st.binary())
def test_no_octets_can_do_worse_than_a_bad_answer(data: bytes) -> None:
    for form in (SpeakerWords, WhyWords, HostWords):
        with suppress(BadAnswer):
            words.decode(data, form)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


METADATA = JSON | st.just({"name": "x", "namespace": "y"})
FIELDS = ("spec", "status", "involvedObject", "source", "count", "message", "lastTimestamp")


@given(st.fixed_dictionaries({"metadata": METADATA}, optional=dict.fromkeys(FIELDS, JSON)))
def test_no_object_can_do_worse_than_a_decode_error(thing: object) -> None:
    data = msgspec.json.encode(thing)
    for decode in (Event.decode, ProgramPod.decode, ServiceBgpStatus.decode):
        with suppress(DecodeError):
            decode(data)


def test_what_a_speaker_writes_is_what_is_read() -> None:
    """The speaker's own document through our decoder: the two have drifted apart when this fails."""
    seen = picture()
    view = View(
        seen.services,
        by_service(seen.slices),
        seen.nodes,
        Configuration.parse(seen.pools.values(), seen.l2_advertisements),
    )
    reflex = Reflex(Hello(orders.PROTOCOL, "iris1", 1, True, 1))
    reflex.note(Members((MemberView("iris2", "192.0.2.2", 7946, "alive", True),), True))
    made = plan(view, "iris1", Rules())
    status = documents.status(reflex, made, generation=1, version="9", synced=True, pids=(1, 2), uptime=3.0)
    found = words.decode(msgspec.json.encode(status), SpeakerWords)
    assert (found.node, found.version, found.planner.synced) == ("iris1", "9", True)
    assert [(each.name, each.reachable) for each in found.members] == [("iris2", True)]
    assert [(each.address, each.services) for each in found.vips] == [(VIP, ("default/web",))]
    why = words.decode(msgspec.json.encode(documents.why(reflex, made, "", Routes())), WhyWords)
    assert sorted(why.services["default/web"].candidates) == sorted(NODES)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--port=9121"], "9121"), (["-port", "9121"], "9121"), (["--port"], "true"), (["--ports=1"], ""),
        (["--port", "--x"], "true"), ([], ""), (["crier-speaker", "--x", "--port=1"], "1"),
    ],
)  # fmt: skip
def test_flags_are_read_as_the_programs_read_them(arguments: list[str], value: str) -> None:
    assert flag_of(arguments, "port") == value


@pytest.mark.parametrize(
    ("labels", "variable", "component"),
    [
        ({"app": "metallb", "component": "speaker"}, "", "speaker"),
        ({"app.kubernetes.io/component": "speaker"}, "METALLB_NODE_NAME", "speaker"),
        ({"app.kubernetes.io/component": "controller"}, "METALLB_POD_NAME", "controller"),
        ({"app.kubernetes.io/component": "controller"}, "POD_NAME", ""),
        ({"app": "other", "component": "controller"}, "", ""),
        ({}, "METALLB_POD_NAME", ""),
    ],
)
def test_a_pod_is_ours_by_the_labels_of_manifests_or_chart(
    labels: dict[str, str], variable: str, component: str
) -> None:
    pod = {
        "metadata": {"name": "x", "namespace": "y", "labels": labels},
        "spec": {"containers": [{"name": "c", "env": [{"name": variable}]}]},
    }
    assert ProgramPod.decode(msgspec.json.encode(pod)).component == component


@pytest.mark.parametrize(
    ("asked", "theirs", "answered", "skew"),
    [(10.0, 10.5, 11.0, 0.0), (10.0, 9.0, 11.0, -1.0), (10.0, 13.0, 11.0, 2.0), (10.0, 11.0, 11.0, 0.0)],
)
def test_a_clock_is_off_only_by_what_the_way_does_not_explain(
    asked: float, theirs: float, answered: float, skew: float
) -> None:
    assert bounded_skew(asked, theirs, answered) == skew
