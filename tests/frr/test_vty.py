"""The vty protocol, with daemons that keep to it and daemons that do not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from speaker.frr import state
from speaker.frr.state import BadState, Seen
from speaker.frr.vty import MAX_COMMAND, TIMEOUT, Answer, Decoder, Vty, VtyError, encode

texts = st.text(st.characters(min_codepoint=1, max_codepoint=0x2FF), max_size=40)


@given(st.lists(st.tuples(texts, st.integers(0, 255))), st.lists(st.integers(1, 9)))
def test_answers_survive_however_they_are_cut(answers: list[tuple[str, int]], cuts: list[int]) -> None:
    data = b"".join(text.encode() + b"\0\0\0" + bytes((status,)) for text, status in answers)
    decoder, found = Decoder(), list[Answer]()
    for cut in [*cuts, len(data)]:
        found += decoder.feed(data[:cut])
        data = data[cut:]
    assert found == [Answer(text, status) for text, status in answers]


@given(st.lists(st.binary(max_size=20)))
def test_any_octets_are_answers_or_one_exception(pieces: list[bytes]) -> None:
    decoder = Decoder(limit=64)
    with suppress(VtyError):
        for piece in pieces:
            assert all(0 <= answer.status <= 255 for answer in decoder.feed(piece))


def test_an_answer_without_end_is_given_up() -> None:
    decoder = Decoder(limit=100)
    decoder.feed(b"x" * 100)
    with pytest.raises(VtyError, match="more than 100 octets"):
        decoder.feed(b"x")


@pytest.mark.parametrize("command", ["", "one\0two", "one\ntwo", "a\x7f", "x" * (MAX_COMMAND + 1)])
def test_what_is_not_one_command(command: str) -> None:
    with pytest.raises(ValueError, match="command"):
        encode(command)


def test_why() -> None:
    assert Answer("% [BGP] Unknown command:\n  x\n\n", 2).why == "[BGP] Unknown command: x"
    assert Answer("", 13).why == "status 13"


Serve = Callable[[trio.SocketStream], Awaitable[None]]


class Daemon:
    """A vty socket behind which `serve` plays the daemon."""

    def __init__(self, home: Path, serve: Serve) -> None:
        self.path, self._serve = home / "bgpd.vty", serve

    async def __aenter__(self) -> Path:
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(str(self.path))
        sock.listen()
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(trio.serve_listeners, self._serve, [trio.SocketListener(sock)])
        return self.path

    async def __aexit__(self, *_: object) -> None:
        self._nursery.cancel_scope.cancel()
        await self._manager.__aexit__(None, None, None)


async def obliging(stream: trio.SocketStream) -> None:
    """Answers with the command itself, like FRR in pieces; what begins with "no" it does not know."""
    rest = b""
    async for data in stream:
        *commands, rest = (rest + data).split(b"\0")
        for command in commands:
            await stream.send_all(command + b"\0\0\0" + bytes((2 * command.startswith(b"no"),)))


async def test_many_commands_and_their_answers(tmp_path: Path) -> None:
    async with Daemon(tmp_path, obliging) as path:
        vty = await Vty.open(path)
        commands = [f"{'no ' if number % 3 == 0 else ''}network {number}" for number in range(2000)]
        answers = await vty.ask_many(commands)
        assert [answer.text for answer in answers] == commands
        assert [answer.ok for answer in answers] == [not text.startswith("no") for text in commands]
        with pytest.raises(ValueError, match="one line"):
            await vty.ask("show\nversion")
        assert (await vty.ask("show version")).text == "show version"
        await vty.aclose()


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def gone(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.aclose()


async def talkative(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"\0\0\0\0" * 2)
    await trio.sleep_forever()


async def garbled(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"ok\0what?")
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("serve", "why"),
    [
        (gone, "bgpd: the daemon closed the connection"),
        (talkative, "bgpd: 2 answers to 1 commands"),
        (garbled, "bgpd: zero octets in the middle"),
    ],
)
async def test_daemons_that_misbehave(tmp_path: Path, serve: Serve, why: str) -> None:
    async with Daemon(tmp_path, serve) as path:
        with pytest.raises(VtyError, match=why):
            await Vty.open(path)


async def test_a_daemon_that_says_nothing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """Nor does it matter that it does not read, either."""
    ours, _theirs = trio.testing.lockstep_stream_pair()
    vty = Vty(ours, "bgpd")
    started = trio.current_time()
    with pytest.raises(VtyError, match="bgpd: silent for 30 s"):
        await vty.ask_many(["x" * 1000] * 1000)
    assert trio.current_time() - started == TIMEOUT
    with pytest.raises(VtyError, match="broke before"):
        await vty.ask("x")


async def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(VtyError, match=r"bgpd\.vty"):
        await Vty.open(tmp_path / "bgpd.vty")


# ------------------------------------------------------------------------------------ what it shows

NEIGHBOR = {
    "bgpState": "Established",
    "bgpTimerUpEstablishedEpoch": 1795444598,
    "connectionsDropped": 0,
    "lastResetDueTo": "Waiting for peer OPEN",
    "messageStats": {"updatesSent": 169, "totalRecv": 7},
    "addressFamilyInfo": {"ipv4Unicast": {"sentPrefixCounter": 5}, "ipv6Unicast": {"sentPrefixCounter": 2}},
}


def seen(**more: Any) -> Seen:
    text = json.dumps({"default": {"vrfId": 0, "vrfName": "default", "10.9.0.1": NEIGHBOR | more}})
    return state.decode_neighbors(text)["", "10.9.0.1"]


def test_a_session() -> None:
    found = seen()
    assert (found.state, found.established_at, found.error, found.sent) == ("Established", 1795444598, "", 7)
    assert (found.counters["updates_total"], found.counters["total_received"]) == (169, 7)
    assert seen(bgpState="Clearing").state == "Idle"
    assert seen(bgpState="Active").established_at is None


def test_why_a_session_ended() -> None:
    said = {
        "connectionsDropped": 1,
        "lastResetDueTo": "BGP Notification received",
        "lastNotificationReason": "Cease/Administrative Shutdown",
        "lastShutdownDescription": "bye\n\x1b[31m!!",
    }
    assert seen(**said).error == ("BGP Notification received: Cease/Administrative Shutdown: bye  [31m!!")
    assert seen(bgpState="Idle", lastResetDueTo="Waiting for Peer IPv6 LLA").error == (
        "Waiting for Peer IPv6 LLA"
    )
    assert seen(bgpState="Active").error == "", "it never was up, and nothing is wrong yet"


def test_bfd() -> None:
    peers = '[{"peer":"10.9.0.1","interface":"eth0","status":"up"},{"peer":"10.9.0.3","status":"down"}]'
    counters = '[{"peer":"10.9.0.1","control-packet-input":7,"session-up":1}]'
    found = state.decode_bfd(peers, counters)
    assert {address: each.state for address, each in found.items()} == {
        "10.9.0.1": "Up",
        "10.9.0.3": "Down",
        "eth0": "Up",
    }
    assert found["10.9.0.1"].counters == {"control_packet_input": 7, "session_up_events": 1}
    assert state.decode_bfd("", "") == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["default", "peer", "status", "interface", "session-up", *NEIGHBOR]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.text(max_size=20) | json_values.map(json.dumps), json_values.map(json.dumps))
def test_whatever_frr_shows_is_understood_or_one_exception(one: str, other: str) -> None:
    with suppress(BadState):
        for found in state.decode_neighbors(one).values():
            assert found.state
    with suppress(BadState):
        state.decode_bfd(one, other)
