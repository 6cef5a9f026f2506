"""Push/pull and the commands: join, leave, look on."""

import random

import pytest

from memberlist.config import Config
from memberlist.core import Core
from memberlist.delegate import Delegate
from memberlist.effects import BroadcastFinished, StartPushPull
from memberlist.errors import JoinError
from memberlist.events import Node
from memberlist.messages import (
    VSN,
    Ack,
    Dead,
    Ping,
    PushNodeState,
    PushPull,
    State,
    Suspect,
    User,
)
from tests.memberlist.one_core import SOMEBODY, make, meet, only, parts, run


def theirs(*names: str, vsn: bytes = VSN, state: int = State.ALIVE, user: bytes = b"") -> PushPull:
    states = (PushNodeState(n, bytes((10, 0, 1, i)), 7946, 1, state, None, vsn) for i, n in enumerate(names))
    return PushPull(True, tuple(states), user)


def test_the_answer_to_a_push_pull_is_what_we_knew_before_it() -> None:
    core = meet(make(), "x")
    answer, _ = core.serve(theirs("new"), 1.0)
    assert isinstance(answer, PushPull)
    assert {node.name for node in answer.nodes} == {"me", "x"}
    assert set(core.table.members) == {"me", "x", "new"}


def test_user_state_goes_both_ways_and_empty_is_not_delivered() -> None:
    merged: list[tuple[bytes, bool]] = []

    class States(Delegate):
        def local_state(self, join: bool) -> bytes:
            return b"mine"

        def merge_remote_state(self, state: bytes, join: bool) -> None:
            merged.append((state, join))

    core = make(States())
    answer, _ = core.serve(theirs("x", user=b"yours"), 1.0)
    core.merge(theirs("x"), join=False, now=1.0)
    assert isinstance(answer, PushPull)
    assert answer.user_state == b"mine"
    assert merged == [(b"yours", True)]


def test_a_refused_merge_changes_nothing_but_was_answered() -> None:
    class Strict(Delegate):
        def refuse_merge(self, nodes: tuple[Node, ...]) -> str | None:
            return "not these" if any(node.name == "bad" for node in nodes) else None

    core = make(Strict())
    with pytest.raises(JoinError, match="merge refused: not these"):
        core.merge(theirs("x", "bad"), join=True, now=1.0)
    answer, effects = core.serve(theirs("bad"), 1.0)
    assert isinstance(answer, PushPull)
    assert (effects, set(core.table.members)) == ([], {"me"})
    core.merge(theirs("bad"), join=False, now=1.0)
    assert set(core.table.members) == {"me", "bad"}, "only a join is asked about"


@pytest.mark.parametrize(
    ("vsn", "fits"),
    [
        ((1, 5, 2, 0, 0, 0), True),
        ((1, 5, 5, 0, 0, 0), True),
        ((3, 5, 3, 0, 0, 0), False),
        ((1, 1, 1, 0, 0, 0), False),
        ((1, 5, 2, 2, 5, 4), False),
        ((1, 5, 2, 0, 3, 1), False),
        ((1, 5, 6, 0, 0, 0), False),
    ],
    ids=str,
)
def test_versions_that_do_not_fit_are_refused_by_both_sides(vsn: tuple[int, ...], fits: bool) -> None:
    one, other = make(), make(protocol_version=2)
    if fits:
        one.merge(theirs("x", vsn=bytes(vsn)), join=False, now=1.0)
        assert "x" in one.table.members
    else:
        with pytest.raises(JoinError, match="version"):
            one.merge(theirs("x", vsn=bytes(vsn)), join=False, now=1.0)
        assert set(one.table.members) == {"me"}
    assert set(other.table.members) == {"me"}


def test_tcp_pings_are_answered_by_name() -> None:
    core = make()
    assert core.serve(Ping(5, "me"), 1.0) == (Ack(5), [])
    assert core.serve(Ping(5, "other"), 1.0) == (None, [])
    assert core.serve(User(b""), 1.0) == (None, [])


def test_leaving_is_gossiped_and_answered_for() -> None:
    core = meet(make(), "a", "b")
    token, effects = core.leave(1.0)
    assert BroadcastFinished(token) not in effects
    effects = run(core, 1.0, 5.0)
    assert ("10.0.0.2", Dead(1, "me", "me")) in parts(effects)
    assert BroadcastFinished(token) in effects
    assert only(Ack, core.handle_packet([Ping(1, "me")], SOMEBODY, 5.0)) == [("10.9.9.9", Ack(1))]
    token, effects = core.leave(6.0)
    assert BroadcastFinished(token) in effects, "said before"


def test_leaving_alone_is_done_at_once() -> None:
    token, effects = make().leave(1.0)
    assert BroadcastFinished(token) in effects


def test_an_observer_probes_nobody_and_keeps_its_opinion_to_itself() -> None:
    core = meet(make(observe=True, watch=True, push_pull_interval=0), "x", "y")
    assert run(core, 0.0, 60.0) == []
    core.handle_packet([Suspect(1, "x", "y")], SOMEBODY, 60.0)
    effects = run(core, 60.0, 80.0)
    assert {type(m) for _, m in parts(effects)} == {Suspect}, "what another says is passed on"
    assert core.table.members["x"].state is State.DEAD
    assert only(Ping, effects) == []


def test_push_pulls_go_to_one_living_member() -> None:
    core = meet(make(probe_interval=0), "x", "y")
    core.handle_packet([Dead(1, "y", "z")], SOMEBODY, 0.0)
    effects = run(core, 0.0, 200.0)
    started = [e for e in effects if isinstance(e, StartPushPull)]
    assert 5 <= len(started) <= 7
    assert {e.to for e in started} == {("10.0.0.2", 7946)}


def test_nodes_that_start_together_do_not_run_in_step() -> None:
    firsts = set()
    for seed in range(20):
        core = Core(Config.lan(name="me"), address="10.0.0.1", port=1, now=0.0, rng=random.Random(seed))
        firsts.add(round(core._probe_at, 3))
    assert len(firsts) > 15
