"""The queue of news to gossip: each item is sent a limited number of times, the freshest first."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import TypeAlias

_Key: TypeAlias = tuple[int, int, int]


@dataclass(slots=True)
class _Item:
    name: str
    message: bytes
    token: int | None
    transmits: int = 0


class Broadcasts:
    """Ordered by transmits (fewer first), then length (longer first), then age (newer first).

    A message about a name replaces the older one about the same name: only the newest news of a member is
    worth a place in a packet.
    """

    def __init__(self) -> None:
        self._items: dict[int, _Item] = {}
        self._order: list[_Key] = []
        self._by_name: dict[str, int] = {}
        self._next_id = 0
        self._finished: list[int] = []

    def __len__(self) -> int:
        return len(self._items)

    def queue(self, name: str, message: bytes, token: int | None = None) -> None:
        """`token` is handed out by `finished` once the message is sent often enough, replaced or pruned."""
        if (old := self._by_name.get(name)) is not None:
            self._remove(old)
        self._next_id += 1
        self._items[self._next_id] = _Item(name, message, token)
        self._by_name[name] = self._next_id
        insort(self._order, self._key(self._next_id))

    def take(self, overhead: int, limit: int, transmit_limit: int) -> list[bytes]:
        """Messages for one packet: the sum of their lengths, `overhead` each, stays within `limit` octets.

        An item that has been taken `transmit_limit` times is gone.  One that is too large for any packet
        stays, and blocks nothing, until it is replaced.
        """
        taken: list[int] = []
        used = 0
        for key in self._order:
            if used + overhead >= limit:
                break
            if used + overhead - key[1] <= limit:
                taken.append(-key[2])
                used += overhead - key[1]
        messages = []
        for number in taken:
            item = self._items[number]
            messages.append(item.message)
            if item.transmits + 1 >= transmit_limit:
                self._remove(number)
            else:
                self._unorder(number)
                item.transmits += 1
                insort(self._order, self._key(number))
        return messages

    def prune(self, keep: int) -> None:
        """Drop the items that were sent most until `keep` remain."""
        while len(self._order) > keep:
            self._remove(-self._order[-1][2])

    def finished(self) -> list[int]:
        """Tokens of items that left the queue since the last call."""
        done, self._finished = self._finished, []
        return done

    def _key(self, number: int) -> _Key:
        item = self._items[number]
        return (item.transmits, -len(item.message), -number)

    def _unorder(self, number: int) -> None:
        del self._order[bisect_left(self._order, self._key(number))]

    def _remove(self, number: int) -> None:
        self._unorder(number)
        item = self._items.pop(number)
        del self._by_name[item.name]
        if item.token is not None:
            self._finished.append(item.token)
        if not self._items:
            self._next_id = 0
