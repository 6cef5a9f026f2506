"""Which links work: loss at once, return only when it lasts."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from speaker.reflex.l2.carrier import MAX_KNOWN, SETTLE, Carrier
from speaker.reflex.l2.links import Link

ETH0 = Link(2, "eth0", b"\2\0\0\0\0\1", arp=True, ndp=True, carrier=True)
ETH1 = Link(3, "eth1", b"\2\0\0\0\0\2", arp=True, ndp=True, carrier=True)
DARK0 = replace(ETH0, carrier=False)


def test_a_node_without_such_an_interface_has_lost_nothing() -> None:
    carrier = Carrier()
    assert not carrier.lost(None, 0.0)
    carrier.update([ETH0], 0.0)
    assert not carrier.lost(frozenset({"eth9"}), 0.0)


def test_no_carrier_down_and_gone_are_lost_at_once() -> None:
    for now in ([DARK0, ETH1], [ETH1]):
        carrier = Carrier()
        carrier.update([ETH0, ETH1], 0.0)
        carrier.update(now, 5.0)
        assert carrier.lost(frozenset({"eth0"}), 5.0)
        assert not carrier.lost(None, 5.0), "there is another"
        assert not carrier.lost(frozenset({"eth0", "eth1"}), 5.0)


def test_unplugged_from_the_start_is_lost() -> None:
    carrier = Carrier()
    carrier.update([DARK0], 0.0)
    assert carrier.lost(None, 0.0)


def test_what_comes_back_has_to_stay() -> None:
    carrier = Carrier()
    carrier.update([ETH0], 0.0)
    carrier.update([DARK0], 1.0)
    carrier.update([ETH0], 2.0)
    assert carrier.lost(None, 2.5)
    carrier.update([DARK0], 2.6)
    carrier.update([ETH0], 2.8)
    assert carrier.next_deadline(2.8) == 2.8 + SETTLE
    assert carrier.lost(None, 3.5)
    assert not carrier.lost(None, 2.8 + SETTLE)
    assert carrier.next_deadline(2.8 + SETTLE) == float("inf")


def test_interfaces_that_come_and_go_are_not_remembered_without_end() -> None:
    carrier = Carrier()
    for number in range(3 * MAX_KNOWN):
        carrier.update([ETH0, replace(ETH1, name=f"pod{number}")], float(number))
    assert len(carrier._good_since) <= MAX_KNOWN
    carrier.update([], 1e6)
    assert carrier.lost(frozenset({"eth0"}), 1e6), "what stayed is not forgotten for what went"


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from([(), (ETH0,), (DARK0,), (ETH0, ETH1), (ETH1,)]))))
def test_the_deadline_is_when_the_answer_changes(steps: list[tuple[float, tuple[Link, ...]]]) -> None:
    """Between two updates the answer changes at `next_deadline` at the earliest, and only towards good."""
    carrier, now = Carrier(), 0.0
    for wait, links in steps:
        now += wait
        carrier.update(links, now)
        before = carrier.lost(None, now)
        at = carrier.next_deadline(now)
        if at < float("inf"):
            assert carrier.lost(None, (now + at) / 2) == before or (now + at) / 2 == at
            assert before or not carrier.lost(None, at)
        else:
            assert carrier.lost(None, now + 1e6) == before
