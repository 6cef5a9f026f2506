"""Members' metadata: ours, nobody's and a liar's."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.reflex import card
from speaker.reflex.card import MAX_CARD, MAX_MACS, MAX_UNABLE, BadCard, Card

CARDS = st.builds(
    Card,
    st.lists(st.binary(min_size=6, max_size=6), max_size=MAX_MACS).map(tuple),
    st.lists(st.integers(0, (1 << 32) - 1), max_size=MAX_UNABLE).map(tuple),
)


@given(CARDS)
def test_what_was_written_is_read_and_fits(made: Card) -> None:
    octets = card.encode(made)
    assert len(octets) <= MAX_CARD
    assert card.decode(octets) == made


def test_a_speaker_in_go_says_nothing() -> None:
    for meta in (None, b"", b"{}", b"\x80"):
        assert card.decode(meta) == Card()


@given(st.binary(max_size=600), st.booleans())
def test_no_octets_can_do_worse_than_be_refused(octets: bytes, ours: bool) -> None:
    with contextlib.suppress(BadCard):
        card.decode(card.encode(Card())[:7] + octets if ours else octets)


def test_bounds() -> None:
    for bad in (Card((b"12345",)), Card((b"123456",) * 17), Card((), (1,) * 65), Card((), (-1,))):
        with pytest.raises(BadCard):
            card.decode(card.encode(bad))
    with pytest.raises(BadCard, match="at most"):
        card.decode(card.encode(Card()) + bytes(MAX_CARD))
