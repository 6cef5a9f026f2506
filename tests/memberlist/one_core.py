"""One core whose effects are looked at directly."""

import random
from collections.abc import Iterable
from typing import Any, TypeVar

from memberlist import codec
from memberlist.config import Config
from memberlist.core import Core
from memberlist.delegate import Delegate
from memberlist.effects import Effect, SendPacket
from memberlist.messages import (
    VSN,
    Alive,
    PacketMessage,
    Ping,
)

SOMEBODY = ("10.9.9.9", 999)
T = TypeVar("T", bound=PacketMessage)


def make(delegate: Delegate | None = None, **settings: Any) -> Core:
    core = Core(
        Config.lan(name="me", **settings),
        address="10.0.0.1",
        port=7946,
        now=0.0,
        rng=random.Random(1),
        delegate=delegate,
    )
    core.start(0.0)
    core.broadcasts.prune(0)
    return core


def meet(core: Core, *names: str, vsn: bytes = VSN, now: float = 0.0) -> Core:
    for number, name in enumerate(names):
        core.handle_packet([Alive(1, name, bytes((10, 0, 0, 2 + number)), 7946, None, vsn)], SOMEBODY, now)
    core.broadcasts.prune(0)
    return core


def parts(effects: Iterable[Effect]) -> list[tuple[str, PacketMessage]]:
    """(to whom, what) of everything sent, compounds taken apart."""
    return [
        (effect.to[0], codec.decode(part) if isinstance(part, bytes) else part)
        for effect in effects
        if isinstance(effect, SendPacket)
        for part in effect.parts
    ]


def only(kind: type[T], effects: Iterable[Effect]) -> list[tuple[str, T]]:
    return [(to, message) for to, message in parts(effects) if isinstance(message, kind)]


def run(core: Core, start: float, until: float) -> list[Effect]:
    """Tick at every deadline from `start` to `until`, as a driver does."""
    effects, now = [], start
    while (now := max(now, core.next_deadline())) <= until:
        effects += core.tick(now)
    return effects


def first_probe(core: Core) -> tuple[float, Ping, list[Effect]]:
    """The time, the ping and all effects of the first probe."""
    while True:
        now = core.next_deadline()
        effects = core.tick(now)
        if pings := only(Ping, effects):
            return now, pings[0][1], effects
