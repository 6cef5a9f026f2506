"""What is to be told, and the packets it rides in: those of its own, and those that go somewhere anyway."""

from __future__ import annotations

from typing import Final

from . import codec, timing
from .broadcasts import Broadcasts
from .config import Address, Config
from .effects import SendPacket
from .hooks import Hooks
from .keyring import overhead
from .messages import PacketMessage, State, User
from .table import Table

MAX_PARTS: Final = 127
"""Messages in one compound; old peers misread more."""
PART: Final = 2
"""Octets a compound takes for each message beside itself."""
USER_PART: Final = 3
"""The same for the application's, with the message type."""


class News:
    def __init__(self, config: Config, table: Table, hooks: Hooks) -> None:
        self._config, self._table, self._hooks = config, table, hooks
        self.queue = Broadcasts()
        label = config.label.encode("utf-8", "surrogateescape")
        self._label_octets = 2 + len(label) if label else 0

    @property
    def waiting(self) -> bool:
        """Whether there is, or may be, something to tell."""
        return self._hooks.broadcasting or bool(self.queue)

    def gossip(self, now: float) -> list[SendPacket]:
        """To a few members by chance."""
        patience = self._config.gossip_to_the_dead_time
        targets = self._table.sample(
            self._config.gossip_nodes,
            lambda m: (
                m.state in (State.ALIVE, State.SUSPECT)
                or (m.state is State.DEAD and now - m.changed_at <= patience)
            ),
        )
        packets: list[SendPacket] = []
        for member in targets:
            news = self._take(self._config.udp_buffer_size - 2 - self.overhead())
            if not news:
                break
            for start in range(0, len(news), MAX_PARTS):
                parts = tuple(news[start : start + MAX_PARTS])
                packets.append(SendPacket(member.to, parts, member.speaks(5)))
        return packets

    def along(self, to: Address, message: PacketMessage) -> SendPacket:
        """A message with whatever still fits."""
        if not self.waiting:
            return SendPacket(to, (message,))
        encoded = codec.encode(message)
        room = self._config.udp_buffer_size - len(encoded) - 2 - self.overhead()
        return SendPacket(to, (encoded, *self._take(room)[: MAX_PARTS - 1]))

    def overhead(self) -> int:
        """Octets the label and the encryption of a packet take."""
        config = self._config
        encrypting = config.keyring is not None and len(config.keyring) and config.verify_outgoing
        version = 0 if config.protocol_version == 1 else 1
        return self._label_octets + (overhead(version) if encrypting else 0)

    def _take(self, room: int) -> list[bytes]:
        limit = timing.retransmit_limit(len(self._table.members), mult=self._config.retransmit_mult)
        news = self.queue.take(PART, room, limit)
        room -= sum(PART + len(one) for one in news)
        if self._hooks.broadcasting and room > USER_PART:
            extra = self._hooks.broadcasts(USER_PART, room)
            news += [codec.encode(User(payload)) for payload in extra]
        return news
