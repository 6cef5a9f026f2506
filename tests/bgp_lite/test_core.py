"""Two sessions joined by a pretend wire, in virtual time."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp_lite.attributes import Path
from bgp_lite.config import PeerAs, PeerConfig
from bgp_lite.core import OPEN_HOLD, RETRY_REJECTED, Changed, Close, Connect, Effect, Session, describe
from bgp_lite.errors import Cease, UsageError
from bgp_lite.fsm import State
from bgp_lite.messages import Keepalive, Notification, Open, RouteRefresh, Type, Update
from bgp_lite.prefix import Family, parse_prefix
from bgp_lite.wire import Framer, decode, encode

US = PeerConfig(
    peer="10.0.0.1",
    local_as=65001,
    peer_as=65000,
    router_id="10.0.0.2",
    hold_time=9,
    next_hops={Family.IPV6: bytes(15) + b"\x02"},
)
LOCAL = {Family.IPV4: bytes((10, 0, 0, 2))}
ROUTER_OPEN = Open(
    65000, 9, 0x0A000001, replace(Session(US, rng=random.Random(0)).hello().capabilities, asn=65000)
)


class Router:
    """The other end: records what it hears."""

    def __init__(self, config: PeerConfig = US, *, seed: int = 1) -> None:
        self.session = Session(config, rng=random.Random(seed))
        self.now = 0.0
        self.heard: list[object] = []
        self.effects: list[Effect] = []
        self._framer = Framer()

    def do(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Close):
                self._read(effect.last)
                self._framer = Framer()
        while data := self.session.take(self.now):
            self._read(data)

    def _read(self, data: bytes) -> None:
        self._framer.feed(data)
        while got := self._framer.next_frame():
            self.heard.append(decode(*got))

    def say(self, *messages: Open | Keepalive | Update | Notification | RouteRefresh) -> None:
        self.do(self.session.received(b"".join(map(encode, messages)), self.now))

    def wait(self, seconds: float) -> None:
        """Let time pass, deadline by deadline."""
        until = self.now + seconds
        while self.session.next_deadline() <= until:
            self.now = max(self.now, self.session.next_deadline())
            self.do(self.session.tick(self.now))
        self.now = until

    def establish(self, theirs: Open = ROUTER_OPEN) -> None:
        if self.session.state is State.IDLE:
            self.do(self.session.start(self.now))
        self.do(self.session.connected(self.now, LOCAL))
        self.say(theirs, Keepalive())
        assert self.session.state is State.ESTABLISHED

    def notifications(self) -> list[tuple[int, int]]:
        return [(each.code, each.subcode) for each in self.heard if isinstance(each, Notification)]


def test_the_way_up() -> None:
    router = Router()
    router.session.rib.announce(parse_prefix("203.0.113.1"), Path())
    router.establish()
    assert [type(each) for each in router.heard] == [Open, Keepalive, Update, Update, Update]
    assert [each.end_of_rib for each in router.heard[3:] if isinstance(each, Update)] == [
        Family.IPV4,
        Family.IPV6,
    ]
    states = [effect.new for effect in router.effects if isinstance(effect, Changed)]
    assert states == [State.CONNECT, State.OPEN_SENT, State.OPEN_CONFIRM, State.ESTABLISHED]
    assert router.session.synced


def test_a_silent_peer_is_left_when_the_hold_timer_says_so() -> None:
    router = Router()
    router.establish()
    router.wait(8.9)
    assert router.session.state is State.ESTABLISHED
    router.wait(0.2)
    assert router.notifications() == [(4, 0)]
    keepalives = sum(isinstance(each, Keepalive) for each in router.heard)
    assert 4 <= keepalives <= 6, "one to confirm, then one each 2.25 to 3 s"


def test_updates_keep_the_hold_timer_from_firing() -> None:
    router = Router()
    router.establish()
    for _ in range(20):
        router.wait(5)
        router.say(Update(withdrawn=(parse_prefix("192.0.2.0/24"),)))
    assert router.session.state is State.ESTABLISHED
    assert router.session.counters.updates_received == 20


def test_hold_time_zero_means_no_timers() -> None:
    router = Router(replace(US, hold_time=0))
    router.establish()
    router.wait(10_000)
    assert router.session.state is State.ESTABLISHED
    assert sum(isinstance(each, Keepalive) for each in router.heard) == 1


def test_a_peer_that_accepts_and_says_nothing() -> None:
    router = Router()
    router.do(router.session.start(0))
    router.do(router.session.connected(0, LOCAL))
    router.wait(OPEN_HOLD + 0.1)
    assert router.notifications() == [(4, 0)]
    assert router.session.state is not State.OPEN_SENT


def test_a_peer_that_does_not_read_is_left() -> None:
    session = Session(US, rng=random.Random(1))
    session.start(0)
    session.connected(0, LOCAL)
    assert session.take(0)
    session.received(encode(ROUTER_OPEN) + encode(Keepalive()), 0)
    assert session.take(1)  # and this write never ends
    now = 1.0
    while session.state is State.ESTABLISHED and now < 100:
        now += 1
        session.received(encode(Keepalive()), now)
        session.tick(now)
    assert now == 31
    assert session.last_error == "send hold timer expired"


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (replace(ROUTER_OPEN, capabilities=replace(ROUTER_OPEN.capabilities, asn=64999)), (2, 2)),
        (replace(ROUTER_OPEN, capabilities=replace(ROUTER_OPEN.capabilities, asn=0)), (2, 2)),
    ],
)
def test_an_open_that_does_not_fit(theirs: Open, expected: tuple[int, int]) -> None:
    router = Router()
    router.do(router.session.start(0))
    router.do(router.session.connected(0, LOCAL))
    router.say(theirs)
    assert router.notifications() == [expected]
    assert "64999" in router.session.last_error or "AS 0" in router.session.last_error


def test_our_own_identifier_is_refused_inside_one_as() -> None:
    router = Router(replace(US, peer_as=65001))
    router.do(router.session.start(0))
    router.do(router.session.connected(0, LOCAL))
    capabilities = replace(ROUTER_OPEN.capabilities, asn=65001)
    router.say(Open(65001, 9, 0x0A000002, capabilities))
    assert router.notifications() == [(2, 3)]


@pytest.mark.parametrize(
    ("peer_as", "asn", "fits"),
    [
        ("internal", 65001, True),
        ("internal", 65000, False),
        ("external", 65000, True),
        ("external", 65001, False),
    ],
)
def test_dynamic_as(peer_as: PeerAs, asn: int, fits: bool) -> None:
    router = Router(replace(US, peer_as=peer_as))
    router.do(router.session.start(0))
    router.do(router.session.connected(0, LOCAL))
    router.say(replace(ROUTER_OPEN, asn=asn, capabilities=replace(ROUTER_OPEN.capabilities, asn=asn)))
    assert (router.session.state is State.OPEN_CONFIRM) is fits


@pytest.mark.parametrize(
    ("messages", "subcode"),
    [((Keepalive(),), 1), ((ROUTER_OPEN, ROUTER_OPEN), 2), ((ROUTER_OPEN, Keepalive(), ROUTER_OPEN), 3)],
)
def test_a_message_out_of_turn(messages: tuple[Open | Keepalive, ...], subcode: int) -> None:
    router = Router()
    router.do(router.session.start(0))
    router.do(router.session.connected(0, LOCAL))
    router.say(*messages)
    assert router.notifications() == [(5, subcode)]


def test_retries_are_quick_at_first_and_bounded_later() -> None:
    router = Router()
    router.do(router.session.start(0))
    attempts: list[float] = []
    while router.now < 600:
        if router.session.state is State.CONNECT:
            attempts.append(router.now)
            router.do(router.session.failed(router.now, "refused"))
        router.wait(0.01)
    pauses = [b - a for a, b in itertools.pairwise(attempts)]
    assert pauses[0] <= 0.22
    assert max(pauses) <= US.connect_time + 0.02
    assert min(pauses[-5:]) >= 0.75 * US.connect_time - 0.02
    assert sum(at < 60 for at in attempts) >= 12, "a router that reboots is met soon"


def test_a_router_that_does_not_want_us_is_left_alone_for_a_while() -> None:
    router = Router()
    router.establish()
    router.say(Notification(6, 2, b"\x05later"))
    assert router.session.last_error == "peer said: cease (6/2): later"
    router.wait(RETRY_REJECTED - 1)
    assert router.effects.count(Connect()) == 1
    router.wait(10)
    assert router.effects.count(Connect()) == 2


def test_goodbye_with_words_and_without() -> None:
    router = Router()
    router.establish()
    router.do(router.session.stop(router.now, Cease.ADMIN_SHUTDOWN, "speaker shutdown on node-1"))
    said = router.heard[-1]
    assert isinstance(said, Notification)
    assert describe(said) == "cease (6/2): speaker shutdown on node-1"
    router.establish()
    heard = len(router.heard)
    router.do(router.session.stop(router.now, None))
    assert len(router.heard) == heard, "a restart says nothing, so that the peer keeps our routes"
    assert isinstance(router.effects[-2], Close)


def test_route_refresh_sends_a_family_again() -> None:
    router = Router()
    router.session.rib.announce(parse_prefix("203.0.113.1"), Path())
    router.session.rib.announce(parse_prefix("2001:db8::1"), Path())
    router.establish()
    router.heard.clear()
    router.say(RouteRefresh(1, 1))
    begins, again, ends = router.heard
    assert (begins, ends) == (RouteRefresh(1, 1, 1), RouteRefresh(1, 1, 2)), "RFC 7313: both can do it"
    assert isinstance(again, Update)
    assert [str(prefix) for prefix in again.announced] == ["203.0.113.1/32"]
    assert router.session.counters.updates_sent == 5
    router.say(RouteRefresh(25, 70))
    assert router.session.state is State.ESTABLISHED


def test_everything_is_sent_again_in_a_new_session() -> None:
    router = Router()
    router.session.rib.announce(parse_prefix("203.0.113.1"), Path())
    for _ in range(2):
        router.establish()
        router.do(router.session.failed(router.now, "lost"))
        router.wait(1)
    announced = [each for each in router.heard if isinstance(each, Update) and each.announced]
    assert len(announced) == 2


VALID = [encode(ROUTER_OPEN), encode(Keepalive())]


@settings(max_examples=200)
@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([encode(ROUTER_OPEN), encode(Keepalive())]), max_size=8)
)
def test_any_octets_leave_the_session_in_order(chunks: list[bytes]) -> None:
    router = Router()
    router.do(router.session.start(0))
    for chunk in chunks:
        if router.session.state in (State.CONNECT, State.ACTIVE):
            router.do(router.session.connected(router.now, LOCAL))
        router.do(router.session.received(chunk, router.now))
        router.wait(1)
    router.do(router.session.stop(router.now))
    assert router.session.state is State.IDLE
    assert router.session.next_deadline() == float("inf"), "nothing is left ticking"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peer", "router"),
        ("source", "10.0.0"),
        ("source", "fd09::2"),
        ("interface", "eth0"),
        ("device", "a-name-that-is-too-long"),
        ("local_as", 0),
        ("peer_as", 2**32),
        ("router_id", "0.0.0.0"),
        ("port", 0),
        ("hold_time", 2),
        ("keepalive_time", 91),
        ("connect_time", 0.5),
        ("families", frozenset()),
        ("password", b""),
        ("password", b"x" * 81),
        ("restart_time", 4096),
        ("next_hops", {Family.IPV4: b"xxx"}),
    ],
)
def test_bad_settings_name_their_field(field: str, value: object) -> None:
    named = "peer" if field == "interface" else field  # both are given: the one contradicts the other
    with pytest.raises(UsageError, match=f"^{named}: "):
        replace(US, **{field: value})  # type: ignore[arg-type]


def test_the_password_is_not_in_the_repr() -> None:
    assert "s3cret" not in repr(replace(US, password=b"s3cret"))


def test_connect_is_asked_for_once_per_attempt() -> None:
    router = Router()
    router.do(router.session.start(0))
    router.do(router.session.start(0))
    assert sum(isinstance(effect, Connect) for effect in router.effects) == 1


def test_update_frames_are_counted_not_built() -> None:
    router = Router()
    router.establish()
    big = (
        b"\xff" * 16
        + (4096).to_bytes(2, "big")
        + bytes((Type.UPDATE,))
        + bytes(2)
        + (4073).to_bytes(2, "big")
    )
    router.do(router.session.received(big + bytes(4073), router.now))
    assert router.session.state is State.ESTABLISHED
    assert router.session.counters.updates_received == 1
