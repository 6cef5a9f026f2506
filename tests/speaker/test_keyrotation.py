"""The gossip key changes while speakers run: in time, among many, and in a real cluster's files."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from memberlist import Keyring
from speaker.reflex import keyrotation
from speaker.reflex.keyrotation import FORGET_AFTER, LOOK_INTERVAL, MAX_RETIRED, USE_AFTER, Rotation

OLD, NEW, NEXT = (bytes([number]) * 32 for number in range(3))


def kept(ring: Keyring) -> list[bytes]:
    return list(ring.keys)


def test_a_new_key_is_accepted_at_once_used_later_and_the_old_one_forgotten_in_the_end() -> None:
    ring = Keyring([OLD])
    rotation = Rotation(ring)
    assert not rotation.seen(OLD, 0.0)
    assert rotation.seen(NEW, 10.0)
    assert kept(ring) == [OLD, NEW]
    assert rotation.tick(10.0 + USE_AFTER - 1) == (False, 0)
    assert ring.primary == OLD
    assert rotation.tick(10.0 + USE_AFTER) == (True, 0)
    assert kept(ring) == [NEW, OLD]
    assert rotation.tick(10.0 + USE_AFTER + FORGET_AFTER) == (False, 1)
    assert kept(ring) == [NEW]


def test_who_takes_it_back_in_time_goes_on_with_the_old_key() -> None:
    ring = Keyring([OLD])
    rotation = Rotation(ring)
    rotation.seen(NEW, 0.0)
    assert rotation.seen(OLD, 60.0)
    assert rotation.tick(USE_AFTER + 60.0) == (False, 0)
    assert ring.primary == OLD
    assert rotation.tick(60.0 + FORGET_AFTER) == (False, 1)
    assert kept(ring) == [OLD]


@given(st.lists(st.integers(0, 255), min_size=20, max_size=60))
def test_a_key_every_moment_does_not_make_the_ring_grow(numbers: list[int]) -> None:
    ring = Keyring([OLD])
    rotation = Rotation(ring)
    for moment, number in enumerate(numbers):
        rotation.seen(bytes([number]) * 32, float(moment))
        rotation.tick(float(moment))
        assert len(ring) <= MAX_RETIRED + 2


@given(
    st.lists(st.floats(1, 1000), min_size=1, max_size=3),
    st.lists(
        st.lists(st.floats(0, USE_AFTER / 2 - LOOK_INTERVAL), min_size=3, max_size=3), min_size=2, max_size=4
    ),
)
def test_everybody_hears_everybody_all_the_time(pauses: list[float], delays: list[list[float]]) -> None:
    """The kubelets' delays of each change are a node's own; a node sees what its file has when it looks."""
    changes = [sum(pauses[: number + 1]) for number in range(len(pauses))]
    rings = [Keyring([OLD]) for _ in delays]
    rotations = [Rotation(ring) for ring in rings]
    for step in range(int((changes[-1] + USE_AFTER + FORGET_AFTER) / LOOK_INTERVAL) + 12):
        now = step * LOOK_INTERVAL
        for rotation, late in zip(rotations, delays, strict=True):
            # a kubelet that brings a later state has brought the earlier ones with it
            there = [
                n
                for n, at in enumerate(changes)
                if any(c + late[m] <= now for m, c in enumerate(changes) if m >= n)
            ]
            rotation.seen(bytes([len(there)]) * 32, now)
            rotation.tick(now)
        for speaker in rings:
            assert all(kept(speaker)[0] in listener for listener in rings), f"at {now} s"
    assert all(kept(ring) == [bytes([len(changes)]) * 32] for ring in rings)


async def test_it_follows_the_file(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    file = tmp_path / "secretkey"
    ring = Keyring.metallb(b"one")
    (first,) = kept(ring)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keyrotation.follow, ring, file)  # it is not there
        await trio.sleep(3 * LOOK_INTERVAL)
        file.write_bytes(b"")
        await trio.sleep(3 * LOOK_INTERVAL)
        assert kept(ring) == [first]
        file.write_bytes(b"two")
        await trio.sleep(LOOK_INTERVAL + 1)
        (second,) = kept(Keyring.metallb(b"two"))
        assert kept(ring) == [first, second]
        await trio.sleep(USE_AFTER + LOOK_INTERVAL)
        assert kept(ring) == [second, first]
        await trio.sleep(FORGET_AFTER + LOOK_INTERVAL)
        assert kept(ring) == [second]
        nursery.cancel_scope.cancel()
