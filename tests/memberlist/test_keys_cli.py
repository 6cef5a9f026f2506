"""What a key file means."""

import base64
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist.cli.keys import from_file
from memberlist.errors import ConfigError
from memberlist.keyfile import MAX_SECRET, load, readings
from memberlist.keyring import metallb_key

KEYS = [bytes(range(150, 150 + size)) for size in (16, 24, 32)]


@pytest.mark.parametrize("key", KEYS)
def test_text_that_is_a_key_is_read_as_text(key: bytes) -> None:
    plain = base64.b64encode(key)
    for text in (key.hex().encode(), key.hex().upper().encode(), plain, base64.urlsafe_b64encode(key)):
        for written in (text, text + b"\n", b" " + text + b"\r\n", text.rstrip(b"=")):
            assert readings(written)[0] == key, written


def test_as_many_characters_as_a_key_has_octets_may_still_be_text() -> None:
    aes_128 = bytes(range(16))
    assert len(base64.b64encode(aes_128)) == 24
    assert readings(base64.b64encode(aes_128))[0] == aes_128, "not an AES-192 key of 24 characters"
    assert len(aes_128.hex()) == 32
    assert readings(aes_128.hex().encode())[0] == aes_128, "neither AES-256 nor base64 of AES-192"


@pytest.mark.parametrize("key", KEYS)
def test_octets_that_are_no_text_are_the_key(key: bytes) -> None:
    assert readings(key) == [key]
    with pytest.raises(ConfigError, match=f"^{len(key) + 1} octets that are neither a raw key"):
        readings(key + b"\n")


def test_a_raw_key_may_end_in_a_newline_and_be_printable() -> None:
    assert readings(b"fifteen letters\n") == [b"fifteen letters\n"]
    assert readings(b"sixteen letters!") == [b"sixteen letters!"]


def test_who_only_reads_gets_every_reading() -> None:
    text = bytes(16).hex().encode()
    assert set(readings(text)) == {bytes(16), base64.b64decode(text), text}


@given(st.binary(max_size=80))
def test_any_octets_are_keys_of_a_valid_size_or_one_error(secret: bytes) -> None:
    with suppress(ConfigError):
        assert {len(key) for key in readings(secret)} <= {16, 24, 32}


def test_metallb_takes_the_octets_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "secretkey"
    file.write_bytes(b"text\n")
    assert from_file(str(file), metallb=True) == [[metallb_key(b"text\n")]]


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "it is empty"), (bytes(MAX_SECRET + 1), f"over {MAX_SECRET} octets; that is no key")],
)
@pytest.mark.parametrize("metallb", [False, True])
def test_no_key_in_the_file(tmp_path: Path, content: bytes, why: str, metallb: bool) -> None:
    file = tmp_path / "secretkey"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as problem:
        from_file(str(file), metallb=metallb)
    assert str(problem.value).startswith(f"--secret-file: {file}: {why}")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
def test_several_keys_are_lines_or_a_list_the_primary_first(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "keys"
    texts = [base64.b64encode(KEYS[2]).decode(), KEYS[0].hex(), base64.b64encode(KEYS[1]).decode()]
    for content in (ending.join([*texts, ""]), json.dumps(texts), json.dumps(texts, indent=2) + ending):
        file.write_text(content)
        assert load(file) == (KEYS[2], KEYS[0], KEYS[1])
    file.write_text(json.dumps(texts[:1]))
    assert load(file) == (KEYS[2],)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (f"{KEYS[0].hex()}\nsecret", "key 2 of 2 is neither hexadecimal nor base64 of 16, 24 or 32 octets"),
        (json.dumps([5, KEYS[0].hex()]), "key 1 of 2 is neither"),
        ("[]", "a JSON list of no keys"),
        ("[" * 20000, "20000 octets that are neither a raw key"),
        ("two\nwords", "9 octets that are neither a raw key"),
    ],
)
def test_one_wrong_key_of_several_is_named_by_its_place_and_not_shown(
    tmp_path: Path, content: str, why: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(ConfigError) as problem:
        load(file)
    assert str(problem.value).startswith(f"{file}: {why}")
    assert "secret" not in str(problem.value)


def test_no_file(tmp_path: Path) -> None:
    assert from_file(None, metallb=False) == []
    with pytest.raises(ConfigError, match=r"^--metallb-key: needs --secret-file$"):
        from_file(None, metallb=True)
    with pytest.raises(ConfigError, match=r"Is a directory$"):
        from_file(str(tmp_path), metallb=False)
