from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist.errors import ConfigError, DecodeError
from memberlist.keyring import NONCE_SIZE, NONCES_AT_ONCE, Keyring, metallb_key, nonces, overhead

K16, K24, K32 = bytes(range(16)), bytes(range(24)), bytes(range(32))
NONCE = bytes(12)


def test_an_empty_ring_is_false() -> None:
    assert not Keyring()
    assert Keyring().primary is None
    assert Keyring([K16])


@pytest.mark.parametrize("size", [*range(16), *range(17, 24), *range(25, 32), 33, 38, 64])
def test_sizes_other_than_three_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"keyring: a key has {size} octets; it must have 16, 24 or 32"):
        Keyring([bytes(size)])


def test_add_use_and_remove_while_running() -> None:
    ring = Keyring([K16])
    ring.add(K24)
    ring.add(K16)  # known: nothing changes
    assert list(ring.keys) == [K16, K24]
    assert ring.primary == K16
    ring.add(K32)
    ring.use(K32)
    assert list(ring.keys) == [K32, K16, K24]
    with pytest.raises(ConfigError, match="not in the ring"):
        ring.use(bytes(16))
    with pytest.raises(ConfigError, match="primary"):
        ring.remove(K32)
    ring.remove(bytes(16))  # unknown: no error
    ring.remove(K16)
    assert list(ring.keys) == [K32, K24]
    assert K16 not in ring
    assert len(ring) == 2


def test_replaced_by_what_a_file_has_now_or_not_at_all() -> None:
    ring = Keyring([K16, K24])
    ring.replace([K32, K16])
    assert ring.keys == (K32, K16)
    with pytest.raises(ConfigError, match="a key has 3 octets"):
        ring.replace([K24, b"bad"])
    assert ring.keys == (K32, K16)


def test_any_key_of_the_ring_decrypts_and_a_removed_one_does_not() -> None:
    ring = Keyring([K16, K24, K32])
    payload = ring.encrypt(b"text", aad=b"", nonce=NONCE)
    ring.use(K32)
    assert ring.decrypt(payload, aad=b"") == b"text"
    assert Keyring([K16]).decrypt(payload, aad=b"") == b"text"
    ring.remove(K16)
    with pytest.raises(DecodeError, match="no installed keys"):
        ring.decrypt(payload, aad=b"")


KEYS = st.sampled_from([K16, K24, K32])


@given(
    st.binary(max_size=100),
    KEYS,
    st.binary(max_size=20),
    st.binary(min_size=12, max_size=12),
    st.sampled_from([0, 1]),
)
def test_there_and_back(text: bytes, key: bytes, aad: bytes, nonce: bytes, version: int) -> None:
    ring = Keyring([key])
    payload = ring.encrypt(text, aad=aad, nonce=nonce, version=version)
    assert ring.decrypt(payload, aad=aad) == text
    assert len(payload) == len(text) + (29 if version else 29 + 16 - len(text) % 16)
    assert len(payload) <= len(text) + overhead(version)
    with pytest.raises(DecodeError):
        ring.decrypt(payload, aad=aad + b"x")


@given(st.binary(max_size=100))
def test_any_octets_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Keyring([K16, K32]).decrypt(data, aad=b"")


def test_one_flipped_bit_is_noticed() -> None:
    ring = Keyring([K32])
    payload = ring.encrypt(b"\x0b\x81\xa5SeqNo\x08", aad=b"", nonce=NONCE)
    for position in range(1, len(payload)):  # the version octet is not authenticated, as in Go
        damaged = payload[:position] + bytes((payload[position] ^ 1,)) + payload[position + 1 :]
        with pytest.raises(DecodeError):
            ring.decrypt(damaged, aad=b"")


@pytest.mark.parametrize("last", range(256))
def test_padding_that_is_longer_than_the_text_is_refused(last: int) -> None:
    """Go panics.  Any other number of octets is cut without a look at them, as there."""
    ring = Keyring([K16])
    text = bytes(31) + bytes((last,))
    payload = b"\x00" + ring.encrypt(text, aad=b"", nonce=NONCE)[1:]
    if last > 32:
        with pytest.raises(DecodeError, match="padding"):
            ring.decrypt(payload, aad=b"")
    else:
        assert ring.decrypt(payload, aad=b"") == text[: 32 - last]


DATA = Path(__file__).parent / "data" / "memberlist_formulas_and_tolerance.json"
ROWS = [row for row in json.loads(DATA.read_text())["decoder_tolerance"] if row["name"] == "decrypt"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["hex"][:12])
def test_as_liberal_as_go(row: dict[str, str]) -> None:
    assert row["go_msgpack_0.5.5"].startswith("ERR")
    with pytest.raises(DecodeError):
        Keyring([K16]).decrypt(bytes.fromhex(row["hex"]), aad=b"")


def test_the_rows_are_there() -> None:
    assert len(ROWS) == 8


def test_a_wrong_nonce_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="nonce: 11 octets"):
        Keyring([K16]).encrypt(b"", aad=b"", nonce=bytes(11))


def test_keys_are_shown_nowhere() -> None:
    key = b"a very secret AES-256 key 32 oct"
    ring = Keyring([key])
    for text in (repr(ring), str(ring), f"{ring!a}"):
        assert "secret" not in text
        assert key.hex() not in text
    for wrong in (b"secret", b"secret" * 10):
        with pytest.raises(ConfigError) as caught:
            ring.add(wrong)
        assert "secret" not in str(caught.value)


# --- MetalLB ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        (b"verysecret", "76657279736563726574e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b"),
        (b"K6Yl0q5mWb2s1l9RkQ3u7A", "4b36596c3071356d57623273316c39526b5133753741e3b0c44298fc1c149afb"),
    ],
)
def test_the_keys_metallb_makes(secret: bytes, key: str) -> None:
    assert metallb_key(secret).hex() == key
    assert Keyring.metallb(secret).keys == (bytes.fromhex(key),)


@given(st.binary(min_size=1, max_size=80))
def test_the_secret_comes_first_and_is_never_hashed(secret: bytes) -> None:
    key = metallb_key(secret)
    assert len(key) == 32
    assert key.startswith(secret[:32])
    assert key[len(secret) :] == hashlib.sha256(b"").digest()[: max(0, 32 - len(secret))]


def test_an_empty_secret_means_no_encryption() -> None:
    assert not Keyring.metallb(b"")


def test_no_nonce_comes_twice() -> None:
    some = list(itertools.islice(nonces(), 3 * NONCES_AT_ONCE))
    assert {len(one) for one in some} == {NONCE_SIZE}
    assert len(set(some)) == len(some)
    assert not set(some) & set(itertools.islice(nonces(), NONCES_AT_ONCE))
