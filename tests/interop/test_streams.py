"""What our stream codec writes real members answer, and what they write it reads, octet for octet."""

from __future__ import annotations

import ipaddress
import os
from typing import Final

import trio

from memberlist import stream
from memberlist.keyring import NONCE_SIZE, Keyring
from memberlist.messages import Ack, Error, Ping, PushNodeState, PushPull, State, StreamMessage, User
from memberlist.packet import Wire as Wrapping
from tests.interop.cluster import MESSAGE_SECONDS, PORT, WIRES, Cluster, Wire, open_cluster
from tests.interop.gobuild import MODULE_FILES
from tests.interop.peer import Peer
from tests.interop.stage import Programs, Scene, Stage, scenes

STATE: Final = bytes(range(256)) * 2
"""User state: its length needs two octets, which the two generations of go-msgpack write differently."""


async def conversation(programs: Programs, go: str, wire: Wire) -> None:
    keyring = Keyring([bytes.fromhex(wire.secret_key)]) if wire.secret_key else None
    wrapping = Wrapping(keyring=keyring, label=wire.label)
    async with open_cluster(programs, wire.start) as cluster:
        peer = await cluster.start(go, "theirs", state=STATE.hex(), meta=b"who I am".hex())
        await we_dial(peer, wrapping)
        await they_dial(peer, wrapping, cluster)


async def we_dial(peer: Peer, wrapping: Wrapping) -> None:
    me = PushNodeState("ours", octets("127.0.0.1"), PORT, 1, State.LEFT)
    answer = await ask(peer, wrapping, PushPull(join=True, nodes=(me,), user_state=b"our state"))
    assert answer == PushPull(join=True, nodes=(as_listed(peer),), user_state=STATE)
    await peer.expect("state", state=b"our state".hex(), join=True, within=MESSAGE_SECONDS)

    assert await ask(peer, wrapping, Ping(7, peer.name)) == Ack(7)
    assert await ask(peer, wrapping, Ping(8, "somebody else")) is None
    assert await ask(peer, wrapping, User(b"reliable " * 9999)) is None
    await peer.expect("user", payload=(b"reliable " * 9999).hex(), within=MESSAGE_SECONDS)
    if wrapping.keyring:
        answer = await ask(peer, Wrapping(label=wrapping.label), Ping(9, peer.name), read=wrapping)
        assert isinstance(answer, Error)


async def they_dial(peer: Peer, wrapping: Wrapping, cluster: Cluster) -> None:
    host = cluster.free_host()
    me = PushNodeState("ours", octets(host), PORT, 1, State.ALIVE, meta=b"us")
    (listener,) = await trio.open_tcp_listeners(PORT, host=host)
    async with listener, trio.open_nursery() as nursery:
        send, heard = trio.open_memory_channel[StreamMessage](100)
        nursery.start_soon(answer_all, listener, wrapping, PushPull(True, (me,), b""), send)
        assert await peer.call("join", addresses=[f"{host}:{PORT}"]) == 1
        expected: set[StreamMessage] = {PushPull(join=True, nodes=(as_listed(peer),), user_state=STATE)}
        await peer.expect("join", about="ours")
        await peer.call("send", to="ours", payload=b"hello".hex(), reliable=True)
        expected.add(User(b"hello"))
        with trio.fail_after(MESSAGE_SECONDS):
            while expected:
                expected.discard(await heard.receive())
        nursery.cancel_scope.cancel()


async def answer_all(
    listener: trio.SocketListener,
    wrapping: Wrapping,
    state: PushPull,
    heard: trio.MemorySendChannel[StreamMessage],
) -> None:
    while True:
        connection = await listener.accept()
        async with connection:
            message = await receive(connection, wrapping, accepted=True)
            if message is not None:
                await heard.send(message)
            if isinstance(message, PushPull):
                answer = stream.encode(state, wrapping, dialling=False, nonce=os.urandom(NONCE_SIZE))
                await connection.send_all(answer)


async def ask(
    peer: Peer, wrapping: Wrapping, message: StreamMessage, *, read: Wrapping | None = None
) -> StreamMessage | None:
    """Send one message; what comes back, None if the connection closes without an answer."""
    with trio.fail_after(MESSAGE_SECONDS):
        async with await trio.open_tcp_stream(peer.host, peer.port) as connection:
            data = stream.encode(message, wrapping, dialling=True, nonce=os.urandom(NONCE_SIZE))
            await connection.send_all(data)
            return await receive(connection, read or wrapping, accepted=False)


async def receive(
    connection: trio.SocketStream, wrapping: Wrapping, *, accepted: bool
) -> StreamMessage | None:
    """The message, read in the pieces TCP makes; it must be what we would have written ourselves."""
    reader = stream.Reader(wrapping, accepted=accepted)
    data = b""
    async for chunk in connection:
        data += chunk
        message = reader.feed(bytes(chunk))
        if message is not None:
            start = (wrapping.label_overhead if accepted else 0) + 5 + 1
            nonce = data[start : start + NONCE_SIZE]
            assert stream.encode(message, wrapping, dialling=accepted, nonce=nonce).hex() == data.hex()
            return message
    assert data == b""
    return None


def as_listed(peer: Peer) -> PushNodeState:
    return PushNodeState(peer.name, octets(peer.host), PORT, 1, State.ALIVE, meta=b"who I am")


def octets(host: str) -> bytes:
    return ipaddress.ip_address(host).packed


@scenes(conversation, wire=WIRES, go=MODULE_FILES)
def test_streams_with_a_real_member(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
