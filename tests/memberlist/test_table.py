"""SWIM's rules, one by one; the names follow upstream's own tests where there is one."""

import dataclasses
import ipaddress
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist.config import Config
from memberlist.events import Conflict, Died, Joined, Left, MemberEvent, Refuted, Suspected, Updated
from memberlist.messages import Alive, Dead, PushNodeState, State, Suspect
from memberlist.table import MAX_INCARNATION, Consequence, LastWord, Refutation, Spread, Table

ME, X = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))


def make(**settings: Any) -> Table:
    table = Table(Config.lan(name="me", **settings), port=7946, rng=random.Random(1))
    table.start(ME, None, 0.0)
    return table


def alive(incarnation: int = 1, name: str = "x", addr: bytes = X, **changes: Any) -> Alive:
    return dataclasses.replace(Alive(incarnation, name, addr, 7946), **changes)


def events(told: list[Consequence]) -> list[MemberEvent]:
    return [one for one in told if not isinstance(one, Spread | Refutation | LastWord)]


def with_x(**settings: Any) -> Table:
    table = make(**settings)
    table.alive(alive(), 0.0)
    return table


# ----------------------------------------------------------------------------------------- alive


def test_we_are_the_first_member() -> None:
    table = Table(Config.lan(name="me"), port=7946, rng=random.Random(1))
    told = table.start(ME, b"meta", 5.0)
    assert told[0] == Spread("me", Alive(1, "me", ME, 7946, b"meta"))
    assert isinstance(told[1], Joined)
    assert (table.me.state, table.me.incarnation, table.me.meta) == (State.ALIVE, 1, b"meta")


def test_a_new_member_joins_and_is_spread() -> None:
    table = make()
    told = table.alive(alive(), 1.0)
    assert told[0] == Spread("x", alive())
    assert [type(event) for event in events(told)] == [Joined]
    assert table.members["x"].to == ("10.0.0.2", 7946)


def test_alive_again_needs_a_higher_incarnation() -> None:
    table = with_x()
    table.suspect(Suspect(1, "x", "y"), 1.0)
    assert table.alive(alive(1), 2.0) == []
    assert table.members["x"].state is State.SUSPECT
    told = table.alive(alive(2), 3.0)
    assert [type(event) for event in events(told)] == [Refuted]
    assert table.members["x"].changed_at == 3.0
    assert table.next_deadline() == float("inf")


def test_a_higher_incarnation_while_alive_is_no_event() -> None:
    table = with_x()
    told = table.alive(alive(2), 9.0)
    assert told == [Spread("x", alive(2))]
    assert table.members["x"].changed_at == 0.0


def test_changed_metadata_is_an_update() -> None:
    table = with_x()
    assert [type(event) for event in events(table.alive(alive(2, meta=b"new"), 1.0))] == [Updated]
    assert table.members["x"].meta == b"new"


@pytest.mark.parametrize(
    "change",
    [
        {"vsn": b"\x01"},
        {"vsn": b"\x01\x05\x02"},
        {"vsn": bytes(6)},
        {"vsn": bytes((5, 1, 2, 0, 0, 0))},
        {"addr": b""},
        {"addr": b"abc"},
        {"meta": bytes(513)},
        {"node": ""},
        {"incarnation": 0},
    ],
    ids=str,
)
def test_what_no_member_may_say(change: dict[str, Any]) -> None:
    table = make()
    assert table.alive(alive(**change), 1.0) == []
    assert set(table.members) == {"me"}


def test_no_versions_are_accepted_and_promise_nothing() -> None:
    table = make()
    table.alive(alive(vsn=b""), 1.0)
    assert not table.members["x"].speaks(3)


def test_port_0_is_ours() -> None:
    table = make()
    table.alive(alive(port=0), 1.0)
    assert table.members["x"].to == ("10.0.0.2", 7946)


def test_another_address_is_a_conflict_while_the_owner_lives() -> None:
    table = with_x()
    told = table.alive(alive(9, addr=bytes((10, 0, 0, 3))), 1.0)
    (conflict,) = told
    assert isinstance(conflict, Conflict)
    assert (conflict.node.name, conflict.node.address, conflict.other_address) == (
        "x",
        "10.0.0.2",
        "10.0.0.3",
    )
    assert table.members["x"].incarnation == 1
    assert table.alive(alive(9, addr=bytes((10, 0, 0, 3))), 1.5) == [], "reported once a second"
    assert table.alive(alive(9, addr=bytes((10, 0, 0, 4))), 1.6) != [], "a third claims it: news"
    assert table.alive(alive(9, addr=bytes((10, 0, 0, 4))), 2.7) != []


def test_our_own_name_elsewhere_is_a_conflict() -> None:
    table = make()
    (conflict,) = table.alive(alive(3, "me"), 1.0)
    assert isinstance(conflict, Conflict)
    assert conflict.node.name == "me"
    assert table.me.to == ("10.0.0.1", 7946)


def test_the_two_forms_of_an_address_are_two_addresses() -> None:
    table = with_x()
    mapped = bytes(10) + b"\xff\xff" + X
    assert isinstance(table.alive(alive(2, addr=mapped), 1.0)[0], Conflict)


def test_a_dead_name_is_reclaimed_only_after_its_time() -> None:
    table = with_x(dead_node_reclaim_time=10.0)
    table.dead(Dead(1, "x", "y"), 1.0)
    other = bytes((10, 0, 0, 3))
    assert isinstance(table.alive(alive(1, addr=other), 5.0)[0], Conflict)
    told = table.alive(alive(1, addr=other), 12.0)
    assert [type(event) for event in events(told)] == [Joined]
    assert table.members["x"].to == ("10.0.0.3", 7946)


def test_who_left_may_return_from_anywhere_even_with_a_lower_incarnation() -> None:
    table = with_x()
    table.alive(alive(7), 0.5)
    table.dead(Dead(7, "x", "x"), 1.0)
    told = table.alive(alive(1, addr=bytes((10, 0, 0, 3))), 2.0)
    assert [type(event) for event in events(told)] == [Joined]
    assert table.members["x"].incarnation == 1


def test_networks_decide_who_is_seen() -> None:
    table = make(cidrs_allowed=(ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("fd00::/8")))
    assert table.alive(alive(addr=bytes((10, 0, 1, 2))), 1.0) == []
    assert table.alive(alive(addr=bytes((10, 0, 0, 2))), 1.0) != []
    assert table.alive(alive(name="v6", addr=ipaddress.ip_address("fd00::1").packed), 1.0) != []
    assert table.alive(alive(name="no", addr=ipaddress.ip_address("2001:db8::1").packed), 1.0) == []


def test_a_delegate_may_refuse() -> None:
    table = Table(
        Config.lan(name="me"),
        port=7946,
        rng=random.Random(1),
        refuse_alive=lambda node: "no" if node.name == "x" else None,
    )
    table.start(ME, None, 0.0)
    assert table.alive(alive(), 1.0) == []
    assert table.alive(alive(name="y"), 1.0) != []


# ---------------------------------------------------------------------------------- about ourselves


def test_other_metadata_about_us_is_refuted_and_ours_is_kept() -> None:
    table = make()
    (refutation,) = table.alive(alive(1, "me", ME, meta=b"wrong"), 1.0)
    assert refutation == Refutation(Alive(2, "me", ME, 7946, None))
    assert table.alive(alive(2, "me", ME), 1.0) == [], "our own words coming back"


def test_suspicion_and_death_of_ours_are_refuted_with_a_higher_incarnation() -> None:
    table = make()
    assert table.suspect(Suspect(1, "me", "y"), 1.0) == [Refutation(Alive(2, "me", ME, 7946, None))]
    assert table.dead(Dead(9, "me", "y"), 1.0) == [Refutation(Alive(10, "me", ME, 7946, None))]
    assert table.dead(Dead(10, "me", "me"), 1.0) == [Refutation(Alive(11, "me", ME, 7946, None))]
    assert table.suspect(Suspect(3, "me", "y"), 1.0) == []
    assert table.me.state is State.ALIVE


def test_the_incarnation_does_not_wrap() -> None:
    table = make()
    (refutation,) = table.suspect(Suspect(MAX_INCARNATION, "me", "y"), 1.0)
    assert isinstance(refutation, Refutation)
    assert refutation.message.incarnation == MAX_INCARNATION


def test_after_leaving_nothing_about_us_counts() -> None:
    table = with_x()
    told = table.leave(1.0)
    assert told[0] == Spread("me", Dead(1, "me", "me"))
    assert [type(event) for event in events(told)] == [Left]
    for rumour in (Dead(5, "me", "y"), Dead(5, "me", "me")):
        assert table.dead(rumour, 2.0) == []
    assert table.suspect(Suspect(5, "me", "y"), 2.0) == []
    assert table.alive(alive(9, "me", ME), 2.0) == []
    assert table.leave(3.0) == []


def test_an_update_raises_the_incarnation() -> None:
    table = make()
    told = table.update(b"new", 1.0)
    assert told[0] == Spread("me", Alive(2, "me", ME, 7946, b"new"))
    assert [type(event) for event in events(told)] == [Updated]


# ----------------------------------------------------------------------------------- suspect, dead


def test_a_suspect_dies_when_its_time_is_up() -> None:
    table = with_x()
    told = table.suspect(Suspect(1, "x", "y"), 10.0)
    assert told[0] == Spread("x", Suspect(1, "x", "y"))
    assert [type(event) for event in events(told)] == [Suspected]
    warning = [LastWord(table.members["x"], Suspect(1, "x", "me"))]
    for at in (13.5, 13.75):
        assert table.next_deadline() == at, "it is warned, twice, a probe's timeout before"
        assert table.tick(at - 0.01) == []
        assert table.tick(at) == warning
    assert table.next_deadline() == 14.0, "two members: nobody to confirm, the shortest time"
    assert table.tick(13.9) == []
    told = table.tick(14.0)
    assert told[0] == Spread("x", Dead(1, "x", "me"))
    assert [type(event) for event in events(told)] == [Died]


def test_nobody_dies_of_a_late_confirmation_without_a_last_word() -> None:
    table = with_x()
    for number in range(10):
        table.alive(alive(name=f"n{number}", addr=bytes((10, 0, 1, number))), 0.0)
    table.suspect(Suspect(1, "x", "me"), 0.0)
    for echo in ("n1", "n2"):
        table.suspect(Suspect(1, "x", echo), 10.0)
    assert table.next_deadline() < 10.0, "long overdue"
    warning = [LastWord(table.members["x"], Suspect(1, "x", "me"))]
    assert table.tick(10.0) == warning
    table.delay_suspicions(1.0)
    assert table.next_deadline() == 11.25
    assert table.tick(11.25) == warning
    assert table.tick(11.49) == []
    assert [type(event) for event in events(table.tick(11.5))] == [Died]


def test_whoever_refutes_the_last_word_lives() -> None:
    table = with_x()
    table.suspect(Suspect(1, "x", "y"), 10.0)
    assert table.tick(13.5) != []
    assert [type(event) for event in events(table.alive(alive(2), 13.6))] == [Refuted]
    assert table.next_deadline() == float("inf")


def test_suspecting_the_unknown_the_older_and_the_gone_is_ignored() -> None:
    table = with_x()
    table.alive(alive(5), 0.0)
    assert table.suspect(Suspect(1, "nobody", "y"), 1.0) == []
    assert table.suspect(Suspect(4, "x", "y"), 1.0) == []
    table.dead(Dead(5, "x", "y"), 1.0)
    assert table.suspect(Suspect(6, "x", "y"), 2.0) == []


def test_a_confirmation_that_is_news_travels_on() -> None:
    table = with_x()
    for number in range(10):
        table.alive(alive(name=f"n{number}", addr=bytes((10, 0, 1, number))), 0.0)
    table.suspect(Suspect(1, "x", "a"), 0.0)
    late = table.next_deadline()
    assert table.suspect(Suspect(1, "x", "a"), 1.0) == []
    assert table.suspect(Suspect(1, "x", "b"), 1.0) == [Spread("x", Suspect(1, "x", "b"))]
    assert table.next_deadline() < late


def test_time_in_which_we_did_not_run_does_not_count() -> None:
    table = with_x()
    table.suspect(Suspect(1, "x", "y"), 10.0)
    table.delay_suspicions(3.0)
    assert table.next_deadline() == 16.5


def test_dead_is_dead_once_and_a_leave_afterwards_is_ignored() -> None:
    table = with_x()
    assert table.dead(Dead(1, "nobody", "y"), 1.0) == []
    assert [type(e) for e in events(table.dead(Dead(1, "x", "y"), 1.0))] == [Died]
    assert table.dead(Dead(1, "x", "y"), 2.0) == []
    assert table.dead(Dead(2, "x", "x"), 2.0) == []
    assert table.members["x"].state is State.DEAD
    assert table.alive(alive(1), 3.0) == [], "the same incarnation stays dead"
    assert [type(e) for e in events(table.alive(alive(2), 3.0))] == [Joined]


def test_old_death_is_no_death() -> None:
    table = with_x()
    table.alive(alive(10), 0.0)
    assert table.dead(Dead(1, "x", "y"), 1.0) == []
    assert table.members["x"].state is State.ALIVE


def test_a_leave_is_told_from_a_death() -> None:
    table = with_x()
    assert [type(e) for e in events(table.dead(Dead(1, "x", "x"), 1.0))] == [Left]


# --------------------------------------------------------------------------------- merge, walk, reap


def entry(name: str, state: int, incarnation: int = 1, last: int = 9) -> PushNodeState:
    return PushNodeState(name, bytes((10, 0, 0, last)), 7946, incarnation, state)


def test_somebody_elses_dead_are_only_suspects_to_us() -> None:
    table = make()
    for number in range(1, 5):
        table.alive(alive(name=f"n{number}", addr=bytes((10, 0, 0, number))), 0.0)
    table.suspect(Suspect(1, "n1", "y"), 0.0)
    told = [
        *table.merge(entry("n1", State.ALIVE, 2, 1), 1.0),
        *table.merge(entry("n2", State.SUSPECT, 1, 2), 1.0),
        *table.merge(entry("n3", State.DEAD, 1, 3), 1.0),
        *table.merge(entry("n4", State.LEFT, 1, 4), 1.0),
        *table.merge(entry("n5", State.ALIVE, 2, 5), 1.0),
        *table.merge(entry("n6", 17, 2, 6), 1.0),
    ]
    states = {name: member.state for name, member in table.members.items() if name != "me"}
    assert states == {
        "n1": State.ALIVE,
        "n2": State.SUSPECT,
        "n3": State.SUSPECT,
        "n4": State.LEFT,
        "n5": State.ALIVE,
    }
    assert [(type(e), e.node.name) for e in events(told)] == [
        (Refuted, "n1"),
        (Suspected, "n2"),
        (Suspected, "n3"),
        (Left, "n4"),
        (Joined, "n5"),
    ]


def test_each_round_probes_everybody_once() -> None:
    table = make()
    for number in range(5):
        table.alive(alive(name=f"n{number}", addr=bytes((10, 0, 1, number))), 0.0)
    table.dead(Dead(1, "n4", "y"), 0.0)
    while table.next_to_probe(0.0) is not None and table._next < len(table._order):
        pass  # to the end of the first, partly random, round
    seen = [member.name for member in (table.next_to_probe(1.0) for _ in range(4)) if member is not None]
    assert sorted(seen) == ["n0", "n1", "n2", "n3"]


def test_with_one_other_member_no_probe_is_lost() -> None:
    table = with_x()
    assert all(table.next_to_probe(float(second)) is table.members["x"] for second in range(20))


def test_nobody_to_probe() -> None:
    assert make().next_to_probe(0.0) is None


def test_the_long_dead_are_forgotten() -> None:
    table = with_x()
    table.alive(alive(name="y", addr=bytes((10, 0, 0, 3))), 0.0)
    table.dead(Dead(1, "x", "z"), 0.0)
    table.dead(Dead(1, "y", "y"), 25.0)
    for _ in range(4):
        table.next_to_probe(31.0)
    assert set(table.members) == {"me", "y"}
    for _ in range(4):
        table.next_to_probe(56.0)
    assert set(table.members) == {"me"}


def test_a_sample_is_distinct_and_never_ourselves() -> None:
    table = make()
    for number in range(8):
        table.alive(alive(name=f"n{number}", addr=bytes((10, 0, 1, number))), 0.0)
    chosen = [member.name for member in table.sample(3, lambda member: member.name != "n0")]
    assert len(set(chosen)) == 3
    assert not {"me", "n0"} & set(chosen)
    assert len(table.sample(99, lambda _: True)) == 8


names = st.sampled_from(["me", "x", "y", "z"])
numbers = st.integers(0, 5)
rumours = st.one_of(
    st.builds(
        alive, numbers, names, st.sampled_from([ME, X, bytes(16)]), meta=st.sampled_from([None, b"", b"m"])
    ),
    st.builds(Suspect, numbers, names, names),
    st.builds(Dead, numbers, names, names),
)


@given(st.lists(st.tuples(rumours, st.floats(0, 5)), max_size=40))
def test_no_rumour_makes_time_run_backwards_or_us_disappear(told: list[tuple[Any, float]]) -> None:
    """Whatever is said: we stay alive to ourselves, incarnations of those who did not leave never fall, and
    a member is suspected exactly while its clock runs."""
    table, now = make(), 0.0
    for rumour, wait in told:
        now += wait
        before = {name: (m.incarnation, m.state) for name, m in table.members.items()}
        match rumour:
            case Alive():
                table.alive(rumour, now)
            case Suspect():
                table.suspect(rumour, now)
            case Dead():
                table.dead(rumour, now)
        table.tick(now)
        assert table.me.state is State.ALIVE
        for name, member in table.members.items():
            assert (member.suspicion is not None) == (member.state is State.SUSPECT)
            if name in before and before[name][1] is not State.LEFT:
                assert member.incarnation >= before[name][0]
        assert table.next_deadline() > now
