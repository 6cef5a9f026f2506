"""Our own sessions, against a router that is played here: which stay, which end, and with what words."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
import trio

from bgp_lite.attributes import GRACEFUL_SHUTDOWN, Path
from bgp_lite.messages import Capabilities, GracefulRestart, Keepalive, Notification, Open, Update
from bgp_lite.prefix import Family, Prefix, parse_prefix
from bgp_lite.wire import KEEPALIVE, Framer, decode, encode
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.node import Node
from speaker.planner.bfd import News
from speaker.planner.native import NativeRouters, peer_config
from speaker.planner.routerid import from_name, router_id
from tests.speaker.planner.lab import soon

WEB, DB = parse_prefix("198.51.100.1/32"), parse_prefix("198.51.100.2/32")
NODE = Node(name="a")
ONE: dict[Prefix, Path] = {WEB: Path()}


def peer(name: str = "tor", port: int = 179, **more: Any) -> BgpPeer:
    found: dict[str, Any] = {"my_asn": 64500, "peer_asn": 65000, "address": ip_address("127.0.0.1"), **more}
    return BgpPeer(name=name, port=port, connect_time=1, **found)


class Router:
    """Notes what it is told, connection by connection."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[list[object]] = []

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream: trio.abc.Stream) -> None:
        heard: list[object] = []
        self.connections.append(heard)
        mine = Open(65000, 90, 1, Capabilities(families=frozenset(Family), asn=65000))
        await stream.send_all(encode(mine) + KEEPALIVE)
        framer = Framer()
        try:
            async for data in stream:
                framer.feed(bytes(data))
                while frame := framer.next_frame():
                    message = decode(*frame)
                    if not isinstance(message, Keepalive):
                        heard.append(message)
        except trio.BrokenResourceError:
            pass

    def prefixes(self, connection: int = -1) -> set[Prefix]:
        told: set[Prefix] = set()
        for message in self.connections[connection] if self.connections else ():
            if isinstance(message, Update):
                told = (told | set(message.announced)) - set(message.withdrawn)
        return told

    def goodbye(self, connection: int) -> tuple[int, int] | None:
        for message in self.connections[connection]:
            if isinstance(message, Notification):
                return int(message.code), message.subcode
        return None


@asynccontextmanager
async def running() -> AsyncIterator[tuple[NativeRouters, Router]]:
    routers, router = NativeRouters(rng=random.Random(1)), Router()
    async with trio.open_nursery() as nursery:
        await nursery.start(router.run)
        nursery.start_soon(routers.run)
        yield routers, router
        nursery.cancel_scope.cancel()


def said(routers: NativeRouters) -> dict[str, str]:
    return {view.peer: view.state for view in routers.sessions()}


async def test_a_peer_that_stays_the_same_keeps_its_session() -> None:
    async with running() as (routers, router):
        here = peer(port=router.port)
        routers.apply([here], {"tor": ONE}, NODE)
        await soon(lambda: router.prefixes() == {WEB})
        routers.apply([peer(port=router.port)], {"tor": {WEB: ONE[WEB], DB: Path()}}, NODE)
        await soon(lambda: router.prefixes() == {WEB, DB})
        routers.apply([here], {"tor": {DB: Path((1,))}}, NODE)
        await soon(lambda: router.prefixes() == {DB})
        (view,) = routers.sessions()
        assert (view.state, view.wanted, view.sent, view.last_error) == ("Established", 1, 1, "")
        assert view.counters["opens_sent"] == 1
        assert len(router.connections) == 1


async def test_a_peer_that_changed_says_so_and_comes_back() -> None:
    async with running() as (routers, router):
        routers.apply([peer(port=router.port)], {"tor": ONE}, NODE)
        await soon(lambda: router.prefixes() == {WEB})
        routers.apply([peer(port=router.port, hold_time=30)], {"tor": ONE}, NODE)
        await soon(lambda: len(router.connections) == 2 and router.prefixes() == {WEB})
        assert router.goodbye(0) == (6, 6)
        hold = [each.hold_time for told in router.connections for each in told if isinstance(each, Open)]
        assert hold == [90, 30]
        (view,) = routers.sessions()
        assert view.counters["opens_sent"] == 2  # of the process, not of the session


async def test_a_peer_that_is_gone_is_told() -> None:
    async with running() as (routers, router):
        routers.apply([peer(port=router.port)], {"tor": ONE}, NODE)
        await soon(lambda: router.prefixes() == {WEB})
        routers.apply([], {}, NODE)
        assert said(routers) == {}
        await soon(lambda: router.goodbye(0) == (6, 3))


async def test_the_end_is_announced_then_withdrawn_then_said() -> None:
    async with running() as (routers, router):
        routers.apply([peer(port=router.port)], {"tor": ONE}, NODE)
        await soon(lambda: router.prefixes() == {WEB})
        await routers.close()
        await soon(lambda: router.goodbye(0) == (6, 2))
        updates = [each for each in router.connections[0] if isinstance(each, Update) and not each.end_of_rib]
        leaving, gone = updates[-2:]
        value = GRACEFUL_SHUTDOWN.to_bytes(4, "big")
        assert leaving.announced == (WEB,)
        assert any(value in attribute.value for attribute in leaving.attributes)
        assert (gone.announced, gone.withdrawn) == ((), (WEB,))
        routers.apply([peer(port=router.port)], {"tor": ONE}, NODE)  # too late
        assert len(router.connections) == 1


async def test_cancelled_it_leaves_what_a_graceful_restart_needs() -> None:
    async with running() as (routers, router):
        routers.apply([peer(port=router.port, graceful_restart=True)], {"tor": ONE}, NODE)
        await soon(lambda: router.prefixes() == {WEB})
        (hello,) = [each for each in router.connections[0] if isinstance(each, Open)]
        promised = hello.capabilities.graceful_restart
        assert isinstance(promised, GracefulRestart)
        assert (promised.restarting, promised.restart_time, set(promised.forwarding)) == (
            True,
            120,
            {Family.IPV4},
        )
    assert router.goodbye(0) is None


async def test_with_graceful_restart_it_goes_without_a_word() -> None:
    async with running() as (routers, router):
        routers.apply([peer(port=router.port, graceful_restart=True)], {"tor": ONE}, NODE)
        await soon(lambda: router.prefixes() == {WEB})
        before = len(router.connections[0])
        await routers.close()
    assert len(router.connections[0]) == before, "nothing withdrawn, no NOTIFICATION"


async def test_bfd_ends_the_session_and_it_tries_again() -> None:
    async with running() as (routers, router):
        routers.apply([peer(port=router.port)], {"tor": ONE}, NODE)
        await soon(lambda: router.prefixes() == {WEB})
        routers.note_bfd(News("tor", "Down", True, {}))
        await soon(lambda: len(router.connections) == 2 and router.prefixes() == {WEB})
        assert router.goodbye(0) == (6, 10)
        routers.note_bfd(News("nobody", "Down", True, {}))  # removed meanwhile


async def test_one_that_cannot_be_prepared_is_told_and_costs_the_others_nothing() -> None:
    async with running() as (routers, router):
        nowhere = peer("nowhere", address=None, interface="nosuch0")
        routers.apply([peer(port=router.port), nowhere], {"tor": ONE, "nowhere": ONE}, NODE)
        await soon(lambda: said(routers)["tor"] == "Established")
        await soon(lambda: routers.sessions()[0].last_error)
        first = routers.sessions()[0]
        assert (first.peer, first.state, first.address) == ("nowhere", "Idle", "nosuch0")
        assert first.last_error == "cannot prepare the session: there is no interface 'nosuch0'"


def test_every_field_reaches_the_session() -> None:
    full = peer(
        local_asn=64999,
        source=ip_address("127.0.0.9"),
        hold_time=30,
        keepalive_time=10,
        router_id=IPv4Address("10.1.1.1"),
        password=b"key",
        graceful_restart=True,
        multihop=True,
        vrf="red",
        dual_stack=True,
    )
    found = peer_config(full, "a", restarted=True)
    assert (found.local_as, found.peer_as, found.router_id) == (64999, 65000, "10.1.1.1")
    assert (found.source, found.device, found.multihop) == ("127.0.0.9", "red", True)
    assert (found.hold_time, found.keepalive_time, found.connect_time) == (30, 10, 1)
    assert (found.password, found.restart_time, found.restarted) == (b"key", 120, True)
    assert found.families == frozenset(Family)
    assert found.hostname == "a"


@pytest.mark.parametrize(
    ("name", "expected"), [("node-1", "95.28.242.19"), ("kind-worker", "192.61.154.117")]
)
def test_the_identifier_of_the_name_is_metallbs(name: str, expected: str) -> None:
    assert from_name(name) == expected


def test_the_identifier_is_the_address_we_speak_from() -> None:
    assert router_id(peer(), "a") == "127.0.0.1"
    assert router_id(peer(source=ip_address("127.0.0.7")), "a") == "127.0.0.7"
    assert router_id(peer(address=ip_address("::1")), "a") == "127.0.0.1"  # of the same interface
