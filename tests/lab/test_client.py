"""The client: its arithmetic as pure functions, its frames against scapy, and the whole process on a LAN."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from crier.lab import frames, netns
from crier.lab.client import Target, decode_answer
from crier.lab.datapath import Backend, Front, render
from crier.lab.lan import Host
from crier.lab.prober import Prober, Vip, VipState
from crier.lab.probes import Attempt, Log, Summary, summarize
from crier.lab.services import CATALOGUE
from tests.lab.lans import PATIENCE, inside, open_lan, start_backend

VIP4 = IPv4Address("172.30.0.200")
VIP6 = IPv6Address("fd00:c71e:7::200")
MAC = "02:c7:1e:07:00:0b"


# ------------------------------------------------------------------------------------- arithmetic


def _attempts(pattern: str, interval: float = 0.005) -> list[Attempt]:
    """`.` is answered after a millisecond by a, `b` by b, `+` by both, `x` by nobody."""
    who = {".": ("a",), "b": ("b",), "+": ("a", "b"), "x": ()}
    return [
        Attempt(n * interval, None if c == "x" else n * interval + 0.001, who[c])
        for n, c in enumerate(pattern)
    ]


def _summary(pattern: str) -> Summary:
    return summarize(_attempts(pattern), len(pattern) * 0.005)


def test_an_outage_runs_from_the_first_lost_probe_to_the_next_answer() -> None:
    result = _summary("...xxxx...x..")
    assert (result.sent, result.lost) == (13, 5)
    assert result.outage == pytest.approx(4 * 0.005 + 0.001)
    assert result.outage_at == pytest.approx(0.015)
    assert result.recovered


def test_nothing_lost_is_no_outage_and_nothing_sent_is_no_recovery() -> None:
    assert _summary("....").outage == 0.0
    assert _summary("....").outage_at is None
    assert not _summary("").recovered


def test_an_outage_without_an_end_counts_to_the_end_of_the_window() -> None:
    result = _summary("..xxx")
    assert result.outage == pytest.approx(0.015)
    assert not result.recovered


def test_two_owners_are_counted_as_long_as_they_overlap() -> None:
    assert _summary("..++..").shared == pytest.approx(0.010)
    assert _summary("..bb..").shared == 0.0
    assert _summary("...+++").shared == pytest.approx(0.015)
    assert _summary(".bb.").answerers == ("a", "b")


@given(st.text(alphabet=".bx+", max_size=60))
def test_a_summary_never_contradicts_itself(pattern: str) -> None:
    result = _summary(pattern)
    assert result.lost == pattern.count("x")
    assert (result.outage == 0) == (result.lost == 0)
    assert result.recovered == (pattern != "" and not pattern.endswith("x"))
    longest = max(map(len, pattern.replace("b", ".").replace("+", ".").split(".")))
    assert result.outage <= longest * 0.005 + 0.001 + 1e-9
    assert result.outage >= (longest - 1) * 0.005 - 1e-9


@given(st.lists(st.tuples(st.floats(0.0, 0.3), st.sampled_from("ab")), max_size=40), st.integers(0, 2**32))
def test_a_log_agrees_with_what_was_told_in_any_order(answers: list[tuple[float, str]], seed: int) -> None:
    """Each attempt n is answered after a delay by somebody; answers arrive in the order of time."""
    log = Log(0.1)
    events = [(n * 0.005, "sent", n, "") for n in range(len(answers))]
    events += [(n * 0.005 + delay, "answer", n, who) for n, (delay, who) in enumerate(answers)]
    for at, what, number, who in sorted(events, key=lambda event: event[0]):
        if what == "sent":
            assert log.send(at) == number
        else:
            log.answer(number, at, who)
        if random.Random(seed + number).random() < 0.3:
            log.decide(at)
    log.decide(1e9)
    in_time = sum(n * 0.005 + delay - n * 0.005 <= 0.1 for n, (delay, _) in enumerate(answers))
    result = log.summary(0.0, 1e9)
    assert result.sent == len(answers)
    assert result.lost == len(answers) - in_time == log.late
    for left, right in zip(list(log.segments), list(log.segments)[1:], strict=False):
        assert left.end == right.start, "segments leave no gap"
        assert left.answerers != right.answerers, "and differ from their neighbours"


def test_a_log_forgets_the_oldest_and_knows_strangers() -> None:
    log = Log(0.1, capacity=4)
    for n in range(10):
        log.send(n * 1.0)
    assert not log.answer(0, 9.0, "a"), "forgotten"
    assert not log.answer(10, 9.0, "a"), "never sent"
    assert log.answer(9, 9.05, "a")
    assert not log.answer(8, 9.05, "a"), "too late"
    log.decide(100.0)
    assert log.summary(0, 100).sent == 4


def test_the_newest_attempt_of_an_asker() -> None:
    log = Log(0.1)
    assert log.newest(64, 3) is None
    for n in range(70):
        log.send(float(n))
    assert log.newest(64, 3) == 67
    assert log.newest(64, 6) == 6


# ----------------------------------------------------------------------------------------- frames


@given(st.ip_addresses(network="10.0.0.0/8"), st.integers(0, frames.ASKERS - 1))
def test_scapy_reads_our_arp_question(address: IPv4Address, asker: int) -> None:
    packet = Ether(frames.question(address, asker))
    assert packet.dst == frames.BROADCAST
    arp = packet[ARP]
    assert (arp.op, arp.pdst, arp.hwsrc) == (1, str(address), frames.ASKER_MAC)
    answer = Ether(src=MAC, dst=arp.hwsrc) / ARP(
        op=2, hwsrc=MAC, psrc=address, hwdst=arp.hwsrc, pdst=arp.psrc
    )
    assert frames.decode(bytes(answer)) == frames.Claim(address, MAC, asker, gratuitous=False)


@given(st.ip_addresses(network="fd00::/8"), st.integers(0, frames.ASKERS - 1))
def test_scapy_reads_our_solicitation(address: IPv6Address, asker: int) -> None:
    packet = Ether(frames.question(address, asker))
    group = IPv6Address(packet[IPv6].dst)
    assert packet.dst == "33:33:" + ":".join(f"{octet:02x}" for octet in group.packed[12:])
    assert IPv6Address(packet[ICMPv6ND_NS].tgt) == address
    assert packet[ICMPv6NDOptSrcLLAddr].lladdr == frames.ASKER_MAC
    checksum = packet[ICMPv6ND_NS].cksum
    del packet[ICMPv6ND_NS].cksum
    assert Ether(bytes(packet))[ICMPv6ND_NS].cksum == checksum
    advertisement = (
        Ether(src=MAC, dst=frames.ASKER_MAC)
        / IPv6(src="fe80::1", dst=packet[IPv6].src, hlim=255)
        / ICMPv6ND_NA(R=0, S=1, O=1, tgt=str(address))
        / ICMPv6NDOptDstLLAddr(lladdr=MAC)
    )
    assert frames.decode(bytes(advertisement)) == frames.Claim(address, MAC, asker, gratuitous=False)


@pytest.mark.parametrize("operation", [1, 2])
def test_gratuitous_arp_of_both_kinds_is_recognised(operation: int) -> None:
    frame = Ether(src=MAC, dst=frames.BROADCAST) / ARP(
        op=operation, hwsrc=MAC, psrc=str(VIP4), pdst=str(VIP4)
    )
    assert frames.decode(bytes(frame)) == frames.Claim(VIP4, MAC, None, gratuitous=True)


def test_an_unsolicited_advertisement_is_recognised_and_a_bad_one_refused() -> None:
    frame = (
        Ether(src=MAC, dst="33:33:00:00:00:01")
        / IPv6(src="fe80::1", dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(R=0, S=0, O=1, tgt=str(VIP6))
        / ICMPv6NDOptDstLLAddr(lladdr=MAC)
    )
    good = bytes(frame)
    assert frames.decode(good) == frames.Claim(VIP6, MAC, None, gratuitous=True)
    with pytest.raises(frames.BadFrame, match="checksum"):
        frames.decode(good[:-1] + bytes([good[-1] ^ 1]))
    routed = frame.copy()
    routed[IPv6].hlim = 64
    with pytest.raises(frames.BadFrame, match="router"):
        frames.decode(bytes(routed))


def test_somebody_elses_question_is_no_claim() -> None:
    assert frames.decode(frames.question(VIP4, 0)) is None
    assert frames.decode(frames.question(VIP6, 0)) is None


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x08\x06", b"\x86\xdd"]))
def test_any_octets_are_a_claim_or_none_or_a_bad_frame(data: bytes, ethertype: bytes) -> None:
    with suppress(frames.BadFrame):
        frames.decode(bytes(12) + ethertype + data if ethertype else data)


@given(st.binary(max_size=100) | st.from_type(dict).map(lambda d: json.dumps(d, default=str).encode()))
def test_any_datagram_is_an_answer_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        number, node, waited = decode_answer(data)
        assert isinstance(number, int)
        assert isinstance(node, str)
        assert isinstance(waited, float)


def test_a_backends_answer_is_read() -> None:
    from crier.lab.backend import udp_answer

    assert decode_answer(udp_answer("node-1", "default/web", b"123", 0.25)) == (123, "node-1", 0.25)
    assert len(udp_answer("node-1", "default/web", b"1" * 5000, 1e9)) < 200


def test_a_target_has_a_family() -> None:
    assert Target.parse('{"address": "fd00::1", "udp": 8000, "tcp": null}').family == 10


# -------------------------------------------------------------------------------- the whole process


def _own(host: Host, vip: object) -> None:
    """The node's own kernel answers for a VIP, as a stand-in for a speaker."""
    address = ip_address(str(vip))
    nodad = " nodad" if address.version == 6 else ""
    netns.ip(host.netns, f"addr add {address}/{address.max_prefixlen} dev eth0{nodad}")


def _serve_locally(hosts: Iterable[Host]) -> None:
    for host in hosts:
        fronts = [
            Front(vip, protocol, port, (Backend(host.ipv4 if vip.version == 4 else host.ipv6, target),))
            for vip, base in ((VIP4, 8080), (VIP6, 8086))
            for protocol, port, target in (("tcp", 80, base), ("udp", 8000, base + 1000))
        ]
        netns.nft(host.netns, render(fronts))


async def _until(prober: Prober, address: str, *owners: str, green: bool = True) -> VipState:
    with trio.fail_after(PATIENCE):
        while True:
            state = (await prober.state())[address]
            if state.owners == owners and (state.good_since is not None or not green):
                return state
            await trio.sleep(0.02)


@pytest.mark.netns
async def test_a_client_sees_a_failover_as_it_is(tmp_path: Path) -> None:
    vips = (Vip(CATALOGUE["web"], str(VIP4)), Vip(CATALOGUE["web6"], str(VIP6)))
    with open_lan(tmp_path, 2) as (lan, _, processes):
        one, two = lan.nodes.values()
        ports = [f"--{p.protocol.lower()}={p.target}={s.service.key}" for s in vips for p in s.service.ports]
        for host in (one, two):
            start_backend(processes, host, ports)
        _serve_locally((one, two))
        for vip in (VIP4, VIP6):
            _own(one, vip)
        prober = Prober(processes, lan, vips)
        await _until(prober, str(VIP6), "node-1")
        steady_at = (await _until(prober, str(VIP4), "node-1")).good_since
        assert steady_at is not None
        lan.cut("node-1", silent=True)
        for vip in (VIP4, VIP6):
            _own(two, vip)
        for both in vips:
            await _until(prober, both.address, "node-2", green=False)
        # The questions changed nobody's neighbour cache: the client still sends to the node that is gone.
        before = (await prober.state())[str(VIP4)]
        assert before.good_since is None
        assert one.mac in inside(lan.client, "ip", "neigh", "show", str(VIP4)).stdout
        inside(two, "arping", "-c", "1", "-U", "-I", "eth0", "-S", str(VIP4), str(VIP4))
        await _until(prober, str(VIP4), "node-2")
        assert two.mac in inside(lan.client, "ip", "neigh", "show", str(VIP4)).stdout
        records, late = await prober.result(steady_at, 1e12)
        record = records[str(VIP4)]
        assert record.probes.answerers == ("node-1", "node-2")
        assert 0 < record.probes.lost < record.probes.sent
        assert record.probes.recovered
        assert record.requests.lost > 0
        assert [who for _, who in record.announcements] == ["node-2"]
        assert record.probes.outage > record.asks.outage, (
            "asking found the new owner before the cache learned"
        )
        assert late.client >= 0
        assert late.backend >= 0
        segments = (await prober.segments(0.0))[str(VIP4)]
        served = [s.answerers for s in segments.served]
        moved = served[max(n for n, who in enumerate(served) if who == ("node-1",)) + 1 :]
        assert moved[:2] == [(), ("node-2",)]
        assert set(moved) == {(), ("node-2",)}, "a busy backend may be passed over once more"
        lan.heal("node-1")
        await _until(prober, str(VIP6), "node-1", "node-2", green=False)
        assert prober.process.popen.stdin is not None
        prober.process.popen.stdin.close()
        assert await prober.process.wait(PATIENCE) == 0
        assert prober.process.popen.stdout is not None
        prober.process.popen.stdout.close()
