"""A connection the peer made, from the first octet to the decision which of two is kept (RFC 4271 §6.8).

Both ends may connect at once.  Which connection stays is known when the peer's identifier is: from its OPEN.
Until then the newcomer is a `Candidate`, beside the session and without influence on it.
"""

from __future__ import annotations

from bgp_lite.core import OPEN_HOLD, Session
from bgp_lite.errors import Cease, Code, PeerError
from bgp_lite.fsm import State
from bgp_lite.messages import Open
from bgp_lite.wire import Framer, decode, encode


class Candidate:
    """What a new connection says before anything is decided.  Raises PeerError, as `wire` does."""

    def __init__(self, session: Session, now: float) -> None:
        if session.state is State.IDLE:
            raise PeerError(Code.CEASE, Cease.REJECTED, "no session is wanted")
        self._session = session
        self.framer = Framer()
        self.hello = encode(session.hello())
        """To be written at once."""
        self.deadline = now + OPEN_HOLD

    def received(self, data: bytes) -> Open | None:
        """The peer's OPEN, as soon as it is there and if the connection is to be kept.

        What came after it stays in `framer`.
        """
        self.framer.feed(data)
        frame = self.framer.next_frame()
        if frame is None:
            return None
        message = decode(*frame)
        if not isinstance(message, Open):
            raise PeerError(Code.FSM, 1, f"{type(message).__name__} before the OPEN")
        self._session.check(message)
        if not self._session.prefers(message):
            raise PeerError(Code.CEASE, Cease.COLLISION, "there is a connection that is preferred")
        return message
