"""A session against a model of the router, in virtual time.

Wanted sets change at random, the router loses the session, asks for a refresh, or stops reading for a while
in the middle of a table; whatever happened, its routes end equal to what is wanted, and no message was longer
than 4,096 octets.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgp_lite import core
from bgp_lite.attributes import Path
from bgp_lite.config import PeerConfig
from bgp_lite.core import Close, Effect, Session
from bgp_lite.fsm import State
from bgp_lite.messages import Keepalive, Notification, Open, RawAttribute, RouteRefresh, Update
from bgp_lite.prefix import Family, Prefix, parse_prefix
from bgp_lite.wire import Framer, decode, encode

US = PeerConfig(peer="10.0.0.1", local_as=65001, peer_as=65000, router_id="10.0.0.2", hold_time=90)
LOCAL = {Family.IPV4: bytes((10, 0, 0, 2)), Family.IPV6: bytes(15) + b"\x02"}
PREFIXES = [parse_prefix(f"10.{n >> 8}.{n & 255}.0/24") for n in range(1600)] + [
    parse_prefix(f"2001:db8:{n:x}::/48") for n in range(600)
]
PATHS = [
    Path(),
    Path(communities=(65001 << 16 | 7,)),
    Path(large_communities=((65001, 1, 2),)),
    Path(communities=tuple(range(200))),
]


@dataclass
class Router:
    """What a router keeps of a session: its Adj-RIB-In, and how much of the stream it has read."""

    session: Session
    routes: dict[Prefix, tuple[RawAttribute, ...]] = field(default_factory=dict)
    ended: set[Family] = field(default_factory=set)
    messages: int = 0
    unread: bytearray = field(default_factory=bytearray)
    _framer: Framer = field(default_factory=Framer)
    now: float = 0.0

    def perform(self, effects: list[Effect]) -> None:
        if any(isinstance(effect, Close) for effect in effects):
            self.routes, self.ended, self._framer = {}, set(), Framer()
            self.unread.clear()

    def connect(self) -> None:
        if self.session.state is State.IDLE:
            self.perform(self.session.start(self.now))
        while self.session.state is not State.CONNECT:
            self.now = self.session.next_deadline()
            self.perform(self.session.tick(self.now))
        self.perform(self.session.connected(self.now, LOCAL))
        hello = self.session.hello()
        theirs = replace(hello.capabilities, asn=65000, extended_message=False)
        message = Open(65000, 90, 0x0A000001, theirs)
        self.perform(self.session.received(encode(message) + encode(Keepalive()), self.now))

    def read(self, writes: int) -> None:
        """Take so many writes off the session's hands, and hear them."""
        for _ in range(writes):
            data = self.session.take(self.now)
            if not data:
                return
            self._framer.feed(data)
            while got := self._framer.next_frame():  # raises on a message of more than 4,096 octets
                self._hear(*got)

    def _hear(self, *frame: object) -> None:
        message = decode(*frame)  # type: ignore[arg-type]
        self.messages += 1
        match message:
            case Update():
                for prefix in message.withdrawn:
                    assert prefix in self.routes, f"{prefix} withdrawn twice, or never announced"
                    del self.routes[prefix]
                self.routes.update(dict.fromkeys(message.announced, message.attributes))
                if message.end_of_rib is not None:
                    self.ended.add(message.end_of_rib)
            case Notification():
                raise AssertionError(f"we were told {message}")
            case _:
                pass

    def read_all(self) -> None:
        while not self.session.synced or self.session.state is not State.ESTABLISHED:
            if self.session.state is not State.ESTABLISHED:
                self.connect()
            self.read(1)
        self.read(1)

    def refresh(self, family: Family) -> None:
        self.perform(self.session.received(encode(RouteRefresh(family, 1)), self.now))

    def lose(self) -> None:
        self.perform(self.session.failed(self.now, "lost"))


def change(session: Session, rng: random.Random) -> None:
    """One random change of what is wanted: of one prefix, of many, or of all."""
    some, path = rng.sample(PREFIXES, rng.choice((1, 3, 50, 900))), rng.choice(PATHS)
    match rng.randrange(4):
        case 0:
            session.rib.replace(dict.fromkeys(some, path))
        case 1:
            for prefix in some:
                session.rib.withdraw(prefix)
        case _:
            for prefix in some:
                session.rib.announce(prefix, path)


def same(session: Session, router: Router) -> None:
    assert router.routes.keys() == session.rib.wanted.keys() == session.rib.sent.keys()
    for prefix, path in session.rib.wanted.items():
        communities = [each.value for each in router.routes[prefix] if each.type == 8]
        expected = b"".join(each.to_bytes(4, "big") for each in path.communities)
        assert b"".join(communities) == expected
    assert router.ended == set(Family)


@pytest.fixture(autouse=True)
def _one_message_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that changes come in between the messages of a table."""
    monkeypatch.setattr(core, "BATCH", 1)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.lists(st.integers(0, 9), max_size=25))
def test_the_router_ends_with_what_is_wanted(seed: int, story: list[int]) -> None:
    rng = random.Random(seed)
    router = Router(Session(US, rng=rng))
    for what in story:
        match what:
            case 0:
                router.lose()
            case 1 | 2 if router.session.state is State.ESTABLISHED:
                router.refresh(rng.choice(list(Family)))
            case 3 if router.session.state is not State.ESTABLISHED:
                router.connect()
            case 4 | 5:
                router.read(1)  # a slow reader: part of a table, then changes come in between
            case 6:
                router.read_all()
                same(router.session, router)
            case _:
                change(router.session, rng)
    router.read_all()
    same(router.session, router)


def test_what_is_withdrawn_while_its_announcement_waits_is_never_announced() -> None:
    """A reader that takes half a table; then everything unsent is withdrawn, and what was sent is changed."""
    session = Session(US, rng=random.Random(1))
    router = Router(session)
    session.rib.replace({prefix: PATHS[number % 97 % 4] for number, prefix in enumerate(PREFIXES)})
    router.connect()
    router.read(4)
    told = dict(session.rib.sent)
    assert 0 < len(told) < len(PREFIXES)
    session.rib.replace(dict.fromkeys(list(told)[::2], PATHS[1]))
    while not session.synced:
        router.read(1)
        assert router.routes.keys() <= told.keys()
    same(session, router)
