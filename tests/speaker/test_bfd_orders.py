"""BFD in the standing orders: hostile until checked, and nothing that stays the same is touched."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.orders import BadOrder, BfdPeer
from speaker.reflex import bfd


@pytest.mark.parametrize(
    ("peers", "why"),
    [
        ([BfdPeer("")], "address '' is not an IP address"),
        ([BfdPeer("nonsense")], "is not an IP address"),
        ([BfdPeer("192.0.2.1", local="x")], "local 'x' is not an IP address"),
        ([BfdPeer("192.0.2.1", device="x" * 16)], "is no interface"),
        ([BfdPeer("192.0.2.1", receive=9)], "receive_interval"),
        ([BfdPeer("192.0.2.1", transmit=60001)], "transmit_interval"),
        ([BfdPeer("192.0.2.1", multiplier=1)], "detect_multiplier"),
        ([BfdPeer("192.0.2.1", minimum_ttl=0)], "minimum_ttl"),
        ([BfdPeer("192.0.2.1"), BfdPeer("192.0.2.1", receive=50)], "stands there twice"),
        ([BfdPeer(f"10.0.{n >> 8}.{n & 255}") for n in range(257)], "at most 256"),
    ],
)
def test_orders_that_make_no_sense(peers: list[BfdPeer], why: str) -> None:
    with pytest.raises(BadOrder, match=why):
        bfd.check(tuple(peers))


@given(
    st.lists(
        st.builds(
            BfdPeer,
            st.sampled_from(["192.0.2.1", "fe80::1", ""]) | st.text(),
            st.text(max_size=20),
            st.text(max_size=20),
            st.booleans(),
            st.integers(),
            st.integers(),
            st.integers(),
            st.booleans(),
            st.integers(),
        ),
        max_size=4,
    )
)
def test_whatever_they_say_they_are_orders_or_bad(peers: list[BfdPeer]) -> None:
    try:
        bfd.check(tuple(peers))
    except BadOrder:
        return
    assert all(10 <= peer.receive <= 60000 for peer in peers)


async def test_what_cannot_be_had_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[str] = []
    sessions = bfd.Sessions(
        changed=lambda: changes.append("changed"), happened=lambda *_: None, rng=random.Random(1)
    )
    added: list[str] = []

    def add(peer: Any, *_: Any) -> Any:
        added.append(peer.address)
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(sessions._driver, "add", add)
    sessions.order((BfdPeer("192.0.2.1", local="203.0.113.9"),))
    assert sessions
    (state,) = (await sessions.snapshot()).peers
    assert (state.state, state.ups) == ("Down", 0)
    assert "Cannot assign requested address" in state.diagnostic
    sessions.order((BfdPeer("192.0.2.1", local="203.0.113.9"),))
    assert added == ["192.0.2.1"]
    sessions.order(())
    assert not sessions
    assert changes == ["changed"] * 3
