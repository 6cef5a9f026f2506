"""Nothing a peer can say breaks a core."""

from hypothesis import given, settings
from hypothesis import strategies as st

from memberlist.effects import Notify, SendPacket
from memberlist.events import Event
from memberlist.messages import (
    VSN,
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Nack,
    PacketMessage,
    Ping,
    State,
    Suspect,
    User,
)
from tests.memberlist.one_core import SOMEBODY, make, meet, parts

names = st.sampled_from(["me", "x", "y", "", "stranger"])
u32 = st.sampled_from([0, 1, 2, 7, 2**31, 2**32 - 1])
octets = st.sampled_from(
    [b"", b"\x0a\0\0\x01", b"\x0a\0\0\x02", bytes(16), b"abc", bytes(10) + b"\xff\xff\x01\x02\x03\x04"]
)
anything = st.one_of(
    st.builds(Ping, u32, names, octets, st.integers(0, 65535), names),
    st.builds(
        IndirectPing,
        u32,
        octets,
        st.integers(0, 65535),
        names,
        st.booleans(),
        octets,
        st.integers(0, 65535),
        names,
    ),
    st.builds(Ack, u32, st.sampled_from([None, b"", b"x"])),
    st.builds(Nack, u32),
    st.builds(Suspect, u32, names, names),
    st.builds(Dead, u32, names, names),
    st.builds(
        Alive,
        u32,
        names,
        octets,
        st.integers(0, 65535),
        st.sampled_from([None, b"m", bytes(513)]),
        st.sampled_from([VSN, b"", b"\x01", bytes(6)]),
    ),
    st.builds(User, st.binary(max_size=5)),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(anything, st.floats(0, 0.5)), max_size=60), st.booleans())
def test_nothing_a_peer_can_say_breaks_us(said: list[tuple[PacketMessage, float]], watch: bool) -> None:
    core, now = meet(make(watch=watch), "x", "y"), 0.0
    events: list[Event] = []
    for message, wait in said:
        now += wait
        effects = core.handle_packet([message], SOMEBODY, now)
        while core.next_deadline() <= now:
            effects += core.tick(now)
        events += [e.event for e in effects if isinstance(e, Notify)]
        for effect in effects:
            if isinstance(effect, SendPacket):
                assert len(effect.parts) <= 127
                parts([effect])
    assert core.table.me.state is State.ALIVE
    assert {node.name for node in core.members()} <= {"me", "x", "y", "stranger"}
