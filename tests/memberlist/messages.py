"""Hypothesis strategies: every message the protocol has, anywhere in its range."""

from __future__ import annotations

from hypothesis import strategies as st

from memberlist.messages import (
    Ack,
    Alive,
    Dead,
    Error,
    IndirectPing,
    Nack,
    PacketMessage,
    Ping,
    PushNodeState,
    PushPull,
    StreamMessage,
    Suspect,
    User,
)

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFF_FFFF)
# Names are octets to Go; whatever they are must survive.
NAMES = st.binary(max_size=300).map(lambda octets: octets.decode("utf-8", "surrogateescape")) | st.just(
    "node-a"
)
ADDRESSES = st.just(b"") | st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
METAS = st.none() | st.binary(max_size=40) | st.just(bytes(512))
VERSIONS = st.just(b"") | st.binary(min_size=6, max_size=8)
PAYLOADS = st.binary(max_size=400)

PINGS = st.builds(Ping, U32, NAMES, ADDRESSES, U16, NAMES)
ACKS = st.builds(Ack, U32, st.none() | PAYLOADS)
USERS = st.builds(User, PAYLOADS)
PACKET_MESSAGES: st.SearchStrategy[PacketMessage] = st.one_of(
    PINGS,
    st.builds(IndirectPing, U32, ADDRESSES, U16, NAMES, st.booleans(), ADDRESSES, U16, NAMES),
    ACKS,
    st.builds(Nack, U32),
    st.builds(Suspect, U32, NAMES, NAMES),
    st.builds(Alive, U32, NAMES, ADDRESSES, U16, METAS, VERSIONS),
    st.builds(Dead, U32, NAMES, NAMES),
    USERS,
)

# Nil versions are sent as zeros in a push/pull, so they would not come back as they went.
NODE_STATES = st.builds(
    PushNodeState,
    NAMES,
    ADDRESSES,
    U16,
    U32,
    st.integers(0, 3) | st.integers(-(1 << 63), (1 << 63) - 1),
    METAS,
    st.binary(min_size=6, max_size=8),
)
PUSH_PULLS = st.builds(PushPull, st.booleans(), st.lists(NODE_STATES, max_size=5).map(tuple), PAYLOADS)
STREAM_MESSAGES: st.SearchStrategy[StreamMessage] = st.one_of(
    PINGS, ACKS, USERS, st.builds(Error, NAMES), PUSH_PULLS
)
