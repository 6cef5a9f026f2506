"""The command line: what it refuses and how it says so, and what it makes of messages."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from bgp_lite.__main__ import main
from bgp_lite.messages import Capabilities, Keepalive, Notification, Open
from bgp_lite.prefix import Family
from bgp_lite.wire import encode
from tests.bgp_lite import fuzz

GOOD = "--peer 127.0.0.1 --peer-as 1 --local-as 2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--peer-as 1 --local-as 2", "--peer or --interface: at least one is needed"),
        ("--peer x --peer-as 1 --local-as 2 --router-id 1.1.1.1", "peer: 'x' is not an IP address"),
        (f"{GOOD} --peer 127.0.0.1", "--peer 127.0.0.1: given twice"),
        ("--peer 127.0.0.1 --peer-as 1 --local-as 0", "local_as: 0 is not in 1..4294967295"),
        ("--peer 127.0.0.1 --peer-as 4294967296 --local-as 2", "peer_as: 4294967296 is not in"),
        (f"{GOOD} --hold 2", "hold_time: 2 is not in"),
        (f"{GOOD} --hold 9 --keepalive 10", "keepalive_time: 10 is not in 1..9"),
        (f"{GOOD} --connect-time 0", "connect_time: 0.0 is not in 1..65535"),
        (f"{GOOD} --community 70000:1", "'70000:1' is not a community"),
        (f"{GOOD} --next-hop 10.0.0.0/24", "--next-hop 10.0.0.0/24: must be an address"),
        (f"{GOOD} --password-file /nonexistent", "--password-file /nonexistent: No such file"),
        (f"{GOOD} --graceful-restart 5000", "restart_time: 5000 is not in 1..4095"),
        (f"{GOOD} --graceful-shutdown nan", "--graceful-shutdown nan: must be 0..600"),
        (f"{GOOD} --passive", "--passive: needs --listen"),
        (f"{GOOD} --listen 70000", "--listen 70000: must be 1..65535"),
        (f"{GOOD} --interface eth0 --router-id 1.1.1.1 --listen 179", "--listen: contradicts --interface"),
        (f"{GOOD} --source fd09::2 --router-id 1.1.1.1", "source: fd09::2 is not of the peer's"),
        (f"{GOOD} --router-id 0.0.0.0", "router_id: '0.0.0.0' must be"),
        (f"{GOOD} --port 0", "port: 0 is not in 1..65535"),
        (f"{GOOD} --ttl-security --multihop", "ttl_security: contradicts multihop"),
        ("--peer fe80::1 --peer-as 1 --local-as 2 --router-id 1.1.1.1", "device: needed with"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_flag_or_field(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["announce", *arguments.split()]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.startswith("announce: ")
    assert len(shown.err.splitlines()) == 1
    assert not shown.out


@pytest.mark.parametrize("flag", [["--bfd", "5x3"], ["--bfd", "50"], ["--peer-as", "foo"]])
def test_what_the_parser_refuses(flag: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["announce", *GOOD.split(), *flag])
    assert ended.value.code == 2
    assert f"argument {flag[0]}: {flag[1]!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--transmit 5", "transmit_interval: 0.005 s is not in 0.010..60"),
        ("--multiplier 1", "detect_multiplier: 1 is not in 2..255"),
        ("--minimum-ttl 255", "minimum_ttl: 255 is not in 1..254"),
    ],
)
def test_bfd_profiles_are_checked(flag: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bfd", "--peer", "127.0.0.1", *flag.split()]) == 2
    assert said in capsys.readouterr().err


def decoded(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stdin: bytes = b""
) -> list[dict[str, object]]:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(stdin))))
    assert main(["decode", "--json", *words]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_decode_hex(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [fuzz.ROUTERS[0].hex(" "), encode(Notification(6, 2, b"\x03bye")).hex(), "zz"]
    opened, bye, wrong = decoded([], capsys, monkeypatch, "\n".join(lines).encode())
    assert (opened["type"], opened["as"], opened["hostname"]) == ("open", 65000, "vm")
    assert bye["meaning"] == "cease (6/2): bye"
    assert "not hex" in str(wrong["error"])


def test_decode_an_update_with_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = "ff" * 16 + fuzz.EVERYTHING
    assert (
        decoded([stdin], capsys, monkeypatch)
        == decoded([], capsys, monkeypatch, stdin.encode())
        == [
            {
                "type": "update",
                "announced": ["203.0.113.9/32"],
                "origin": "IGP",
                "as_path": [65001],
                "next_hop": ["10.9.0.2"],
                "communities": ["65001:7"],
                "large_communities": ["65001:1:2"],
            }
        ]
    )


@pytest.mark.parametrize("ip", [IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="fd09::1", dst="fd09::2")])
def test_decode_a_capture(
    ip: IP | IPv6, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments come cut anywhere, twice and out of order; other ports are none of ours."""
    octets = fuzz.ROUTERS[0] + encode(Keepalive()) * 3

    def segment(start: int, end: int, port: int = 179) -> Ether:
        # Without the right checksum, and padded as short frames are.
        return Ether() / ip / TCP(sport=port, dport=40000, seq=1000 + start, flags="A") / octets[start:end]

    cut = [segment(0, 30), segment(100, 170), segment(30, 100), segment(30, 70), segment(0, 19, port=80)]
    capture = tmp_path / "some.pcap"
    wrpcap(str(capture), cut)
    found = decoded([str(capture)], capsys, monkeypatch)
    assert decoded([], capsys, monkeypatch, capture.read_bytes()) == found
    assert [each["type"] for each in found] == ["open", "keepalive", "keepalive", "keepalive"]
    assert ":179 > " in str(found[0]["flow"])


def test_decode_a_file_of_hex(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "some.hex"
    file.write_text(f"{encode(Keepalive()).hex()}\n" * 2)
    assert decoded([str(file)], capsys, monkeypatch) == [{"type": "keepalive"}] * 2


@pytest.mark.parametrize("content", [None, b"", b"not a capture at all, by no means", b"\xa1\xb2\xc3\xd4x"])
def test_what_is_no_capture(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture = tmp_path / "some.pcap"
    if content is not None:
        capture.write_bytes(content)
    assert main(["decode", str(capture)]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"decode: {capture}: ")
    assert len(shown.err.splitlines()) == 1


@contextmanager
def announcing() -> Iterator[subprocess.Popen[str]]:
    """`announce` with a session to a router of the test, which listens and says nothing."""
    with ExitStack() as ended:
        server = ended.enter_context(socket.create_server(("127.0.0.1", 0)))
        words = ["announce", "--json", "--peer", "127.0.0.1", "--peer-as", "65000", "--local-as", "65001"]
        words += ["--router-id", "192.0.2.1", "--port", str(server.getsockname()[1]), "--hold", "0"]
        process = subprocess.Popen(
            [sys.executable, "-m", "bgp_lite", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ended.enter_context(process)
        ended.callback(process.kill)
        timer = threading.Timer(30, process.kill)  # then reading ends, and the test with it
        timer.start()
        ended.callback(timer.cancel)
        peer, _ = server.accept()
        ended.enter_context(peer)
        capabilities = Capabilities(families=frozenset({Family.IPV4}), asn=65000)
        peer.sendall(encode(Open(65000, 0, 1, capabilities)) + encode(Keepalive()))
        yield process


def until_synced(process: subprocess.Popen[str], prefixes: int) -> None:
    assert process.stdout is not None
    events = (json.loads(line) for line in process.stdout)
    assert any((each["event"], each.get("prefixes")) == ("synced", prefixes) for each in events)


def test_the_last_line_needs_no_end_and_each_reading_is_answered() -> None:
    with announcing() as process:
        assert process.stdin is not None
        process.stdin.write("+ 203.0.113.1\n")
        process.stdin.flush()
        until_synced(process, 1)
        process.stdin.write("+ 203.0.113.1\n- 203.0.113.9\n")  # nothing new
        process.stdin.flush()
        until_synced(process, 1)
        process.stdin.write("+ 203.0.113.2")
        process.stdin.close()
        until_synced(process, 2)
