"""What the kernel lets through to us: our addresses, and little else."""

from __future__ import annotations

import itertools
import random
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from speaker.reflex.l2 import bpf
from speaker.reflex.l2.core import pack
from speaker.reflex.l2.ethernet import ETH_P_ARP, ETH_P_IPV6
from tests.speaker.lan import lan
from tests.speaker.running import PATIENCE

OURS4 = ["10.77.0.100", "10.77.0.103", "192.0.2.1", "255.255.255.255"]
OURS6 = ["2001:db8::1", "fe80::ffff:ffff"]


@given(st.sets(st.integers(0, 2**29 - 1), max_size=100))
def test_every_block_is_covered_by_few_ranges_apart(blocks: set[int]) -> None:
    found = bpf.ranges(blocks)
    assert all(any(a <= n * bpf.BLOCK and n * bpf.BLOCK + 7 <= z for a, z in found) for n in blocks)
    assert all(a // bpf.BLOCK in blocks and z // bpf.BLOCK in blocks for a, z in found), (
        "no wider than needed"
    )
    assert all(z + 1 < a for (_, z), (a, _) in itertools.pairwise(found))
    apart = sum(n - 1 not in blocks for n in blocks)
    assert len(found) == min(apart, bpf.MAX_RANGES)


@given(st.binary(min_size=16, max_size=16))
def test_an_address_is_in_its_block(address: bytes) -> None:
    for octets in (address, address[:4]):
        first = bpf.block(octets) * bpf.BLOCK
        assert first <= int.from_bytes(octets[-4:], "big") < first + bpf.BLOCK


@pytest.mark.netns
def test_the_kernel_keeps_what_concerns_others_to_itself() -> None:
    """Through a real interface, with a program as long as they get."""
    rng = random.Random(7)
    many = [str(IPv4Address(rng.randrange(2**32))) for _ in range(100)]
    ranges4 = bpf.ranges({bpf.block(pack(text)) for text in [*OURS4, *many]})
    assert len(ranges4) == bpf.MAX_RANGES
    narrow4 = bpf.ranges({bpf.block(pack(text)) for text in OURS4})
    ranges6 = bpf.ranges({bpf.block(pack(text)) for text in OURS6})

    def question(target: str, sender: str = "10.9.9.9", op: int = 1) -> bytes:
        return bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(op=op, psrc=sender, pdst=target))

    def solicitation(target: str) -> bytes:
        options = ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:09")
        group = "33:33:00:00:00:01"
        return bytes(Ether(dst=group) / IPv6(dst="ff02::1", hlim=255) / ICMPv6ND_NS(tgt=target) / options)

    def advertisement(target: str) -> bytes:
        group = "33:33:00:00:00:01"
        return bytes(Ether(dst=group) / IPv6(dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=target))

    wanted4 = [
        *(question(text) for text in OURS4),
        question("10.9.9.8", sender="10.77.0.103", op=2),  # claimed by somebody else
        question("192.0.2.1", sender="0.0.0.0"),  # a probe
    ]
    foreign4 = [
        question("10.77.0.90"),
        question("10.77.0.112"),
        question("192.0.2.8"),
        question("0.0.0.0"),
        question("192.0.2.1", op=3),
        question("192.0.2.1")[:40],
    ]
    wanted6 = [kind(text) for text in OURS6 for kind in (solicitation, advertisement)]
    foreign6 = [
        solicitation("2001:db8::8"),
        advertisement("2001:db8::ff00:1"),
        solicitation("2001:db8::1")[:70],
    ]
    with lan(["client", "a"]) as (client, a):
        index = int(a.run("cat", "/sys/class/net/eth0/ifindex"))
        for protocol, program, wanted, foreign in (
            (ETH_P_ARP, bpf.arp(index, narrow4), wanted4, foreign4),
            (ETH_P_ARP, bpf.arp(index, ranges4), wanted4, []),
            (ETH_P_ARP, bpf.arp(index, ()), [], [*wanted4, *foreign4]),
            (ETH_P_IPV6, bpf.neighbour_discovery(index, ranges6), wanted6, foreign6),
            (ETH_P_IPV6, bpf.neighbour_discovery(index, ()), [], [*wanted6, *foreign6]),
        ):
            with a.packet_socket(protocol=protocol) as heard, client.packet_socket() as sock:
                bpf.attach(heard, program)
                heard.setblocking(False)
                with suppress(BlockingIOError):
                    while True:  # what came before the program was there
                        heard.recv(2048)
                heard.settimeout(PATIENCE)
                for frame in [*foreign, *wanted]:
                    sock.send(frame)
                assert [heard.recv(2048) for _ in wanted] == wanted
                heard.setblocking(False)
                with pytest.raises(BlockingIOError):
                    heard.recv(2048)


def test_ipv6_addresses_are_told_apart_by_their_last_word() -> None:
    assert bpf.block(IPv6Address("2001:db8::1").packed) == bpf.block(IPv6Address("fe80::1").packed)
