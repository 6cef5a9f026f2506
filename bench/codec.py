"""How many packets a second one core takes off the wire and puts on it.

The packet is what one probe costs: a ping and an ack in one compound, opened to messages and sealed again.

    python bench/codec.py [--seconds 1.0]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence

from memberlist import codec, lzw
from memberlist.keyring import Keyring, metallb_key
from memberlist.messages import Ack, Alive, PacketMessage, Ping
from memberlist.packet import Wire

MESSAGES = (
    Ping(70_001, "node-b.example", bytes((10, 0, 0, 1)), 7946, "node-a.example"),
    Ack(70_000),
)
ALIVES = [Alive(n, f"node-{n}.example", bytes((10, 0, 0, n)), 7946) for n in range(1, 20)]


def rate(job: Callable[[], object], seconds: float) -> float:
    """Calls in a second of one core: the best of twenty goes, since caches and clock rates are shared."""
    best = 0.0
    for _ in range(20):
        count, start = 0, time.process_time()  # what others do on the machine is not our time
        while (spent := time.process_time() - start) < seconds / 20:
            for _ in range(100):
                job()
            count += 100
        best = max(best, count / spent)
    return best


def round_trip(wire: Wire, messages: Sequence[PacketMessage] = MESSAGES) -> Callable[[], object]:
    sealed = wire.seal([codec.encode(message) for message in messages], crc=True, nonce=os.urandom(12))

    def job() -> bytes:
        messages = wire.open(sealed)
        return wire.seal([codec.encode(message) for message in messages], crc=True, nonce=os.urandom(12))

    return job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each line (default 1)")
    seconds = parser.parse_args().seconds
    ring = Keyring([metallb_key(b"K6Yl0q5mWb2s1l9RkQ3u7A")])
    gossip = Wire().seal([codec.encode(alive) for alive in ALIVES], crc=True, nonce=b"")
    plain_gossip = Wire(compress=False).seal([codec.encode(alive) for alive in ALIVES], crc=False, nonce=b"")
    packed_gossip = lzw.compress(plain_gossip)
    jobs: dict[str, Callable[[], object]] = {
        "ping, plain: open and seal": round_trip(Wire(compress=False), MESSAGES[:1]),
        "ack, plain: open and seal": round_trip(Wire(compress=False), MESSAGES[1:]),
        "ping+ack, plain: open and seal": round_trip(Wire(compress=False)),
        "ping+ack, AES-256: open and seal": round_trip(Wire(ring, compress=False)),
        "ping+ack, AES-256, label: open and seal": round_trip(Wire(ring, "blue", compress=False)),
        "ping+ack, AES-256, LZW tried: open and seal": round_trip(Wire(ring)),
        f"{len(ALIVES)} alives, LZW: open": lambda: Wire().open(gossip),
        f"LZW, {len(plain_gossip)} octets of gossip: compress": lambda: lzw.compress(plain_gossip),
        f"LZW, {len(plain_gossip)} octets of gossip: decompress": lambda: lzw.decompress(
            packed_gossip, 1 << 20
        ),
    }
    for name, job in jobs.items():
        print(f"{name:<50} {rate(job, seconds):>10,.0f} /s")


if __name__ == "__main__":
    main()
