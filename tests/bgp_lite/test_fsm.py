from __future__ import annotations

import itertools

import pytest

from bgp_lite.fsm import TRANSITIONS, UNEXPECTED_SUBCODE, Action, Event, State


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)), ids=str)
def test_the_table_is_total(state: State, event: Event) -> None:
    action, new = TRANSITIONS[state][event]
    assert isinstance(action, Action)
    if action is Action.NOTHING:
        assert new is state, "doing nothing changes nothing"
    if action is Action.UNEXPECTED:
        assert state in UNEXPECTED_SUBCODE
    if event is Event.STOP:
        assert new is State.IDLE


def test_every_state_can_be_reached_and_left() -> None:
    reached, frontier = {State.IDLE}, [State.IDLE]
    while frontier:
        for _, new in TRANSITIONS[frontier.pop()].values():
            if new not in reached:
                reached.add(new)
                frontier.append(new)
    assert reached == set(State)
