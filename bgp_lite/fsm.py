"""The BGP finite state machine as a table (RFC 4271 §8.2.2), for a speaker that opens its own connections.
One that the peer opened enters it with the peer's OPEN in hand, when it has won (RFC 4271 §6.8).

`TRANSITIONS` is total: every state has a row and every row every event.  The action says what `core` does on
the way; the notification, where one is due, is the action's argument.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final


class State(IntEnum):
    IDLE = 1
    CONNECT = 2
    ACTIVE = 3
    """Waiting for the retry timer, or for the peer to connect."""
    OPEN_SENT = 4
    OPEN_CONFIRM = 5
    ESTABLISHED = 6


class Event(Enum):
    START = "start"
    STOP = "stop"
    RETRY = "connect retry timer expired"
    CONNECTED = "TCP connection up"
    ACCEPTED = "OPEN received on a connection of the peer's, which is kept"
    FAILED = "TCP connection failed or closed"
    OPEN = "OPEN received"
    KEEPALIVE = "KEEPALIVE received"
    UPDATE = "UPDATE received"
    REFRESH = "ROUTE-REFRESH received"
    NOTIFICATION = "NOTIFICATION received"
    HOLD_EXPIRED = "hold timer expired"
    BROKEN = "message error"


class Action(Enum):
    NOTHING = "nothing"
    CONNECT = "connect"
    SEND_OPEN = "send OPEN"
    CONFIRM = "check OPEN, send KEEPALIVE"
    ADOPT = "take the peer's connection, send KEEPALIVE"
    ESTABLISH = "session up"
    ALIVE = "restart the hold timer"
    GO_IDLE = "close"
    RETRY_LATER = "close, set the retry timer"
    CEASE = "send NOTIFICATION cease, close"
    HOLD = "send NOTIFICATION 4/0, close, set the retry timer"
    UNEXPECTED = "send NOTIFICATION 5/x, close, set the retry timer"
    REJECT = "send the error's NOTIFICATION, close, set the retry timer"


UNEXPECTED_SUBCODE: Final = {State.OPEN_SENT: 1, State.OPEN_CONFIRM: 2, State.ESTABLISHED: 3}
"""Subcodes of NOTIFICATION 5 (RFC 6608)."""

Row = dict[Event, tuple[Action, State]]

_S, _A, _E = State, Action, Event
# Messages cannot arrive without a connection; late ones from a closed one are dropped here.
_DEAF: Row = dict.fromkeys(
    (_E.CONNECTED, _E.ACCEPTED, _E.OPEN, _E.KEEPALIVE, _E.UPDATE, _E.REFRESH, _E.NOTIFICATION, _E.BROKEN),
    (_A.NOTHING, _S.IDLE),
)


def _stay(state: State, row: Row) -> Row:
    return {event: (action, state) for event, (action, _) in row.items()}


def _connected(state: State, expected: Row) -> Row:
    """What holds once there is a connection: everything not expected is an FSM error (RFC 6608)."""
    messages = (_E.OPEN, _E.KEEPALIVE, _E.UPDATE, _E.REFRESH)
    unexpected: Row = dict.fromkeys(messages, (_A.UNEXPECTED, _S.ACTIVE))
    return {
        **unexpected,
        _E.START: (_A.NOTHING, state),
        _E.RETRY: (_A.NOTHING, state),
        _E.CONNECTED: (_A.NOTHING, state),
        _E.ACCEPTED: (_A.ADOPT, _S.OPEN_CONFIRM),
        _E.STOP: (_A.CEASE, _S.IDLE),
        _E.FAILED: (_A.RETRY_LATER, _S.ACTIVE),
        _E.NOTIFICATION: (_A.RETRY_LATER, _S.ACTIVE),
        _E.HOLD_EXPIRED: (_A.HOLD, _S.ACTIVE),
        _E.BROKEN: (_A.REJECT, _S.ACTIVE),
        **expected,
    }


TRANSITIONS: Final[dict[State, Row]] = {
    _S.IDLE: {
        **_DEAF,
        _E.START: (_A.CONNECT, _S.CONNECT),
        _E.STOP: (_A.NOTHING, _S.IDLE),
        _E.RETRY: (_A.NOTHING, _S.IDLE),
        _E.FAILED: (_A.NOTHING, _S.IDLE),
        _E.HOLD_EXPIRED: (_A.NOTHING, _S.IDLE),
    },
    _S.CONNECT: {
        **_stay(_S.CONNECT, _DEAF),
        _E.START: (_A.NOTHING, _S.CONNECT),
        _E.STOP: (_A.GO_IDLE, _S.IDLE),
        _E.RETRY: (_A.NOTHING, _S.CONNECT),
        _E.CONNECTED: (_A.SEND_OPEN, _S.OPEN_SENT),
        _E.ACCEPTED: (_A.ADOPT, _S.OPEN_CONFIRM),
        _E.FAILED: (_A.RETRY_LATER, _S.ACTIVE),
        _E.HOLD_EXPIRED: (_A.NOTHING, _S.CONNECT),
    },
    _S.ACTIVE: {
        **_stay(_S.ACTIVE, _DEAF),
        _E.START: (_A.NOTHING, _S.ACTIVE),
        _E.STOP: (_A.GO_IDLE, _S.IDLE),
        _E.RETRY: (_A.CONNECT, _S.CONNECT),
        _E.CONNECTED: (_A.NOTHING, _S.ACTIVE),
        _E.ACCEPTED: (_A.ADOPT, _S.OPEN_CONFIRM),
        _E.FAILED: (_A.NOTHING, _S.ACTIVE),
        _E.HOLD_EXPIRED: (_A.NOTHING, _S.ACTIVE),
    },
    _S.OPEN_SENT: _connected(_S.OPEN_SENT, {_E.OPEN: (_A.CONFIRM, _S.OPEN_CONFIRM)}),
    _S.OPEN_CONFIRM: _connected(_S.OPEN_CONFIRM, {_E.KEEPALIVE: (_A.ESTABLISH, _S.ESTABLISHED)}),
    _S.ESTABLISHED: _connected(
        _S.ESTABLISHED,
        {
            _E.KEEPALIVE: (_A.ALIVE, _S.ESTABLISHED),
            _E.UPDATE: (_A.ALIVE, _S.ESTABLISHED),
            _E.REFRESH: (_A.ALIVE, _S.ESTABLISHED),
        },
    ),
}
