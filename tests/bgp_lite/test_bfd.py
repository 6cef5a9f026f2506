"""BFD: the packet, the table, and two ends with a lossy path between them in virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp_lite.bfd.core import Changed, Effect, Profile, Send, Session
from bgp_lite.bfd.packet import BadPacket, ControlPacket, Diagnostic, State
from bgp_lite.bfd.state import TRANSITIONS, next_state

u32 = st.integers(0, 2**32 - 1)
packets = st.builds(
    ControlPacket,
    state=st.sampled_from(State),
    detect_mult=st.integers(1, 255),
    my_discriminator=st.integers(1, 2**32 - 1),
    your_discriminator=st.integers(1, 2**32 - 1),
    desired_min_tx_us=u32,
    required_min_rx_us=u32,
    required_min_echo_rx_us=u32,
    diagnostic=st.integers(0, 31),
    poll=st.booleans(),
    final=st.booleans(),
    independent=st.booleans(),
    demand=st.booleans(),
)


@given(st.binary(max_size=40))
def test_any_octets_are_a_packet_or_bad(data: bytes) -> None:
    with suppress(BadPacket):
        packet = ControlPacket.decode(data)
        assert ControlPacket.decode(packet.encode()) == packet


@given(packets)
def test_packets_survive_the_wire(packet: ControlPacket) -> None:
    assert ControlPacket.decode(packet.encode()) == packet


def test_octets_of_a_packet() -> None:
    """A router's packet at 50 ms x 3, written out by RFC 5880 §4.1."""
    packet = ControlPacket.decode(
        bytes.fromhex("20c80318 00000001 00000002 0000c350 0000c350 00000000".replace(" ", ""))
    )
    assert packet == ControlPacket(
        state=State.UP,
        detect_mult=3,
        my_discriminator=1,
        your_discriminator=2,
        desired_min_tx_us=50_000,
        required_min_rx_us=50_000,
        independent=True,
    )


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        ("20c80318", "4 octets"),
        ("40c80318 00000001 00000002 0000c350 0000c350 00000000", "version 2"),
        ("20c80317 00000001 00000002 0000c350 0000c350 00000000", "length field 23"),
        ("20c80319 00000001 00000002 0000c350 0000c350 00000000", "length field 25"),
        ("20c80018 00000001 00000002 0000c350 0000c350 00000000", "multiplier 0"),
        ("20c90318 00000001 00000002 0000c350 0000c350 00000000", "multipoint"),
        ("20c80318 00000000 00000002 0000c350 0000c350 00000000", "my discriminator 0"),
        ("20c80318 00000001 00000000 0000c350 0000c350 00000000", "your discriminator 0"),
        ("20cc0318 00000001 00000002 0000c350 0000c350 00000000", "authentication"),
    ],
)
def test_bad_packets(octets: str, why: str) -> None:
    with pytest.raises(BadPacket, match=why):
        ControlPacket.decode(bytes.fromhex(octets.replace(" ", "")))


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(State)


LIVE = sorted(set(State) - {State.ADMIN_DOWN})


@pytest.mark.parametrize(("a", "b"), list(itertools.product(LIVE, repeat=2)))
def test_two_live_ends_always_meet(a: State, b: State) -> None:
    for _ in range(3):
        a = next_state(a, b)
        b = next_state(b, a)
    assert (a, b) == (State.UP, State.UP)


FAST = Profile(transmit_interval=0.05, receive_interval=0.05)


class Path:
    """Two sessions and the network between them; the seed is the whole history."""

    def __init__(self, *profiles: Profile, seed: int = 1, loss: float = 0.0, delay: float = 0.001) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.loss, self.delay = loss, delay
        self.ends = [
            Session(p, n + 1, rng=random.Random(f"{seed}{n}"), now=0.0) for n, p in enumerate(profiles)
        ]
        self.changes: list[tuple[float, int, Changed]] = []
        self.sent = [0, 0]
        self.dead: set[int] = set()
        self._order = itertools.count()
        self._mail: list[tuple[float, int, int, bytes]] = []

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            live = [n for n in (0, 1) if n not in self.dead]
            wakes = [(max(self.now, self.ends[n].next_deadline()), n) for n in live]
            mail_at = self._mail[0][0] if self._mail else float("inf")
            at, who = min(wakes, default=(float("inf"), -1))
            if min(at, mail_at) > until:
                break
            # What has arrived is read before a deadline is believed.
            self.now = min(at, mail_at)
            if mail_at <= at:
                _, _, to, data = heapq.heappop(self._mail)
                if to not in self.dead:
                    self.do(to, self.ends[to].handle(ControlPacket.decode(data), self.now))
            else:
                self.do(who, self.ends[who].tick(self.now))
        self.now = until

    def do(self, who: int, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(packet):
                    self.sent[who] += 1
                    if self.rng.random() >= self.loss:
                        mail = (self.now + self.delay, next(self._order), 1 - who, packet.encode())
                        heapq.heappush(self._mail, mail)
                case Changed():
                    self.changes.append((self.now, who, effect))

    @property
    def states(self) -> list[State]:
        return [end.state for end in self.ends]


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from((FAST, Profile(), replace(FAST, detect_multiplier=5))))
def test_two_ends_come_up_and_stay_up(seed: int, profile: Profile) -> None:
    path = Path(profile, FAST, seed=seed)
    path.run(5)
    assert path.states == [State.UP, State.UP]
    assert len(path.changes) <= 5, path.changes
    settled = len(path.changes)
    path.run(20)
    assert len(path.changes) == settled


def test_a_death_is_noticed_within_the_detection_time() -> None:
    for seed in range(50):
        path = Path(FAST, FAST, seed=seed)
        path.run(5 + seed / 500)
        path.dead.add(1)
        died = path.now
        path.run(1)
        at, who, change = path.changes[-1]
        assert (who, change.new, change.diagnostic) == (0, State.DOWN, Diagnostic.DETECTION_TIME_EXPIRED)
        assert 0.099 <= at - died <= 0.152, f"seed {seed}"


def test_the_slower_end_sets_the_pace() -> None:
    path = Path(FAST, replace(FAST, receive_interval=1.0))
    path.run(5)
    before = path.sent[0]
    path.run(60)
    assert 60 <= path.sent[0] - before <= 85, "one packet each 0.75 to 1 s"
    assert path.ends[1].detection_time == 3.0


def test_goodbye_is_not_an_expiry() -> None:
    path = Path(FAST, FAST)
    path.run(5)
    path.do(0, path.ends[0].set_admin_down(path.now))
    path.run(0.01)
    assert path.changes[-1][2] == Changed(State.UP, State.DOWN, Diagnostic.NEIGHBOR_DOWN)
    path.run(5)
    assert path.states == [State.ADMIN_DOWN, State.DOWN]


def test_a_passive_end_waits_to_be_spoken_to() -> None:
    quiet = replace(FAST, passive=True)
    path = Path(quiet, quiet)
    path.run(30)
    assert path.sent == [0, 0]
    path = Path(quiet, FAST)
    path.run(5)
    assert path.states == [State.UP, State.UP]


def test_intervals_change_without_a_flap() -> None:
    path = Path(FAST, FAST)
    path.run(5)
    settled = len(path.changes)
    for profile in (Profile(transmit_interval=1.0, receive_interval=1.0), FAST, Profile()):
        path.ends[0].change(profile, path.now)
        path.run(20)
        assert path.ends[0].transmit_interval == pytest.approx(max(profile.transmit_interval, 0.05))
    assert len(path.changes) == settled


def test_loss_below_the_multiplier_is_no_failure() -> None:
    path = Path(replace(FAST, detect_multiplier=10), replace(FAST, detect_multiplier=10), loss=0.05)
    path.run(5)
    settled = len(path.changes)
    path.run(600)
    assert len(path.changes) == settled


def test_a_restarted_peer_is_met_again() -> None:
    path = Path(FAST, FAST)
    path.run(5)
    path.ends[1] = Session(FAST, 77, rng=random.Random(5), now=path.now)
    path.run(5)
    assert path.states == [State.UP, State.UP]
    assert path.ends[0].remote_discr == 77


@pytest.mark.parametrize(
    ("field", "value"),
    [("transmit_interval", 0.009), ("receive_interval", 61), ("detect_multiplier", 1), ("minimum_ttl", 255)],
)
def test_bad_profiles_name_their_field(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        replace(FAST, **{field: value})  # type: ignore[arg-type]
