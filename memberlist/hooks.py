"""The application's hooks as the protocol calls them: whatever one does wrong, its host stays a member."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from .codec import MAX_USER_STATE
from .config import MAX_META
from .delegate import Delegate
from .errors import MemberlistError
from .events import Node
from .packet import MAX_PAYLOAD

log = logging.getLogger(__name__)

T = TypeVar("T")


class Hooks:
    def __init__(self, delegate: Delegate | None) -> None:
        self._delegate = delegate or Delegate()
        self.broadcasting = self._overrides("broadcasts")
        """Whether there may be something to gossip that only the application knows of."""
        self.answering = self._overrides("ack_payload")
        self.veto = self._refuse_alive if self._overrides("refuse_alive") else None
        """Asked about a member that is news: why to ignore it, or None."""

    def meta(self) -> bytes | None:
        """Raises MemberlistError when it is too large."""
        meta = _ask(lambda: self._delegate.node_meta(MAX_META), None)
        if meta is not None and len(meta) > MAX_META:
            raise MemberlistError(f"metadata of {len(meta)} octets, at most {MAX_META} fit")
        return meta

    def notify_message(self, payload: bytes) -> None:
        _ask(lambda: self._delegate.notify_message(payload), None)

    def broadcasts(self, overhead: int, limit: int) -> list[bytes]:
        nothing: list[bytes] = []
        return _ask(lambda: _fitting(self._delegate.broadcasts(overhead, limit), overhead, limit), nothing)

    def local_state(self, join: bool) -> bytes:
        return _ask(lambda: _octets(self._delegate.local_state(join), MAX_USER_STATE), b"")

    def merge_remote_state(self, state: bytes, join: bool) -> None:
        _ask(lambda: self._delegate.merge_remote_state(state, join), None)

    def _refuse_alive(self, node: Node) -> str | None:
        return _ask(lambda: self._delegate.refuse_alive(node), None)

    def refuse_merge(self, nodes: tuple[Node, ...]) -> str | None:
        return _ask(lambda: self._delegate.refuse_merge(nodes), None)

    def ack_payload(self) -> bytes | None:
        return _ask(lambda: _octets_or_none(self._delegate.ack_payload()), None)

    def ping_complete(self, node: Node, rtt: float, payload: bytes | None) -> None:
        _ask(lambda: self._delegate.ping_complete(node, rtt, payload), None)

    def _overrides(self, name: str) -> bool:
        if getattr(type(self._delegate), name, None) is not getattr(Delegate, name):
            return True
        return _ask(lambda: name in getattr(self._delegate, "__dict__", ()), True)


def _octets(value: object, limit: int) -> bytes:
    """What a hook returned, so that a mistake shows here, where it does no harm."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} where octets are wanted")
    if len(value) > limit:
        raise ValueError(f"{len(value)} octets, at most {limit} can be sent")
    return value


def _octets_or_none(value: object) -> bytes | None:
    return None if value is None else _octets(value, MAX_PAYLOAD)


def _fitting(messages: list[bytes], overhead: int, limit: int) -> list[bytes]:
    room = limit - sum(len(_octets(message, limit)) + overhead for message in messages)
    if room < 0:
        raise ValueError(f"{-room} octets more than fit")
    return messages


def _ask(hook: Callable[[], T], otherwise: T) -> T:
    try:
        return hook()
    except Exception:
        log.exception("delegate_failed")
        return otherwise
