"""The reader of captures, against files scapy made: another hand's idea of Ethernet, IP and UDP."""

from __future__ import annotations

import io
import json
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

from memberlist.__main__ import main
from memberlist.cli.pcap import MAX_CAPTURE, Datagram, PcapError, read
from tests.memberlist.test_packet import NACK

V4 = IP(src="10.0.0.1", dst="10.0.0.2")
V6 = IPv6(src="fd00::1", dst="fd00::2")
SPEECH = UDP(sport=7946, dport=7947) / NACK
TIME = 1_700_000_000.25
NAMES_V4 = ("10.0.0.1:7946", "10.0.0.2:7947")
NAMES_V6 = ("[fd00::1]:7946", "[fd00::2]:7947")


def capture(*frames: bytes, link: int = 1, order: str = "<", nanoseconds: bool = False) -> bytes:
    head = struct.pack(f"{order}IHHiIII", 0xA1B23C4D if nanoseconds else 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    fraction = 250_000_000 if nanoseconds else 250_000
    records = [struct.pack(f"{order}4I", 1_700_000_000, fraction, len(f), len(f)) + f for f in frames]
    return head + b"".join(records)


def read_all(data: bytes) -> list[Datagram]:
    return list(read(io.BytesIO(data)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_both_orders_and_both_fractions(order: str, nanoseconds: bool) -> None:
    (datagram,) = read_all(capture(bytes(Ether() / V4 / SPEECH), order=order, nanoseconds=nanoseconds))
    assert datagram == Datagram(TIME, NAMES_V4[0], 7946, NAMES_V4[1], 7947, NACK)


@pytest.mark.parametrize(
    ("frame", "link", "names"),
    [
        (Ether() / V4 / SPEECH, 1, NAMES_V4),
        (Ether() / V6 / SPEECH, 1, NAMES_V6),
        (Ether() / Dot1Q(vlan=7) / V4 / SPEECH, 1, NAMES_V4),
        (Ether() / Dot1AD(vlan=7) / Dot1Q(vlan=8) / V6 / SPEECH, 1, NAMES_V6),
        (Ether() / V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / SPEECH, 1, NAMES_V6),
        (Ether() / IP(src="10.0.0.1", dst="10.0.0.2", options=[b"\x01"] * 8) / SPEECH, 1, NAMES_V4),
        (V4 / SPEECH, 101, NAMES_V4),
        (V6 / SPEECH, 101, NAMES_V6),
        (CookedLinux(proto=0x800) / V4 / SPEECH, 113, NAMES_V4),
        (CookedLinuxV2(proto=0x86DD) / V6 / SPEECH, 276, NAMES_V6),
    ],
    ids=lambda item: item.summary() if isinstance(item, Packet) else None,
)
def test_every_way_to_carry_udp(frame: Packet, link: int, names: tuple[str, str]) -> None:
    # Ethernet pads short frames; the padding is not the datagram's.
    for padding in (b"", bytes(18)):
        (datagram,) = read_all(capture(bytes(frame) + padding, link=link))
        assert datagram == Datagram(TIME, names[0], 7946, names[1], 7947, NACK)


def test_other_traffic_is_passed_over() -> None:
    others: list[Packet | bytes] = [
        Ether() / ARP(),
        Ether() / V4 / TCP(),
        Ether() / V6 / TCP(),
        Ether(type=0x88CC) / b"lldp",
        b"",
        b"short",
    ]
    frames = [bytes(frame) for frame in others]
    assert len(read_all(capture(*frames, bytes(Ether() / V4 / SPEECH), *frames))) == 1


def test_what_is_not_all_there_is_reported() -> None:
    fragments = [
        Ether() / IP(src="10.0.0.1", dst="10.0.0.2", flags="MF") / SPEECH,
        Ether() / IP(src="10.0.0.1", dst="10.0.0.2", frag=9, proto=17) / b"rest",
        Ether() / V6 / IPv6ExtHdrFragment(m=1) / SPEECH,
    ]
    for frame in fragments:
        (datagram,) = read_all(capture(bytes(frame)))
        assert datagram.problem == "a fragment of an IP packet"
    whole = bytes(Ether() / V4 / SPEECH)
    (datagram,) = read_all(capture(whole[:-1]))
    assert datagram.problem == "captured only in part"
    (datagram,) = read_all(capture(whole[: 14 + 20 + 7]))
    assert datagram.problem == "captured only in part"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no pcap"),
        (b"\xd4\xc3\xb2\xa1", "no pcap"),
        (bytes(24), "no pcap"),
        (b"\x0a\x0d\x0d\x0a" + bytes(20), "pcapng"),
        (capture(link=105), "link type 105"),
        (capture(b"x")[:-1], "ends within"),
        (capture(b"x")[:-5], "ends within"),
        (capture() + struct.pack("<4I", 0, 0, MAX_CAPTURE + 1, 0), "at most"),
    ],
)
def test_what_is_no_capture(data: bytes, reason: str) -> None:
    with pytest.raises(PcapError, match=reason):
        read_all(data)


@given(st.binary(max_size=200), st.sampled_from([1, 101, 113, 276]))
def test_any_frame_is_read_or_passed_over(frame: bytes, link: int) -> None:
    for head in (b"", bytes(12) + b"\x08\x00", bytes(12) + b"\x86\xdd", b"\x45", b"\x60"):
        read_all(capture(head + frame, link=link))


@given(st.binary(max_size=200))
def test_any_octets_are_a_capture_or_an_error(data: bytes) -> None:
    for text in (data, capture() + data):
        with suppress(PcapError):
            read_all(text)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gossip.pcap"
    dns = Ether() / V4 / UDP(sport=5353, dport=53) / b"\x63?"
    file.write_bytes(capture(bytes(Ether() / V4 / SPEECH), bytes(Ether() / V6 / SPEECH), bytes(dns)))
    assert main(["decode", "--json", str(file)]) == 1
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    said = {"layers": [], "messages": [{"type": "nackResp", "SeqNo": 8}]}
    assert first == {"time": TIME, "from": NAMES_V4[0], "to": NAMES_V4[1], **said}
    assert second == {"time": TIME, "from": NAMES_V6[0], "to": NAMES_V6[1], **said}
    assert third["error"] == "message type 99 has no place in a packet"
    assert main(["decode", "--port", "7946", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"22:13:20.250000 {source} > {destination}: nackResp SeqNo=8"
        for source, destination in (NAMES_V4, NAMES_V6)
    ]


def test_a_capture_without_datagrams_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tcp.pcap"
    file.write_bytes(capture(bytes(Ether() / V4 / TCP(sport=1, dport=7946)), bytes(Ether() / V4 / SPEECH)))
    assert main(["decode", "--port", "1", str(file)]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"memberlist decode: {file}: no UDP datagrams from or to port 1\n")
    file.write_bytes(capture(bytes(Ether() / V4 / TCP(sport=1, dport=7946))))
    assert main(["decode", str(file)]) == 0
    assert capsys.readouterr().err == f"memberlist decode: {file}: no UDP datagrams\n"
