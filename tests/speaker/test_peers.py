"""Speakers told from strangers."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from speaker.reflex.l2.ethernet import render_mac
from speaker.reflex.peers import KEEP, Peer, Peers, arp_table

B, GO, STRANGER = b"\2\0\0\0\0\x0b", b"\2\0\0\0\0\x0c", b"\2\0\0\0\0\x99"
HEAD = "IP address       HW type     Flags       HW address            Mask     Device\n"
LINE = "10.0.0.3         0x1         0x2         02:00:00:00:00:0c     *        eth0\n"
UNRESOLVED = "10.0.0.4         0x1         0x0         00:00:00:00:00:00     *        eth0\n"


def test_speakers_that_tell_are_known_and_everybody_else_is_a_stranger(tmp_path: Path) -> None:
    peers = Peers(tmp_path / "absent")
    assert peers.who(STRANGER, 0.0) == ""
    peers.update([Peer("b", "10.0.0.2", (B,))])
    assert peers.who(B, 0.0) == "b"
    assert peers.who(STRANGER, 0.0) == ""


def test_who_turns_out_to_be_a_speaker_was_no_stranger(tmp_path: Path) -> None:
    peers = Peers(tmp_path / "absent")
    assert not peers.is_speaker(render_mac(B))
    peers.update([Peer("b", "10.0.0.2", (B,))])
    assert peers.is_speaker(render_mac(B))
    assert not peers.is_speaker(render_mac(STRANGER))
    assert not peers.is_speaker("")
    assert peers.macs("10.0.0.2") == (B,)
    assert peers.macs("10.0.0.3") == ()
    peers.update([])
    assert peers.macs("10.0.0.2") == (B,), "gossip has forgotten it"


def test_of_those_that_do_not_tell_the_kernel_knows(tmp_path: Path) -> None:
    table = tmp_path / "arp"
    table.write_text(HEAD + LINE + UNRESOLVED)
    peers = Peers(table)
    peers.update([Peer("b", "10.0.0.2", (B,)), Peer("go", "10.0.0.3", ())])
    assert peers.who(GO, 0.0) == "go"
    assert peers.who(STRANGER, 0.0) == ""


def test_while_one_is_not_known_nobody_is_a_stranger(tmp_path: Path) -> None:
    table = tmp_path / "arp"
    table.write_text(HEAD + UNRESOLVED)
    peers = Peers(table)
    peers.update([Peer("go", "10.0.0.3", ()), Peer("more", "10.0.0.4", ())])
    assert peers.who(STRANGER, 0.0) is None
    table.write_text(HEAD + LINE + LINE.replace(".3 ", ".4 "))
    assert peers.who(STRANGER, KEEP / 2) is None, "not read again so soon"
    assert peers.who(STRANGER, KEEP) == ""


def test_one_that_left_is_known_by_what_the_kernel_remembers_and_hides_nobody_else(tmp_path: Path) -> None:
    table = tmp_path / "arp"
    table.write_text(HEAD + LINE + UNRESOLVED)
    peers = Peers(table)
    peers.update([Peer("go", "10.0.0.3", (), gone=True), Peer("more", "10.0.0.4", (), gone=True)])
    assert peers.who(GO, 0.0) == "go"
    assert peers.who(STRANGER, 0.0) == ""


@given(st.text())
def test_no_table_does_harm(text: str) -> None:
    assert all(len(mac) == len("02:00:00:00:00:0c") for mac in arp_table(HEAD + text).values())
