from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist import lzw
from memberlist.errors import DecodeError

LIMIT = 1 << 22


def codes_of(text: bytes) -> list[tuple[int, int]]:
    """The codes and their widths, from the description of the format and with no thought of speed.

    Strings instead of codes as keys, whole state reset in one place: nothing in common with what it checks.
    """
    codes = [(256, 9)]
    table: dict[bytes, int] = {}
    width, highest, overflow = 9, 257, 512

    def emit(code: int) -> bool:
        """Write one code; whether the table was cleared after it."""
        nonlocal width, highest, overflow
        codes.append((code, width))
        highest += 1
        if highest == overflow:
            width, overflow = width + 1, overflow * 2
        if highest == 4095:
            codes.append((256, width))
            width, highest, overflow = 9, 257, 512
            table.clear()
            return True
        return False

    current = text[:1]
    for position in range(1, len(text)):
        longer = current + text[position : position + 1]
        if longer in table:
            current = longer
            continue
        if not emit(table[current] if len(current) > 1 else current[0]):
            table[longer] = highest
        current = text[position : position + 1]
    if current:
        emit(table[current] if len(current) > 1 else current[0])
    codes.append((257, width))
    return codes


def pack(codes: list[tuple[int, int]]) -> bytes:
    bits = "".join(reversed([f"{code:0{width}b}" for code, width in codes]))
    return int(bits, 2).to_bytes((len(bits) + 7) // 8, "little")


def noise(seed: int, size: int, symbols: int = 256) -> bytes:
    rng = random.Random(seed)
    return bytes(rng.randrange(symbols) for _ in range(size))


TEXTS = st.binary(max_size=2000) | st.builds(
    noise, st.integers(0, 1 << 32), st.integers(0, 12_000), st.integers(1, 256)
)


@given(TEXTS)
def test_there_and_back(text: bytes) -> None:
    assert lzw.decompress(lzw.compress(text), LIMIT) == text


@given(TEXTS)
def test_every_code_is_the_one_the_format_asks_for(text: bytes) -> None:
    assert lzw.compress(text) == pack(codes_of(text))


# Where no two octets come twice each makes a code: these sizes end on and around each change of width and the
# clear (codes 511, 1023, 2047 and 4094 of the table).
EDGES = [edge + offset for edge in (254, 766, 1790, 3837, 3838 + 254) for offset in range(-3, 4)]


@pytest.mark.parametrize("size", [*range(5), *EDGES])
def test_the_end_may_fall_anywhere(size: int) -> None:
    all_pairs_differ = b"".join(bytes((n & 255, (n * 7 + n // 256 * 3 + 1) & 255)) for n in range(size))
    for text in (all_pairs_differ[:size], noise(size, size), bytes(size)):
        deflated = lzw.compress(text)
        assert deflated == pack(codes_of(text))
        assert lzw.decompress(deflated, LIMIT) == text
        assert lzw.compress_below(len(deflated) + 1, text) == deflated
        assert lzw.compress_below(len(deflated), text) is None


def test_one_octet_over_and_over_through_every_width() -> None:
    for size in (1, 2, 3, 1000, 200_000):
        assert lzw.decompress(lzw.compress(bytes(size)), LIMIT) == bytes(size)


def test_nothing() -> None:
    assert lzw.compress(b"") == bytes.fromhex("000302")
    assert lzw.decompress(bytes.fromhex("000302"), LIMIT) == b""


def test_octets_after_the_end_are_ignored() -> None:
    assert lzw.decompress(lzw.compress(b"hello") + b"more", LIMIT) == b"hello"


def test_a_leading_clear_is_optional_and_several_do_no_harm() -> None:
    codes = [(ord("a"), 9), (ord("b"), 9), (257, 9)]
    assert lzw.decompress(pack(codes), LIMIT) == b"ab"
    assert lzw.decompress(pack([(256, 9)] * 3 + codes), LIMIT) == b"ab"


def test_a_full_table_without_a_clear_stays_as_it_is() -> None:
    """An encoder may go on with 12-bit codes; ours never does, Go's decoder reads it."""
    text = noise(1, 5000)
    codes, width, highest = [], 9, 257
    for octet in text:
        codes.append((octet, width))
        highest = min(highest + 1, 4096)
        width = min(12, highest.bit_length())
    codes.append((257, width))
    assert lzw.decompress(pack(codes), LIMIT) == text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        lzw.compress(b"hello")[:-1],
        pack([(256, 9), (258, 9), (257, 9)]),  # a code nobody defined
        pack([(256, 9), (97, 9), (300, 9), (257, 9)]),
        pack([(97, 9), (98, 9), (256, 9), (258, 9), (257, 9)]),  # defined, but before the clear
    ],
)
def test_what_is_no_stream(data: bytes) -> None:
    with pytest.raises(DecodeError):
        lzw.decompress(data, LIMIT)


def test_a_bomb_is_stopped_where_asked() -> None:
    bomb = lzw.compress(bytes(1_000_000))
    assert len(bomb) < 2500
    assert len(lzw.decompress(bomb, 1_000_000)) == 1_000_000
    with pytest.raises(DecodeError, match="more than 999999"):
        lzw.decompress(bomb, 999_999)


@given(st.binary(max_size=400))
def test_any_octets_are_a_text_or_an_error(data: bytes) -> None:
    with suppress(DecodeError):
        assert len(lzw.decompress(data, 1000)) <= 1000
