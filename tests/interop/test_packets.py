"""Every datagram real members send one another is read by our codec, and written again octet for octet."""

from __future__ import annotations

from collections.abc import Iterator

from memberlist import codec
from memberlist.keyring import NONCE_SIZE, Keyring
from memberlist.messages import Ack, Alive, Dead, IndirectPing, Nack, PacketMessage, Ping, Suspect, User
from memberlist.packet import Wire as Packets
from tests.interop.cluster import CRASH_SECONDS, WIRES, Cluster, Wire, all_see, marks, open_cluster
from tests.interop.gobuild import MODULE_FILES
from tests.interop.stage import Programs, Scene, Stage, scenes
from tests.interop.story import gather


async def overheard(programs: Programs, go: str, wire: Wire) -> None:
    async with open_cluster(programs, {**wire.start, "capture": True, "ack_payload": "beef"}) as cluster:
        await some_of_everything(cluster, go)
        datagrams = list(captured(cluster))
    packets = Packets(
        keyring=Keyring([bytes.fromhex(wire.secret_key)]) if wire.secret_key else None, label=wire.label
    )
    kinds: set[type[PacketMessage]] = set()
    layers: set[str] = set()
    for datagram in datagrams:
        opened = packets.examine(datagram)
        assert not opened.problems, datagram.hex()
        kinds.update(type(message) for message in opened.messages)
        layers.update(opened.layers)
        again = packets.seal(
            [codec.encode(message) for message in opened.messages],
            crc="crc" in opened.layers,
            nonce=nonce_of(datagram, packets),
        )
        assert again.hex() == datagram.hex()
    assert kinds == {Ping, IndirectPing, Ack, Nack, Suspect, Alive, Dead, User}
    expected = {"crc", "compress", "compound"}
    expected |= {"encrypt"} if wire.secret_key else set()
    expected |= {"label"} if wire.label else set()
    assert layers == expected


async def some_of_everything(cluster: Cluster, go: str) -> None:
    """Gossip, messages, a member that answers nobody, its death and a farewell."""
    first, second, third, fourth = await gather(cluster, [go] * 4)
    text = b"a text that compresses well " * 20
    mark = second.mark()
    await first.call("send", to=second.name, payload=text.hex(), reliable=False)
    await second.expect("user", since=mark)
    before = marks(cluster.peers.values())
    third.kill()
    await all_see("leave", third, (first, second, fourth), before, CRASH_SECONDS)
    await fourth.call("leave", timeout="5s")
    await all_see("leave", fourth, (first, second), before, CRASH_SECONDS)


def captured(cluster: Cluster) -> Iterator[bytes]:
    for peer in cluster.peers.values():
        for event in peer.seen("packet"):
            yield bytes.fromhex(event["data"])


def nonce_of(datagram: bytes, packets: Packets) -> bytes:
    start = packets.label_overhead + 1
    return datagram[start : start + NONCE_SIZE] if packets.encrypting else b""


@scenes(overheard, wire=WIRES, go=MODULE_FILES)
def test_real_datagrams_survive_our_codec(stage: Stage, scene: Scene) -> None:
    stage.outcome(scene)
