"""Who answers: by properties over any history, and by clusters of announcers on one imagined wire."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speaker.orders import Orders, Vip
from speaker.reflex.announce import DEFER, HANDOVER_TIMEOUT, JOIN_TIMEOUT, YIELD_QUIET, Announcer
from speaker.reflex.effects import Announce, Answer, Effect, Happened, Silence, Yield
from speaker.reflex.strangers import (
    CONFLICT_INTERVAL_MAX,
    CONFLICT_INTERVAL_MIN,
    CONFLICT_ROUNDS,
    CONFLICT_SETTLE,
)
from speaker.reflex.vip import Rival, State
from speaker.settings import ConflictPolicy

VIP = "192.0.2.1"
MAC = "02:00:00:00:00:99"
STRANGER, PEER, UNKNOWN = Rival(MAC, ""), Rival(MAC, "b"), Rival(MAC, None)


def orders(*candidates: str, interfaces: tuple[str, ...] | None = None, generation: int = 1) -> Orders:
    return Orders(generation, (Vip(VIP, ("ns/svc",), candidates, interfaces),))


def member(me: str = "a", *candidates: str, others: Iterable[str] = (), now: float = 0.0) -> Announcer:
    """Joined, with these orders, in a cluster of these others."""
    announcer = Announcer(me, membership=True)
    announcer.open(now)
    announcer.members(set(others), now)
    announcer.joined(now)
    announcer.orders(orders(*(candidates or (me,))), now)
    return announcer


def acts(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Happened)]


def state(announcer: Announcer) -> State:
    view = announcer.view(VIP)
    assert view is not None
    return view.state


# ------------------------------------------------------------------------------------------ single rules


def test_the_owner_answers_at_once_and_says_why() -> None:
    announcer = Announcer("a", membership=False)
    assert announcer.orders(orders("a", "b"), 0.0) == [
        Answer(VIP, None),
        Happened("took_over", VIP, "orders"),
    ]
    assert announcer.orders(orders("a", "b", generation=2), 1.0) == []


def test_nothing_is_answered_before_somebody_was_reached_or_the_wait_is_over() -> None:
    announcer = Announcer("a", membership=True)
    assert announcer.orders(orders("a"), 0.0) == []
    assert announcer.tick(100.0) == [], "gossip is not even open"
    announcer.open(100.0)
    assert announcer.tick(100.0 + JOIN_TIMEOUT - 0.01) == []
    assert announcer.next_deadline() == 100.0 + JOIN_TIMEOUT
    assert acts(announcer.tick(100.0 + JOIN_TIMEOUT)) == [Answer(VIP, None)]
    sooner = Announcer("a", membership=True)
    sooner.orders(orders("a"), 0.0)
    sooner.open(0.0)
    assert acts(sooner.joined(0.2)) == [Answer(VIP, None)]
    assert sooner.joined(0.3) == []


def test_a_loser_answers_until_it_hears_the_successor() -> None:
    announcer = member("a", "b", "a")
    assert state(announcer) is State.OURS
    assert announcer.members({"b"}, 1.0) == [Yield(VIP)]
    assert state(announcer) is State.YIELDING
    assert acts(announcer.heard(VIP, 1.2)) == [Silence(VIP)]
    assert announcer.next_deadline() == float("inf")


def test_a_loser_that_hears_nothing_stops_after_a_second() -> None:
    announcer = member("a", "b", "a")
    announcer.members({"b"}, 1.0)
    assert announcer.next_deadline() == 1.0 + HANDOVER_TIMEOUT
    assert announcer.tick(1.9) == []
    assert announcer.tick(2.0) == [Silence(VIP), Happened("handed_over", VIP, "did not hear b within 1 s")]


def test_a_loser_whose_successor_goes_takes_over_again_and_says_so() -> None:
    announcer = member("a", "b", "a")
    announcer.members({"b"}, 1.0)
    assert acts(announcer.members(set(), 1.1)) == [Answer(VIP, None), Announce(VIP, None)]
    assert announcer.tick(50.0) == []


@pytest.mark.parametrize("after", [(), ("b",), ("z",)], ids=["nobody", "a live one", "a dead one"])
def test_losing_by_orders(after: tuple[str, ...]) -> None:
    announcer = member("a", "a", "b", others=["b"])
    effects = acts(announcer.orders(orders(*after), 1.0))
    assert effects == ([Yield(VIP)] if after == ("b",) else [Silence(VIP)])


def test_a_vip_that_is_gone_from_the_orders_is_silent_at_once() -> None:
    announcer = member("a", "b", "a")
    announcer.members({"b"}, 0.5)
    assert acts(announcer.orders(Orders(2, ()), 0.6)) == [Silence(VIP)]
    assert announcer.view(VIP) is None
    assert announcer.heard(VIP, 0.7) == []


def test_new_interfaces_are_passed_on_without_ado() -> None:
    announcer = member("a")
    assert announcer.orders(orders("a", interfaces=("eth1",)), 1.0) == [Answer(VIP, frozenset({"eth1"}))]


def test_a_shared_address_is_ours_while_any_service_makes_it_ours() -> None:
    announcer = member("a", "a", others=["b"])
    both = Orders(2, (Vip(VIP, ("n/1",), ("b", "a"), None), Vip(VIP, ("n/2",), ("a", "b"), ("eth1",))))
    assert announcer.orders(both, 1.0) == [Answer(VIP, frozenset({"eth1"}))]
    assert announcer.members(set(), 2.0) == [Answer(VIP, None)]


def test_leaving_hands_over_what_another_can_take_and_drops_the_rest() -> None:
    announcer = member("a", "a", "b", others=["b"])
    assert announcer.leave(1.0) == [Yield(VIP)]
    assert acts(announcer.heard(VIP, 1.1)) == [Silence(VIP)]
    assert announcer.answering is False
    alone = member("a", "a", "b")
    assert acts(alone.leave(1.0)) == [Silence(VIP)]
    assert acts(alone.members({"b"}, 1.1)) == []
    without = Announcer("a", membership=False)
    without.orders(orders("a", "b"), 0.0)
    assert acts(without.leave(1.0)) == [Silence(VIP)], "without gossip nobody learns that we go"


# ----------------------------------------------------------------------------------------------- conflicts


def test_an_owner_speaks_last_but_ever_more_rarely() -> None:
    announcer = member("a", "a", "b")
    assert announcer.heard(VIP, 10.0 - CONFLICT_SETTLE) == []
    assert acts(announcer.tick(10.0)) == [Announce(VIP, CONFLICT_ROUNDS)]
    assert announcer.heard(VIP, 10.1) == []
    assert announcer.heard(VIP, 10.2) == []
    due = announcer.next_deadline()
    assert due == 10.0 + CONFLICT_INTERVAL_MIN
    assert acts(announcer.tick(due)) == [Announce(VIP, CONFLICT_ROUNDS)]
    assert announcer.next_deadline() == float("inf")
    now, answers = due, []
    while now < 3600.0:  # somebody announces it ten times a second for an hour
        now += 0.1
        answers += [now for effect in acts([*announcer.heard(VIP, now), *announcer.tick(now)])]
    assert len(answers) < 3600 / CONFLICT_INTERVAL_MAX + 10
    assert answers[-1] > 3500
    now += 1000.0
    announcer.heard(VIP, now - CONFLICT_SETTLE)
    assert len(acts(announcer.tick(now))) == 1, "after peace, at once again"
    assert announcer.next_deadline() == float("inf")
    announcer.heard(VIP, now + 0.1)
    assert announcer.next_deadline() == pytest.approx(now + CONFLICT_INTERVAL_MIN)


def test_an_announcement_may_outrun_the_news_of_who_made_it() -> None:
    announcer = member("a", "b", "a")
    assert announcer.heard(VIP, 10.0) == []
    assert acts(announcer.members({"b"}, 10.001)) == [Silence(VIP)], "no second word, no waiting"
    assert announcer.next_deadline() == float("inf")


def test_what_others_own_is_not_defended() -> None:
    announcer = member("a", "b", "a", others=["b"])
    assert announcer.heard(VIP, 1.0) == []
    assert announcer.heard("198.51.100.1", 1.0) == []


def test_a_rival_that_comes_back_must_hear_us() -> None:
    announcer = member("a", "a", "b")
    assert announcer.members({"b"}, 5.0) == [Announce(VIP, None)]
    assert announcer.members({"b", "bystander"}, 6.0) == []


# --------------------------------------------------------------------------------------- better candidates

BETTER = Rival("02:00:00:00:00:0a", "a")


def deferring() -> Announcer:
    """`b`, which held `a` for dead since second 0 and hears it announce at second 10."""
    announcer = member("b", "a", "b", "c", others={"c"})
    assert acts(announcer.heard(VIP, 10.0, BETTER)) == [Silence(VIP)], "it announced: nothing is broken"
    return announcer


def test_a_better_candidate_that_is_heard_has_it_though_gossip_does_not_know() -> None:
    announcer = deferring()
    assert announcer.members({"a", "c"}, 10.5) == []
    assert announcer.next_deadline() == float("inf"), "gossip agrees"
    assert acts(announcer.members({"c"}, 20.0)) == [Answer(VIP, None)], "and when it dies there is no delay"


def test_a_better_candidate_that_falls_silent_is_not_waited_for_for_ever() -> None:
    announcer = deferring()
    assert announcer.heard(VIP, 12.0, BETTER) == []
    assert announcer.next_deadline() == 12.0 + DEFER
    assert acts(announcer.members(set(), 12.5)) == [], "others come and go meanwhile"
    again = 12.0 + DEFER
    assert acts(announcer.tick(again)) == [Answer(VIP, None)]
    assert announcer.next_deadline() == float("inf")
    assert acts(announcer.heard(VIP, again + 0.2, BETTER)) == [Silence(VIP)], "it was there, after all"


@pytest.mark.parametrize("rival", [Rival(MAC, "c"), Rival(MAC, "z"), Rival(MAC, None), Rival(MAC, "")])
def test_nobody_else_is_deferred_to(rival: Rival) -> None:
    announcer = member("b", "a", "b", "c", others={"c"})
    assert announcer.heard(VIP, 10.0, rival) == []
    assert state(announcer) is State.OURS


def test_the_last_word_of_one_that_left_does_not_take_it_back() -> None:
    announcer = member("b", "a", "b", others={"a"})
    assert acts(announcer.members(set(), 10.0)) == [Answer(VIP, None)]
    assert announcer.heard(VIP, 10.01, BETTER) == []
    assert state(announcer) is State.OURS


def test_one_whose_interfaces_fail_is_not_deferred_to() -> None:
    announcer = member("b", "a", "b", others={"a"})
    announcer.members({"a"}, 1.0, {"a": {0}})
    assert announcer.heard(VIP, 10.0, BETTER) == []
    assert state(announcer) is State.OURS


def test_what_is_deferred_may_leave_the_orders() -> None:
    announcer = deferring()
    assert announcer.orders(Orders(2, ()), 10.5) == []
    assert announcer.next_deadline() == float("inf")


# ---------------------------------------------------------------------------------------------- properties

NAMES = st.sampled_from("abcde")
RANKINGS = st.permutations("abcde")


@given(st.lists(RANKINGS, min_size=1, max_size=4), st.sets(NAMES, min_size=1), st.data())
def test_with_equal_views_exactly_one_reachable_candidate_is_the_owner(
    rankings: list[list[str]], alive: set[str], data: st.DataObject
) -> None:
    """Whatever each went through before."""
    wanted = Orders(
        9, tuple(Vip(f"192.0.2.{n}", ("n/s",), tuple(ranking), None) for n, ranking in enumerate(rankings))
    )
    owners: dict[str, list[str]] = {vip.address: [] for vip in wanted.vips}
    for name in sorted(alive):
        announcer = Announcer(name, membership=True)
        announcer.open(0.0)
        now = 0.0
        for _ in range(data.draw(st.integers(0, 4))):
            now += 0.3
            announcer.members(data.draw(st.sets(NAMES)), now)
            if data.draw(st.booleans()):
                announcer.orders(
                    Orders(1, data.draw(st.sampled_from([wanted.vips, (), wanted.vips[:1]]))), now
                )
        announcer.orders(wanted, now)
        announcer.members(alive, now)
        announcer.joined(now)
        for address in owners:
            view = announcer.view(address)
            assert view is not None
            if view.state is State.OURS:
                owners[address].append(name)
            assert (view.owner == name) is (view.state is State.OURS)
        announcer.tick(now + HANDOVER_TIMEOUT)
        assert announcer.answering is any(name in found for found in owners.values())
    for vip in wanted.vips:
        assert owners[vip.address] == [next(name for name in vip.candidates if name in alive)]


@given(RANKINGS, st.sets(NAMES), NAMES, NAMES)
def test_losing_a_bystander_moves_nothing(ranking: list[str], alive: set[str], me: str, lost: str) -> None:
    alive |= {me}
    announcer = member(me, *ranking, others=alive)
    owner = next(name for name in ranking if name in alive)
    before = announcer.view(VIP)
    effects = announcer.members(alive - {lost}, 5.0)
    if lost not in (owner, me):
        assert effects == []
        assert announcer.view(VIP) == before


# ---------------------------------------------------------------------------------------------- a whole LAN


@dataclass
class Speaker:
    announcer: Announcer
    alive: bool = True
    answering: bool = False
    rounds: list[float] = field(default_factory=list)
    """Announcements still to be sent."""
    left: bool = False
    """It has told everybody that it goes."""
    missed: int = 0
    """Announcements of others that wait in the socket of one that is frozen."""


class Wire:
    """Announcers of one VIP on a LAN in virtual time; who hears whom is up to the test.  News of members
    takes a while, different for each.
    """

    def __init__(self, seed: int, names: str) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.groups = [set(names)]
        self.speakers = {name: Speaker(Announcer(name, membership=True)) for name in names}
        self.news: list[tuple[float, str]] = []
        self.last_heard: dict[str, str] = {}
        """Whom each believes to have the VIP: a switch or a neighbour beside it."""
        self.names = names
        self.last = ""
        """Who announced last."""
        for name in names:
            self.join(name)

    def join(self, name: str) -> None:
        announcer = self.speakers[name].announcer
        announcer.open(self.now)
        announcer.members(set(self.names), self.now)
        announcer.joined(self.now)
        self.perform(name, announcer.orders(orders(*self.names), self.now))

    def side(self, name: str) -> set[str]:
        return next(group for group in self.groups if name in group)

    def perform(self, name: str, effects: list[Effect]) -> None:
        speaker = self.speakers[name]
        for effect in effects:
            match effect:
                case Answer():
                    if not speaker.answering:
                        speaker.rounds = [self.now + n * 1.1 for n in range(5)]
                    speaker.answering = True
                case Yield():
                    speaker.rounds = []
                case Silence():
                    speaker.answering, speaker.rounds = False, []
                case Announce(_, rounds):
                    if not speaker.rounds:
                        speaker.rounds = [self.now + n * 1.1 for n in range(rounds or 5)]

    def cut(self, *groups: set[str]) -> None:
        self.groups = list(groups)
        self.spread()

    def kill(self, name: str) -> None:
        self.speakers[name].alive = self.speakers[name].answering = False
        self.spread()

    def revive(self, name: str) -> None:
        """A new process in the place of a dead one."""
        self.speakers[name] = Speaker(Announcer(name, membership=True))
        self.join(name)
        self.spread()

    def stop(self, name: str) -> None:
        """SIGTERM: it hands over, and tells everybody that it goes."""
        self.perform(name, self.speakers[name].announcer.leave(self.now))
        self.speakers[name].left = True
        self.spread()
        self.news = [(at, other) for at, other in self.news if other != name]

    def freeze(self, name: str) -> None:
        self.kill(name)

    def thaw(self, name: str) -> None:
        """It goes on where it was, and reads what has come meanwhile."""
        speaker = self.speakers[name]
        speaker.alive = True
        speaker.answering = speaker.announcer.answering
        for _ in range(speaker.missed):
            self.perform(name, speaker.announcer.heard(VIP, self.now, Rival(self.last, self.last)))
        speaker.missed = 0
        self.spread()

    def spread(self) -> None:
        self.news = [(self.now + self.rng.uniform(0.0, 1.0), name) for name in self.speakers]

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.01
            for due, name in list(self.news):
                if due <= self.now:
                    self.news.remove((due, name))
                    alive = {
                        other
                        for other in self.side(name)
                        if self.speakers[other].alive and not self.speakers[other].left
                    }
                    self.perform(name, self.speakers[name].announcer.members(alive, self.now))
            for name, speaker in self.speakers.items():
                if not speaker.alive:
                    continue
                if speaker.announcer.next_deadline() <= self.now:
                    self.perform(name, speaker.announcer.tick(self.now))
                if speaker.rounds and speaker.rounds[0] <= self.now:
                    speaker.rounds.pop(0)
                    for other in self.side(name):
                        self.last_heard[other] = self.last = name
                        self.speakers[other].missed += not self.speakers[other].alive
                        if other != name and self.speakers[other].alive:
                            hearer = self.speakers[other].announcer
                            self.perform(other, hearer.heard(VIP, self.now, Rival(name, name)))

    def answering(self, group: Iterable[str]) -> list[str]:
        return [name for name in sorted(group) if self.speakers[name].answering]


SEEDS = st.integers(0, 2**32)
UNHURRIED = settings(max_examples=60)


@UNHURRIED
@given(SEEDS)
def test_after_a_crash_the_next_takes_over_and_everybody_knows(seed: int) -> None:
    wire = Wire(seed, "abcd")
    wire.run(6.0)
    assert wire.answering("abcd") == ["a"]
    wire.kill("a")
    wire.run(8.0)
    assert wire.answering("abcd") == ["b"]
    assert set(wire.last_heard.values()) == {"b"}


@UNHURRIED
@given(SEEDS)
def test_a_healed_partition_ends_with_one_and_everybody_knows_which(seed: int) -> None:
    wire = Wire(seed, "abcd")
    wire.run(6.0)
    wire.cut({"a", "c"}, {"b", "d"})
    wire.run(10.0)
    assert wire.answering("ac") == ["a"]
    assert wire.answering("bd") == ["b"], "both sides serve their side"
    wire.cut({"a", "b", "c", "d"})
    wire.run(12.0)
    assert wire.answering("abcd") == ["a"]
    assert set(wire.last_heard.values()) == {"a"}, "no neighbour is left behind with the loser"


@UNHURRIED
@given(SEEDS, st.sampled_from("bcd"))
def test_a_false_alarm_ends_with_the_rightful_owner(seed: int, mistaken: str) -> None:
    wire = Wire(seed, "abcd")
    wire.run(6.0)
    everybody = set("abcd")
    wrong = everybody - set("abcd"[: "abcd".index(mistaken)])
    wire.perform(mistaken, wire.speakers[mistaken].announcer.members(wrong, wire.now))
    wire.run(wire.rng.uniform(0.1, 3.0))
    wire.perform(mistaken, wire.speakers[mistaken].announcer.members(everybody, wire.now))
    wire.run(12.0)
    assert wire.answering("abcd") == ["a"]
    assert set(wire.last_heard.values()) == {"a"}


# ------------------------------------------------------------------------------- who cannot be heard


def test_who_cannot_announce_is_passed_over_and_takes_back_what_is_its_own() -> None:
    announcer = member("b", "a", "b", others={"a"})
    assert announcer.members({"a"}, 1.0, {"a": {7}}) == [], "other interfaces than the VIP's"
    assert acts(announcer.members({"a"}, 2.0, {"a": {0}})) == [Answer(VIP, None)]
    assert acts(announcer.members({"a"}, 3.0, {})) == [Yield(VIP)], "until it is heard"
    assert acts(announcer.heard(VIP, 3.1)) == [Silence(VIP)]


def test_who_lost_its_own_interfaces_is_silent_at_once_and_says_why() -> None:
    announcer = member("a", "a", "b", others={"b"})
    assert announcer.members({"b"}, 1.0, {"a": {0}}) == [
        Silence(VIP),
        Happened("withdrew", VIP, "other interfaces work at a"),
    ]
    assert announcer.heard(VIP, 1.1) == [], "the successor is no conflict"
    assert acts(announcer.members({"b"}, 9.0, {})) == [Answer(VIP, None)]


def test_cut_off_altogether_is_silent_too() -> None:
    announcer = member("a", "a", "b", others={"b"})
    assert acts(announcer.members(set(), 1.0, {"a": {0}})) == [Silence(VIP)]


def test_without_gossip_nobody_else_could_know_so_nothing_moves() -> None:
    announcer = Announcer("a", membership=False)
    announcer.orders(orders("a", "b"), 0.0)
    assert announcer.members(set(), 1.0, {"a": {0}}) == []
    assert state(announcer) is State.OURS


@given(
    st.lists(st.permutations(["a", "b", "c", "d"]), min_size=1, max_size=5),
    st.dictionaries(st.sampled_from("abcd"), st.sets(st.integers(0, 2))),
)
def test_all_agree_on_one_that_can(rankings: list[list[str]], unable: dict[str, set[int]]) -> None:
    """With one view of the cards there is one owner at every node, and it can, if anybody can."""
    plan = Orders(
        1,
        tuple(
            Vip(f"192.0.2.{n}", ("n/s",), tuple(ranking), None, n % 3) for n, ranking in enumerate(rankings)
        ),
    )
    nodes = {}
    for name in "abcd":
        announcer = nodes[name] = Announcer(name, membership=True)
        announcer.open(0.0)
        announcer.orders(plan, 0.0)
        announcer.members(set("abcd"), 0.0, unable)
        announcer.joined(0.0)
    for vip in plan.vips:
        able = [name for name in vip.candidates if vip.restriction not in unable.get(name, ())]
        answering = [
            name
            for name, announcer in nodes.items()
            if (view := announcer.view(vip.address)) is not None and view.state is State.OURS
        ]
        assert answering == able[:1]


# ------------------------------------------------------------------------------------------- strangers


def alone(policy: ConflictPolicy) -> Announcer:
    announcer = Announcer("a", membership=False, policy=policy)
    announcer.orders(orders("a"), 0.0)
    return announcer


def told(effects: list[Effect]) -> list[tuple[str, str]]:
    return [(effect.what, effect.mac) for effect in effects if isinstance(effect, Happened)]


@pytest.mark.parametrize(
    ("policy", "met"),
    [
        (ConflictPolicy.DEFEND, [Announce(VIP, CONFLICT_ROUNDS)]),
        (ConflictPolicy.REPORT, []),
        (ConflictPolicy.YIELD, [Silence(VIP)]),
    ],
)
def test_a_stranger_is_met_by_policy_and_told_with_its_address(
    policy: ConflictPolicy, met: list[Effect]
) -> None:
    announcer = alone(policy)
    assert announcer.heard(VIP, 10.0, STRANGER) == []
    effects = announcer.tick(10.0 + CONFLICT_SETTLE)
    assert acts(effects) == met
    assert told(effects)[0] == ("conflict", MAC)
    view = announcer.view(VIP)
    assert view is not None
    assert (view.claimed_by, view.claimed_at) == (MAC, 10.0)


@pytest.mark.parametrize("policy", list(ConflictPolicy))
@pytest.mark.parametrize(("rival", "what"), [(PEER, "contradicted"), (UNKNOWN, "conflict")])
def test_who_is_or_may_be_a_speaker_is_always_answered(
    policy: ConflictPolicy, rival: Rival, what: str
) -> None:
    announcer = alone(policy)
    announcer.heard(VIP, 10.0, rival)
    effects = announcer.tick(10.0 + CONFLICT_SETTLE)
    assert acts(effects) == [Announce(VIP, CONFLICT_ROUNDS)]
    assert told(effects) == [(what, MAC)]
    view = announcer.view(VIP)
    assert view is not None
    assert view.claimed_by == ""


def test_what_was_left_to_a_stranger_is_answered_again_when_it_is_quiet() -> None:
    announcer = alone(ConflictPolicy.YIELD)
    announcer.heard(VIP, 10.0, STRANGER)
    announcer.tick(11.0)
    announcer.heard(VIP, 40.0, STRANGER)
    announcer.orders(orders("a", "b", generation=2), 50.0)
    assert announcer.next_deadline() == 40.0 + YIELD_QUIET
    assert announcer.tick(99.9) == []
    assert acts(announcer.tick(40.0 + YIELD_QUIET)) == [Answer(VIP, None)]
    assert announcer.next_deadline() == float("inf")


def test_what_was_left_to_a_stranger_may_leave_the_orders() -> None:
    announcer = alone(ConflictPolicy.YIELD)
    announcer.heard(VIP, 10.0, STRANGER)
    announcer.tick(11.0)
    assert announcer.orders(Orders(2, ()), 12.0) == []
    assert announcer.next_deadline() == float("inf")


def test_a_stranger_is_not_the_successor() -> None:
    announcer = member("a", "a", "b", others={"b"})
    announcer.orders(orders("b", "a", generation=2), 1.0)
    assert announcer.heard(VIP, 1.1, STRANGER) == []
    assert state(announcer) is State.YIELDING
    assert acts(announcer.heard(VIP, 1.2, PEER)) == [Silence(VIP)]
