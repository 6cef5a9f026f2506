"""Connections the peer makes: which of two is kept, and a real listener on the loopback."""

from __future__ import annotations

import random
import socket
from dataclasses import replace
from functools import partial

import pytest
import trio

from bgp_lite.attributes import Path
from bgp_lite.collision import Candidate
from bgp_lite.config import PeerConfig
from bgp_lite.core import Adopt, Changed, Close, Session
from bgp_lite.driver import Driver
from bgp_lite.errors import Cease, PeerError
from bgp_lite.fsm import State
from bgp_lite.listener import Listener
from bgp_lite.messages import Keepalive, Notification, Open, Update
from bgp_lite.prefix import parse_prefix
from bgp_lite.wire import Framer, decode, encode
from tests.bgp_lite.test_core import LOCAL, ROUTER_OPEN, US, Router

LOW, HIGH = 0x0A000001, 0x0A000003
"""Identifiers below and above ours."""


def meet(session: Session, theirs: Open, more: bytes = b"") -> tuple[Candidate, Open | None]:
    candidate = Candidate(session, 0.0)
    assert isinstance(read(candidate.hello)[0], Open)
    return candidate, candidate.received(encode(theirs) + more)


def read(octets: bytes) -> list[object]:
    framer = Framer()
    framer.feed(octets)
    return [decode(*got) for got in iter(framer.next_frame, None)]


def last_words(effects: list[object]) -> list[tuple[int, int]]:
    closed = [each.last for each in effects if isinstance(each, Close)]
    return [(n.code, n.subcode) for last in closed for n in read(last) if isinstance(n, Notification)]


@pytest.mark.parametrize("ours", ["OPEN_SENT", "OPEN_CONFIRM"])
@pytest.mark.parametrize(("identifier", "theirs_stays"), [(LOW, False), (HIGH, True)])
def test_the_higher_identifier_keeps_the_connection_it_made(
    ours: str, identifier: int, theirs_stays: bool
) -> None:
    router = Router()
    router.do(router.session.start(0))
    router.do(router.session.connected(0, LOCAL))
    theirs = replace(ROUTER_OPEN, router_id=identifier)
    if ours == "OPEN_CONFIRM":
        router.say(theirs)
    if not theirs_stays:
        with pytest.raises(PeerError, match="preferred") as refused:
            meet(router.session, theirs)
        assert (refused.value.code, refused.value.subcode) == (6, Cease.COLLISION)
        assert router.session.state is State[ours]
        return
    candidate, message = meet(router.session, theirs, encode(Keepalive()))
    assert message is not None
    effects = router.session.accepted(0, LOCAL, candidate.framer, message)
    assert last_words([*effects]) == [(6, Cease.COLLISION)]
    assert Adopt() in effects
    assert router.session.state is State.ESTABLISHED, "the KEEPALIVE that came with the OPEN counts"


def test_equal_identifiers_of_two_ases_are_decided_by_the_as() -> None:
    router = Router()
    router.do(router.session.start(0))
    router.do(router.session.connected(0, LOCAL))
    theirs = replace(ROUTER_OPEN, router_id=router.session.hello().router_id)
    with pytest.raises(PeerError, match="preferred"):
        meet(router.session, theirs)  # AS 65000 against our 65001


def test_an_established_session_is_left_alone() -> None:
    router = Router()
    router.establish()
    with pytest.raises(PeerError, match="preferred"):
        meet(router.session, replace(ROUTER_OPEN, router_id=HIGH))
    assert router.session.state is State.ESTABLISHED


def test_a_peer_that_restarts_gracefully_has_lost_the_first_connection() -> None:
    router = Router(replace(US, restart_time=60))
    theirs = replace(
        ROUTER_OPEN,
        capabilities=replace(
            ROUTER_OPEN.capabilities, graceful_restart=router.session.hello().capabilities.graceful_restart
        ),
    )
    router.session.rib.announce(parse_prefix("203.0.113.1"), Path())
    router.establish(theirs)
    candidate, message = meet(router.session, theirs, encode(Keepalive()))
    assert message is not None
    router.heard.clear()
    effects = router.session.accepted(1.0, LOCAL, candidate.framer, message)
    assert [each.last for each in effects if isinstance(each, Close)] == [b""], "without a NOTIFICATION"
    router.do(effects)
    assert router.session.state is State.ESTABLISHED
    assert any(isinstance(each, Update) and each.announced for each in router.heard), "told everything again"


def test_nobody_is_let_in_when_no_session_is_wanted_or_the_open_is_wrong() -> None:
    session = Session(US, rng=random.Random(0))
    with pytest.raises(PeerError, match="no session"):
        Candidate(session, 0.0)
    session.start(0.0)
    with pytest.raises(PeerError, match="expected 65000"):
        meet(session, replace(ROUTER_OPEN, capabilities=replace(ROUTER_OPEN.capabilities, asn=64999)))
    with pytest.raises(PeerError, match="before the OPEN"):
        Candidate(session, 0.0).received(encode(Keepalive()))


# -- on real sockets ---------------------------------------------------------------------------------------


class Peer:
    """A router that only connects."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream, self._framer = stream, Framer()

    async def hear(self, kind: type[object]) -> object:
        while True:
            while got := self._framer.next_frame():
                message = decode(*got)
                if isinstance(message, kind):
                    return message
            data = await self.stream.receive_some(65536)
            assert data, f"closed while a {kind.__name__} was awaited"
            self._framer.feed(bytes(data))

    async def say(self, *messages: Open | Keepalive) -> None:
        await self.stream.send_all(b"".join(map(encode, messages)))


class Watched:
    """A driver whose changes of state can be waited for."""

    def __init__(self, config: PeerConfig) -> None:
        self.session = Session(config, rng=random.Random(1))
        self.driver = Driver(self.session, self._changed)
        self.states: list[State] = []
        self._news = trio.Event()

    def _changed(self, change: Changed) -> None:
        self.states.append(change.new)
        self._news.set()
        self._news = trio.Event()

    async def reach(self, state: State) -> None:
        with trio.fail_after(10):
            while self.session.state is not state:
                await self._news.wait()


async def test_a_passive_session_is_made_by_the_peer_and_made_again() -> None:
    config = PeerConfig(peer="127.0.0.1", local_as=65001, peer_as=65000, router_id="10.0.0.2", passive=True)
    watched, listener = Watched(config), Listener(port=0, address="127.0.0.1")
    driver = watched.driver
    driver.session.rib.announce(parse_prefix("203.0.113.1"), Path())
    listener.add(driver)
    (port,) = listener.ports
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        nursery.start_soon(driver.run)
        for _ in range(2):
            await watched.reach(State.ACTIVE)
            with trio.fail_after(10):
                peer = Peer(await trio.open_tcp_stream("127.0.0.1", port))
                await peer.say(ROUTER_OPEN)
                await peer.hear(Open)
                await peer.hear(Keepalive)
                await peer.say(Keepalive())
                update = await peer.hear(Update)
            assert isinstance(update, Update)
            assert [str(each) for each in update.announced] == ["203.0.113.1/32"]
            assert driver.peer_address == "127.0.0.1"
            await peer.stream.aclose()
        await watched.reach(State.ACTIVE)
        nursery.cancel_scope.cancel()
    assert watched.states.count(State.ESTABLISHED) == 2


async def test_both_connect_at_once_and_one_connection_stays() -> None:
    """The peer's identifier is the higher one: its connection is kept, ours hears 6/7."""
    theirs = replace(ROUTER_OPEN, router_id=HIGH)
    server = await trio.open_tcp_listeners(0, host="127.0.0.1")
    config = PeerConfig(
        peer="127.0.0.1",
        port=server[0].socket.getsockname()[1],
        local_as=65001,
        peer_as=65000,
        router_id="10.0.0.2",
    )
    watched, listener = Watched(config), Listener(port=0, address="127.0.0.1")
    driver = watched.driver
    listener.add(driver)
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        nursery.start_soon(driver.run)
        with trio.fail_after(10):
            dialled = Peer(await server[0].accept())
            await dialled.hear(Open)
            made = Peer(await trio.open_tcp_stream("127.0.0.1", listener.ports[0]))
            await made.say(theirs)
            cease = await dialled.hear(Notification)
            await made.hear(Keepalive)
            await made.say(Keepalive())
            await dialled.stream.aclose()
            await watched.reach(State.ESTABLISHED)
            await made.hear(Update)  # end-of-RIB
            await driver.stop(Cease.ADMIN_SHUTDOWN, "enough")
            bye = await made.hear(Notification)
            await made.stream.aclose()
        nursery.cancel_scope.cancel()
    assert cease == Notification(6, Cease.COLLISION)
    assert bye == Notification(6, Cease.ADMIN_SHUTDOWN, b"\x06enough")
    await server[0].aclose()


async def test_a_stranger_is_hung_up_on_and_a_babbler_told_why() -> None:
    config = PeerConfig(peer="127.0.0.1", local_as=65001, peer_as=65000, router_id="10.0.0.2", passive=True)
    driver = Driver(Session(config, rng=random.Random(1)), lambda _: None)
    listener = Listener(port=0, address="127.0.0.1")
    listener.add(driver)
    port = listener.ports[0]
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        nursery.start_soon(driver.run)
        with trio.fail_after(10):
            babbler = Peer(await trio.open_tcp_stream("127.0.0.1", port))
            await babbler.stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            assert await babbler.hear(Notification) == Notification(1, 1)
            await babbler.stream.aclose()
            with socket.socket() as raw:
                raw.bind(("127.0.0.2", 0))
                raw.connect(("127.0.0.1", port))
                raw.setblocking(False)
                stranger = trio.SocketStream(trio.socket.from_stdlib_socket(raw.dup()))
                assert await stranger.receive_some() == b""
                await stranger.aclose()
        listener.remove(driver)
        nursery.cancel_scope.cancel()


async def test_a_planned_end_drains_withdraws_and_says_goodbye() -> None:
    server = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = server[0].socket.getsockname()[1]
    config = PeerConfig(peer="127.0.0.1", port=port, local_as=65001, peer_as=65000, router_id="10.0.0.2")
    watched = Watched(config)
    prefix = parse_prefix("203.0.113.1")
    watched.session.rib.announce(prefix, Path())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.driver.run)
        with trio.fail_after(10):
            peer = Peer(await server[0].accept())
            await peer.say(ROUTER_OPEN, Keepalive())
            announced = await peer.hear(Update)
            await peer.hear(Update)  # the ends of both tables
            await peer.hear(Update)
            nursery.start_soon(partial(watched.driver.stop, Cease.ADMIN_SHUTDOWN, "bye", graceful=0.05))
            drained, withdrawn = await peer.hear(Update), await peer.hear(Update)
            assert await peer.hear(Notification) == Notification(6, Cease.ADMIN_SHUTDOWN, b"\x03bye")
            await peer.stream.aclose()
            await watched.reach(State.IDLE)
        nursery.cancel_scope.cancel()
    await server[0].aclose()
    assert isinstance(announced, Update)
    assert isinstance(drained, Update)
    assert isinstance(withdrawn, Update)
    assert announced.announced == drained.announced == withdrawn.withdrawn == (prefix,)
    assert [each.value.hex() for each in drained.attributes if each.type == 8] == ["ffff0000"]
    assert prefix in watched.session.rib.wanted, "what is wanted outlives the session"
