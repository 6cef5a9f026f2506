from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

from memberlist import codec, stream
from memberlist.__main__ import main
from memberlist.cli.describe import describe, render
from memberlist.cli.keys import from_text
from memberlist.errors import ConfigError
from memberlist.keyring import Keyring, metallb_key
from memberlist.messages import Ack, Alive, Nack, Ping, PushNodeState, PushPull, User
from memberlist.packet import Wire
from tests.memberlist.test_packet import NACK, NONCE
from tests.memberlist.test_vectors import PACKETS, STREAMS, Vector, leaves, name_of

SECRET = b"K6Yl0q5mWb2s1l9RkQ3u7A"
KEY = bytes(range(16))


class Cli:
    """Runs the command as `python -m memberlist decode` does, with this on standard input."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.status = 0
        self.errors = ""

    def __call__(self, *arguments: str, given: str = "") -> str:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(given))
        self.status = main(["decode", *arguments])
        output, self.errors = self._capsys.readouterr()
        return output

    def json(self, *arguments: str, given: str = "") -> list[dict[str, Any]]:
        return [json.loads(line) for line in self("--json", *arguments, given=given).splitlines()]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(monkeypatch, capsys)


def keys_of(vector: Vector) -> list[str]:
    return ["--key", vector["key"]] if "key" in vector else []


@pytest.mark.parametrize("vector", PACKETS, ids=name_of)
def test_captured_packets(cli: Cli, vector: Vector) -> None:
    (result,) = cli.json(*keys_of(vector), given=vector["hex"])
    assert result["messages"] == leaves(vector["decoded"]["msg"])
    assert set(result) == {"layers", "messages"}
    assert cli.status == 0


@pytest.mark.parametrize("vector", STREAMS, ids=name_of)
def test_captured_streams(cli: Cli, vector: Vector) -> None:
    label = ["--label", vector["label"]] if "label" in vector else []
    (result,) = cli.json("--stream", *keys_of(vector), *label, given=vector["hex"])
    (message,) = result["messages"]
    assert message == {key: vector["decoded"][key] for key in message}
    expected = [
        layer
        for layer, key in (("label", "label_header"), ("encrypt", "encrypt"), ("compress", "compress"))
        if key in vector["decoded"]
    ]
    assert result["layers"] == expected


def test_layers_are_told_from_the_outside(cli: Cli) -> None:
    wire = Wire(Keyring([KEY]), "blue")
    parts = [codec.encode(Alive(n, f"node-{n}", bytes((10, 0, 0, n)), 7946)) for n in range(5)]
    sealed = wire.seal(parts, crc=True, nonce=NONCE)
    (result,) = cli.json("--key", KEY.hex(), "--label", "blue", given=sealed.hex())
    assert result["layers"] == ["label", "encrypt", "crc", "compress", "compound"]
    assert [message["Node"] for message in result["messages"]] == [f"node-{n}" for n in range(5)]


def test_one_line_for_each_input_and_errors_among_them(cli: Cli) -> None:
    lines = ["0b81a55365714e6f08", "", "not hex", "63", "0B 81 a5 53 65 71 4e 6f 09"]
    results = cli.json(given="\n".join(lines))
    assert results == [
        {"layers": [], "messages": [{"type": "nackResp", "SeqNo": 8}]},
        {"error": "not hexadecimal"},
        {"error": "message type 99 has no place in a packet"},
        {"layers": [], "messages": [{"type": "nackResp", "SeqNo": 9}]},
    ]
    assert cli.status == 1


def test_for_people(cli: Cli) -> None:
    messages = (
        Ping(7, "node-b", bytes((10, 0, 0, 1)), 7946, "node-a"),
        Alive(1, "evil\x1b[2J", bytes(15) + b"\x01", 7946, None),
    )
    parts = [codec.encode(messages[0]), codec.encode(messages[1])]
    sealed = Wire(compress=False).seal(parts, crc=True, nonce=b"")
    assert cli(given=sealed.hex()) == (
        "[crc compound] ping Node=node-b SeqNo=7 SourceAddr=10.0.0.1 SourceNode=node-a SourcePort=7946; "
        'alive Addr=::1 Incarnation=1 Meta=nil Node="evil\\u001b[2J" Port=7946 '
        "Vsn=protocol:1-5:2,delegate:0-0:0\n"
    )
    assert cli(given="63") == "error: message type 99 has no place in a packet\n"
    assert cli(given="0700") == "[compound] no message\n"


def test_a_push_pull_for_people() -> None:
    state = PushNodeState("a", bytes((10, 0, 0, 1)), 7946, 3, 1)
    assert render(describe(PushPull(True, (state,), b"hi"), on_stream=True)) == (
        "pushPull user_state=6869 Join=true Nodes=1 UserStateLen=2 "
        "{ Addr=10.0.0.1 Incarnation=3 Meta=nil Name=a Port=7946 State=suspect "
        "Vsn=protocol:1-5:2,delegate:0-0:0 }"
    )


def test_a_packet_without_layers_has_no_brackets(cli: Cli) -> None:
    assert cli(given=NACK.hex()) == "nackResp SeqNo=8\n"


def test_lost_parts_are_told(cli: Cli) -> None:
    cut = "07020009000a" + NACK.hex()
    (result,) = cli.json(given=cut)
    assert result["messages"] == [{"type": "nackResp", "SeqNo": 8}]
    assert result["problems"] == ["compound: 1 parts are cut off"]
    assert cli(given=cut) == "[compound] nackResp SeqNo=8 (compound: 1 parts are cut off)\n"


# --- labels and keys ----------------------------------------------------------------------------------------


def test_without_an_option_any_label_will_do_and_with_it_only_that(cli: Cli) -> None:
    sealed = Wire(label="blue").seal([NACK], crc=False, nonce=b"").hex()
    expected = [{"layers": ["label"], "messages": [{"type": "nackResp", "SeqNo": 8}]}]
    assert cli.json(given=sealed) == cli.json("--label", "blue", given=sealed) == expected
    for other in ("red", ""):
        assert cli.json("--label", other, given=sealed) == [{"error": "another label"}]


def test_a_metallb_cluster_by_its_secret_file(cli: Cli, tmp_path: Path) -> None:
    secret = tmp_path / "secretkey"
    secret.write_bytes(SECRET)
    wire = Wire(Keyring.metallb(SECRET))
    sealed = wire.seal([codec.encode(Ack(1))], crc=True, nonce=NONCE).hex()
    (result,) = cli.json("--secret-file", str(secret), "--metallb-key", given=sealed)
    assert result == {
        "layers": ["encrypt", "crc"],
        "messages": [{"type": "ackResp", "Payload": None, "SeqNo": 1}],
    }
    sent = stream.encode(User(b"hi"), wire, dialling=True, nonce=NONCE).hex()
    (result,) = cli.json("--stream", "--secret-file", str(secret), "--metallb-key", given=sent)
    assert result["messages"] == [{"type": "user", "header": {"UserMsgLen": 2}, "payload": "6869"}]


@pytest.mark.parametrize("form", [KEY, KEY.hex().encode() + b"\n", base64.b64encode(KEY)])
def test_a_key_file(cli: Cli, tmp_path: Path, form: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(form)
    sealed = Wire(Keyring([KEY])).seal([NACK], crc=False, nonce=NONCE).hex()
    assert cli.json("--secret-file", str(file), given=sealed)[0]["layers"] == ["encrypt"]


@pytest.mark.parametrize("size", [16, 24, 32])
def test_keys_as_people_have_them(size: int) -> None:
    key = bytes(range(200, 200 + size))
    plain, url_safe = base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()
    for text in (key.hex(), key.hex().upper(), plain, url_safe, plain.rstrip("="), f" {plain}\n"):
        assert key in from_text(text)


@pytest.mark.parametrize("text", ["", "secret", "73656372657421", "ü" * 22, "secret" * 20, "="])
def test_no_key_is_one_error_that_does_not_repeat_it(cli: Cli, text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--key: neither hexadecimal nor base64"):
        from_text(text)
    assert cli("--key", text, given="00") == ""
    assert cli.status == 2
    assert cli.errors.startswith("memberlist decode: --key: ")
    assert not text.strip("=") or text not in cli.errors


def test_several_keys(cli: Cli) -> None:
    sealed = Wire(Keyring([KEY])).seal([NACK], crc=False, nonce=NONCE).hex()
    assert cli.json("--key", bytes(32).hex(), "--key", KEY.hex(), given=sealed)[0]["layers"] == ["encrypt"]


def test_plain_packets_beside_a_key(cli: Cli) -> None:
    """A cluster on its way to encryption speaks both."""
    assert cli.json("--key", KEY.hex(), given=NACK.hex())[0]["layers"] == []


def test_ciphertext_is_not_taken_for_a_ping(cli: Cli) -> None:
    """The version octets of encryption are the types of the pings; some nonces even look like a body."""
    for first in range(256):
        nonce = bytes((first,)) + NONCE[1:]
        for version in (0, 1):
            wire = Wire(Keyring([metallb_key(SECRET)]), encryption_version=version)
            sealed = wire.seal([NACK], crc=False, nonce=nonce).hex()
            assert "encrypted? then give" in cli.json(given=sealed)[0]["error"]
            assert "encrypted with another key?" in cli.json("--key", KEY.hex(), given=sealed)[0]["error"]


def test_a_cut_stream(cli: Cli) -> None:
    sent = stream.encode(Ack(1), Wire(), dialling=True, nonce=b"").hex()
    assert cli.json("--stream", given=sent[:-2]) == [{"error": "cut off: the message is not whole"}]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--metallb-key"], "--metallb-key: needs --secret-file"),
        (["--stream", "x.pcap"], "--stream: streams are read from standard input, not from a pcap file"),
        (["--port", "7946"], "--port: only a pcap file has ports"),
        (
            ["--secret-file", "/dev/null", "--metallb-key"],
            "--secret-file: /dev/null: it is empty; write the key into it",
        ),
        (["/nowhere/x.pcap"], "/nowhere/x.pcap: No such file or directory"),
        (["--label", "x" * 256], "label: 256 octets; at most 255 are allowed"),
        (["/dev/null"], "/dev/null: this is no pcap file"),
    ],
)
def test_wrong_arguments_are_one_clear_error(cli: Cli, arguments: list[str], error: str) -> None:
    assert cli(*arguments) == ""
    assert (cli.status, cli.errors) == (2, f"memberlist decode: {error}\n")


def test_every_message_can_be_shown() -> None:
    for message in (Nack(1), User(b"\xff"), Ack(1, b"x")):
        assert json.loads(json.dumps(describe(message)))["type"] in ("nackResp", "user", "ackResp")
