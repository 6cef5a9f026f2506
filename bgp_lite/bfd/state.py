"""The BFD state machine as a table (RFC 5880 §6.8.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bgp_lite.bfd.packet import State

# our state: {state in the packet: our next state}.  A pair that is not listed leaves us where we are.
TRANSITIONS: Final[Mapping[State, Mapping[State, State]]] = {
    State.ADMIN_DOWN: {},  # only the operator moves us out
    State.DOWN: {State.DOWN: State.INIT, State.INIT: State.UP},
    State.INIT: {State.INIT: State.UP, State.UP: State.UP, State.ADMIN_DOWN: State.DOWN},
    State.UP: {State.DOWN: State.DOWN, State.ADMIN_DOWN: State.DOWN},
}


def next_state(ours: State, theirs: State) -> State:
    return TRANSITIONS[ours].get(theirs, ours)
