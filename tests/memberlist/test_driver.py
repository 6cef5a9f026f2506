"""Members with real sockets, on loopback."""

import dataclasses
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from memberlist import (
    Config,
    ConfigError,
    Delegate,
    Event,
    Joined,
    JoinError,
    Keyring,
    Lagged,
    Left,
    Member,
    MemberlistError,
    Node,
    State,
    Timeout,
    Unreachable,
    Updated,
    UserMessage,
    open_member,
    stream,
    streams,
)
from memberlist.codec import MAX_USER_STATE
from memberlist.messages import Ack, Ping, PushPull, StreamMessage, User
from memberlist.packet import MAX_PAYLOAD, Wire

PATIENCE = 60.0
"""Seconds after which a test that waits for something fails; nothing here needs one."""


def config(name: str, host: str = "127.0.0.1", **settings: Any) -> Config:
    # a stream that takes longer is closed, and a busy machine may take longer than the second it has here
    return Config.local(name=name, bind=(host, 0), **{"watch": True, "tcp_timeout": PATIENCE, **settings})


def at(member: Member) -> str:
    host, port = member.address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def names(member: Member) -> list[str]:
    return [node.name for node in member.members()]


async def until(member: Member, condition: Callable[[], bool]) -> None:
    """Return as soon as an event has made it true."""
    events = member.events()
    with trio.fail_after(PATIENCE):
        while not condition():
            await anext(events)
    events.close()


@asynccontextmanager
async def cluster(*members: str, **settings: Any) -> AsyncIterator[list[Member]]:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_member(config(name, **settings))) for name in members]
        for member in opened[1:]:
            await member.join([at(opened[0])])
        for member in opened:
            await until(member, lambda member=member: len(names(member)) == len(opened))  # type: ignore[misc]
        yield opened


# ------------------------------------------------------------------------------------------- joining


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"compress": False},
        {"label": "blue"},
        {"keyring": Keyring([bytes(32)]), "label": "blue"},
        {"keyring": Keyring([bytes(16)]), "protocol_version": 1},
        {"host": "::1"},
        {"host": "::", "advertise": ("::1", 0)},
        {"host": "::", "advertise": ("127.0.0.1", 0)},
    ],
    ids=str,
)
async def test_members_find_one_another(settings: dict[str, Any]) -> None:
    async with cluster("a", "b", "c", **settings) as members:
        for member in members:
            assert names(member) == ["a", "b", "c"]
            assert all(node.reachable and node.state is State.ALIVE for node in member.members())
        assert {member.statistics().packets_dropped for member in members} == {0}


async def test_join_says_how_many_answered_and_skips_ourselves() -> None:
    async with open_member(config("a")) as a, open_member(config("b")) as b:
        assert await b.join([at(b), at(a), "127.0.0.1:1"]) == 1
        assert await b.join([at(b)]) == 0


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:1", "^127.0.0.1:1: Connection refused$"),
        ("name.invalid", "name.invalid: cannot be resolved"),
        ("127.0.0.1:99999", "'127.0.0.1:99999': port '99999' is not a number from 1 to 65535"),
        ("/127.0.0.1", "the name in front of the slash is empty"),
        (":7946", "':7946': there is no host"),
    ],
)
async def test_a_join_that_fails_says_why(address: str, why: str) -> None:
    async with open_member(config("a")) as member:
        with pytest.raises(JoinError, match=why):
            await member.join([address])


async def test_a_name_may_be_required() -> None:
    async with open_member(config("a")) as a, open_member(config("b", require_node_names=True)) as b:
        with pytest.raises(JoinError, match="require_node_names wants name/address"):
            await b.join([at(a)])
        assert await b.join([f"a/{at(a)}"]) == 1


async def test_a_port_in_use_is_said_clearly() -> None:
    async with open_member(config("a")) as member:
        taken = Config.lan(name="b", bind=member.address)
        with pytest.raises(
            ConfigError, match=r"^bind: 127\.0\.0\.1 port \d+: Address already in use; another program has it"
        ):
            async with open_member(taken):
                raise AssertionError


async def test_an_address_that_is_not_ours_is_said_clearly() -> None:
    with pytest.raises(ConfigError, match=r"^bind: 192\.0\.2\.1 port 0: Cannot assign requested address$"):
        async with open_member(config("a", "192.0.2.1")):
            raise AssertionError


@pytest.mark.parametrize(
    ("ours", "others"),
    [
        ({"keyring": Keyring([bytes(16)])}, {"keyring": Keyring([bytes(15) + b"x"])}),
        ({"keyring": Keyring([bytes(16)])}, {}),
        ({}, {"keyring": Keyring([bytes(16)])}),
        ({"label": "blue"}, {"label": "green"}),
        ({"label": "blue"}, {}),
        ({}, {"label": "blue"}),
    ],
    ids=str,
)
async def test_strangers_stay_strangers(ours: dict[str, Any], others: dict[str, Any]) -> None:
    async with open_member(config("a", **ours)) as a, open_member(config("b", **others)) as b:
        with pytest.raises(JoinError):
            await b.join([at(a)])
        assert (names(a), names(b)) == (["a"], ["b"])


async def test_keys_change_while_running() -> None:
    old, new = bytes(16), b"x" * 16
    rings = {name: Keyring([old]) for name in "ab"}
    async with (
        open_member(config("a", keyring=rings["a"])) as a,
        open_member(config("b", keyring=rings["b"])) as b,
    ):
        for ring in rings.values():
            ring.add(new)
        for ring in rings.values():
            ring.use(new)
        for ring in rings.values():
            ring.remove(old)
        await b.join([at(a)])
        assert names(b) == ["a", "b"]


async def test_a_listener_that_never_answers_costs_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with open_member(config("a", tcp_timeout=0.1)) as member:
            with trio.fail_after(PATIENCE), pytest.raises(JoinError, match=r"no answer in 0\.1 s"):
                await member.join([f"127.0.0.1:{mute.getsockname()[1]}"])


async def test_a_cancelled_join_leaves_a_working_member() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with open_member(config("a")) as a, open_member(config("b")) as b:
            with trio.move_on_after(0.05) as scope:
                await a.join([f"127.0.0.1:{mute.getsockname()[1]}"])
            assert scope.cancelled_caught
            assert await a.join([at(b)]) == 1
            assert names(a) == ["a", "b"]


@pytest.mark.parametrize("call", ["update", "ping", "send_reliable", "leave"])
async def test_whatever_is_cancelled_the_cluster_stays_of_one_mind(call: str) -> None:
    async with cluster("a", "b", "c") as (a, b, c):
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "update": a.update,
            "ping": lambda: a.ping("b"),
            "send_reliable": lambda: a.send_reliable("b", bytes(10_000)),
            "leave": a.leave,
        }
        for seconds in (0.0, 0.0005, 0.002):  # at the first checkpoint, and somewhere on the way
            with trio.move_on_after(seconds):
                await calls[call]()
        remaining = ["b", "c"] if call == "leave" else ["a", "b", "c"]
        for member in (b, c):
            await until(member, lambda member=member: names(member) == remaining)  # type: ignore[misc]
        assert await b.ping("c", PATIENCE) > 0
        assert await a.ping("b", PATIENCE) > 0, "one that said goodbye goes on until it is closed"


async def test_a_merge_the_delegate_refuses() -> None:
    class Strict(Delegate):
        def refuse_merge(self, nodes: tuple[Node, ...]) -> str:
            return "closed society"

    async with open_member(config("a")) as a, open_member(config("b"), delegate=Strict()) as b:
        with pytest.raises(JoinError, match="merge refused: closed society"):
            await b.join([at(a)])
        assert names(b) == ["b"]


# ---------------------------------------------------------------------------------- life and death


async def test_one_that_falls_silent_is_unreachable_to_the_others() -> None:
    async with cluster("a", "b") as (a, b):
        async with open_member(config("c")) as c:
            await c.join([at(a)])
            await until(b, lambda: len(names(b)) == 3)
        await until(a, lambda: not {n.name: n.reachable for n in a.members()}.get("c", False))
        await until(b, lambda: not {n.name: n.reachable for n in b.members()}.get("c", False))


async def test_a_leave_is_a_leave() -> None:
    async with cluster("a", "b") as (a, b):
        with trio.fail_after(PATIENCE):
            await b.leave(timeout=PATIENCE)
        await until(a, lambda: names(a) == ["a"])
        assert {node.name: node.state for node in a.nodes()} == {"a": State.ALIVE, "b": State.LEFT}
        assert names(b) == ["a"]


async def test_a_leave_nobody_carries_times_out() -> None:
    async with cluster("a", "b", gossip_interval=0, probe_interval=0, watch=False) as (_, b):
        with pytest.raises(Timeout, match=r"not finished in 0\.01 s"):
            await b.leave(timeout=0.01)


async def test_a_loop_that_stood_still_blames_nobody() -> None:
    async with cluster("a", "b", "c") as members:
        seen: list[Event] = []
        for member in members:
            member.observe(seen.append)
        time.sleep(0.5)  # noqa: ASYNC251 - this is the stall
        events = members[0].events()
        members[1].send("a", b"after the stall")
        with trio.fail_after(PATIENCE):
            assert isinstance(await anext(events), UserMessage)
        with trio.move_on_after(0.4):  # two detection times
            await trio.sleep_forever()
        assert [event for event in seen if isinstance(event, Unreachable)] == []
        assert max(member.statistics().late_max for member in members) > 0.2


async def test_metadata_too_large_is_said_clearly_and_costs_nobody_its_membership() -> None:
    class Meta(Delegate):
        size = 513

        def node_meta(self, limit: int) -> bytes:
            return bytes(self.size)

    meta, much = Meta(), "metadata of 513 octets, at most 512 fit"
    with pytest.raises(MemberlistError, match=f"^{much}$"):
        async with open_member(config("a"), delegate=meta):
            pass
    meta.size = 512
    async with open_member(config("a"), delegate=meta) as a:
        meta.size = 513
        with pytest.raises(MemberlistError, match=f"^{much}$"):
            await a.update()
        assert [node.meta for node in a.members()] == [bytes(512)]


async def test_metadata_and_updates() -> None:
    class Meta(Delegate):
        text = b"first"

        def node_meta(self, limit: int) -> bytes:
            return self.text

    meta = Meta()
    async with open_member(config("a")) as a, open_member(config("b"), delegate=meta) as b:
        await b.join([at(a)])
        assert {node.name: node.meta for node in a.members()} == {"a": None, "b": b"first"}
        meta.text = b"second"
        events = a.events()
        await b.update(timeout=PATIENCE)
        with trio.fail_after(PATIENCE):
            event = await anext(events)
        assert isinstance(event, Updated)
        assert event.node.meta == b"second"


async def test_user_messages_both_ways() -> None:
    async with cluster("a", "b", keyring=Keyring([bytes(32)])) as (a, b):
        inbox = b.events()
        a.send("b", b"best effort")
        with trio.fail_after(PATIENCE):
            assert await anext(inbox) == UserMessage(b"best effort")
            await a.send_reliable("b", bytes(200_000))
            assert await anext(inbox) == UserMessage(bytes(200_000))
        with pytest.raises(MemberlistError, match="c: no such member"):
            a.send("c", b"")


async def test_the_largest_user_message_and_what_is_larger() -> None:
    async with cluster("a", "b", keyring=Keyring([bytes(32)]), label="blue") as (a, b):
        inbox = b.events()
        a.send("b", bytes(MAX_PAYLOAD))
        with trio.fail_after(PATIENCE):
            assert await anext(inbox) == UserMessage(bytes(MAX_PAYLOAD))
        with pytest.raises(MemberlistError, match=f"{MAX_PAYLOAD + 1} octets"):
            a.send("b", bytes(MAX_PAYLOAD + 1))
        with pytest.raises(MemberlistError, match="is not within"):
            await a.send_reliable("b", bytes(MAX_USER_STATE + 1))


async def test_who_cannot_send_its_state_stays_a_member() -> None:
    """The members and the application's state, each within its bound, may be too much together."""

    class Full(Delegate):
        def local_state(self, join: bool) -> bytes:
            return bytes(MAX_USER_STATE)

    settings = config("a", keyring=Keyring([bytes(32)]), compress=False)
    other = dataclasses.replace(settings, name="b")
    async with open_member(settings, delegate=Full()) as a, open_member(other) as b:
        with trio.fail_after(PATIENCE):
            with pytest.raises(JoinError, match="closed without an answer"):
                await b.join([at(a)])
            with pytest.raises(JoinError, match="octets encrypted; at most"):
                await a.join([at(b)])
        assert names(a) == ["a", "b"], "it heard what b said all the same"


async def test_what_takes_long_to_unpack_is_not_unpacked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or whoever sends a mebibyte would make us deaf for longer than we may be silent."""
    threads: list[tuple[int, bool]] = []
    feed, encode = stream.Reader.feed, stream.encode

    def noted(size: int) -> None:
        threads.append((size, threading.current_thread() is threading.main_thread()))

    def noting_feed(reader: stream.Reader, data: bytes) -> StreamMessage | None:
        message = feed(reader, data)
        if isinstance(message, User):
            noted(len(message.payload))
        return message

    def noting_encode(message: StreamMessage, *args: Any, **settings: Any) -> bytes:
        if isinstance(message, User):
            noted(len(message.payload))
        return encode(message, *args, **settings)

    monkeypatch.setattr(stream.Reader, "feed", noting_feed)
    monkeypatch.setattr(stream, "encode", noting_encode)
    async with cluster("a", "b", keyring=Keyring([bytes(32)])) as (a, b):
        inbox = b.events()
        with trio.fail_after(PATIENCE):
            for size in (1000, 200_000):
                payload = random.Random(size).randbytes(size)
                await a.send_reliable("b", payload)
                assert await anext(inbox) == UserMessage(payload)
    assert threads == [(1000, True), (1000, True), (200_000, False), (200_000, False)]


# ------------------------------------------------------------------------------------- bad company


async def test_rubbish_is_counted_and_does_no_harm() -> None:
    async with cluster("a", "b", keyring=Keyring([bytes(32)])) as (a, b):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for number in range(3000):
                stranger.sendto(bytes(number % 1400), a.address)
                if number % 100 == 0:
                    await trio.lowlevel.checkpoint()
        inbox = a.events()
        b.send("a", b"still there?")
        with trio.fail_after(PATIENCE):
            assert await anext(inbox) == UserMessage(b"still there?")
        assert a.statistics().packets_dropped > 0
        assert [node.reachable for node in b.members()] == [True, True]


async def test_stalled_tcp_peers_do_not_stop_the_gossip() -> None:
    async with cluster("a", "b", tcp_timeout=2.0) as (a, b), AsyncExitStack() as idle:
        for _ in range(streams.MAX_INBOUND + 10):
            await idle.enter_async_context(await trio.open_tcp_stream(*a.address))
        inbox = a.events()
        b.send("a", b"hello")
        with trio.fail_after(PATIENCE):
            assert await anext(inbox) == UserMessage(b"hello")
        # Their time runs out, and there is room again.
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    await b.join([at(a)])
                except JoinError:
                    await trio.sleep(0.05)
                else:
                    break


@pytest.mark.parametrize(
    "rubbish", [b"\xff" * 50, b"\x06\x83", b"\x0a\x7f\xff\xff\xff", b"\x09\xc1", b"", b"\x07\x01\x00\x01\x00"]
)
async def test_rubbish_on_a_stream_is_closed(rubbish: bytes) -> None:
    async with open_member(config("a")) as a:
        with trio.fail_after(PATIENCE):
            connection = await trio.open_tcp_stream(*a.address)
            async with connection:
                await connection.send_all(rubbish)
                await connection.send_eof()
                async for _ in connection:
                    pass
            async with open_member(config("b")) as b:
                assert await b.join([at(a)]) == 1


async def test_a_tcp_ping_is_answered_for_our_name_only() -> None:
    async with open_member(config("a")) as a:
        with trio.fail_after(PATIENCE):
            answer = await streams.exchange(a.address, Ping(7, "a"), Wire(), timeout=PATIENCE)
            assert answer == Ack(7)
            with pytest.raises(ConnectionError, match="closed without an answer"):
                await streams.exchange(a.address, Ping(7, "b"), Wire(), timeout=PATIENCE)


async def test_asking_for_members_makes_nobody_one() -> None:
    async with open_member(config("a")) as a:
        with trio.fail_after(PATIENCE):
            answer = await streams.exchange(
                a.address, PushPull(join=False, nodes=()), Wire(), timeout=PATIENCE
            )
        assert isinstance(answer, PushPull)
        assert [node.name for node in answer.nodes] == ["a"]
        assert names(a) == ["a"]


# ---------------------------------------------------------------------------------------- the door


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_member(config("a")):
            raise KeyError("mine")


async def test_a_cancelled_block_ends() -> None:
    with trio.move_on_after(0.01) as scope:
        async with open_member(config("a")):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_the_port_is_free_again_afterwards() -> None:
    async with open_member(config("a")) as member:
        address = member.address
    async with open_member(Config.lan(name="a", bind=address)) as member:
        assert member.address == address


async def test_a_slow_reader_is_told_what_it_missed() -> None:
    async with open_member(config("a")) as a:
        slow, quick = a.events(capacity=2), a.events()
        for number in range(5):
            a._notify(UserMessage(b"%d" % number))
        with trio.fail_after(PATIENCE):
            assert [await anext(slow) for _ in range(3)] == [UserMessage(b"0"), UserMessage(b"1"), Lagged(3)]
            a._notify(UserMessage(b"5"))
            assert await anext(slow) == UserMessage(b"5")
            assert [await anext(quick) for _ in range(6)] == [UserMessage(b"%d" % n) for n in range(6)]


async def test_events_end_with_the_membership() -> None:
    async with open_member(config("a")) as a:
        events = a.events()
        a._notify(UserMessage(b"last"))
    assert [event async for event in events] == [UserMessage(b"last")]


async def test_observers_are_called_at_once_and_their_mistakes_are_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("the application's mistake")

    seen: list[Event] = []
    async with open_member(config("a")) as a, open_member(config("b")) as b:
        a.observe(broken)
        stop = a.observe(seen.append)
        await b.join([at(a)])
        await until(a, lambda: len(names(a)) == 2)
        assert [type(event) for event in seen] == [Joined]
        stop()
        stop()
        await b.leave(timeout=PATIENCE)
        await until(a, lambda: len(names(a)) == 1)
        assert [type(event) for event in seen] == [Joined]
    assert "observer_failed" in caplog.messages
    assert Left not in [type(event) for event in seen]


# ------------------------------------------------------------------------------ ping and statistics


async def test_a_ping_of_ones_own_takes_a_moment_and_changes_nothing() -> None:
    async with cluster("a", "b", probe_interval=0) as (a, b):
        before = a.nodes()
        assert 0 < await a.ping("b", timeout=PATIENCE) < PATIENCE
        assert 0 < await a.ping("a", timeout=PATIENCE) < PATIENCE
        assert a.nodes() == before
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(b.ping, "a", PATIENCE)
        assert not a._pinged
        assert not a._core._pings


async def test_a_ping_that_nobody_answers_is_a_timeout_that_says_who() -> None:
    async with open_member(config("a", probe_interval=0)) as a:
        async with open_member(config("b")) as b:
            await b.join([at(a)])
            await until(a, lambda: names(a) == ["a", "b"])
            place = b.address
        with pytest.raises(
            Timeout, match=rf"^b \({place[0]} port {place[1]}\): no answer to a ping in 0.05 s"
        ):
            await a.ping("b", timeout=0.05)
        with pytest.raises(MemberlistError, match=r"^c: no such member$"):
            await a.ping("c")
        assert not a._pinged
        assert not a._core._pings


async def test_statistics_count_what_happens() -> None:
    async with cluster("a", "b", probe_interval=0.05, probe_timeout=0.05) as (a, _):
        with trio.fail_after(PATIENCE):
            # No event tells of an answered probe, or that we have looked whom to watch.
            while not ((now := a.statistics()).rtts and now.watched):  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert now.members == 2
        assert set(now.rtts) == {"b"}
        assert now.watched == {"b": False}
        assert not now.alone
        assert 0 < now.rtts["b"] < PATIENCE
        assert now.probes >= 1
        assert now.probes_failed <= now.probes
        assert now.packets_received >= 1
        assert now.packets_sent >= 1
        assert now.packets_dropped == 0
        assert now.messages["Ack"] >= 1
        assert sum(now.messages.values()) >= now.packets_received
