"""Who answers when interfaces fail."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from speaker.orders import Orders, Vip
from speaker.reflex.announce import Announcer
from speaker.reflex.effects import Answer, Happened, Silence, Yield
from speaker.reflex.vip import State
from tests.speaker.announcers import VIP, acts, member, orders, state


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
