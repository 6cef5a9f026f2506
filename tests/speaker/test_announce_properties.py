"""Who answers: by properties over any history, and by clusters of announcers on one imagined wire."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from speaker.orders import Orders, Vip
from speaker.reflex.announce import HANDOVER_TIMEOUT, Announcer
from speaker.reflex.vip import State
from tests.speaker.announcers import VIP, Wire, member

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
