"""`python -m memberlist join` and `members`, as processes on loopback."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memberlist import Conflict, Lagged, Node, State, UserMessage
from memberlist.__main__ import main
from memberlist.cli.join import describe, printable, show
from memberlist.cli.options import parse_address
from memberlist.errors import ConfigError
from tests.places import loopback_network

PORT = 17460
PATIENCE = 60
NODE = Node("n", "10.0.0.1", 7946, State.ALIVE, True, 3, b"\x01", 0.0)


def host(number: int) -> str:
    return f"{loopback_network()}.255.{number}:{PORT}"


@contextlib.contextmanager
def join(*arguments: str) -> Iterator["Process"]:
    process = Process(*arguments)
    try:
        yield process
    finally:
        process.popen.kill()
        process.popen.wait()
        for pipe in (process.popen.stdout, process.popen.stderr):
            assert pipe is not None
            pipe.close()


class Process:
    def __init__(self, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "memberlist", "join", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def reload(self) -> None:
        """And wait until it says what came of it."""
        self.popen.send_signal(signal.SIGHUP)
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            if "keys read" in line or "the keys stay as they were" in line:
                return
        raise AssertionError("SIGHUP ended it")

    def until(self, event: str, name: str) -> dict[str, Any]:
        """Read lines until this event of this member.  A process that does not tell it is killed."""
        assert self.popen.stdout is not None
        giving_up = threading.Timer(PATIENCE, self.popen.kill)
        giving_up.start()
        try:
            for line in self.popen.stdout:
                said: dict[str, Any] = json.loads(line)
                if (said["event"], said.get("name")) == (event, name):
                    return said
        finally:
            giving_up.cancel()
        raise AssertionError(f"ended without {event} of {name}: {self.popen.communicate()[1]}")


@pytest.mark.e2e
def test_members_meet_crash_and_leave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "secretkey"
    secret.write_bytes(b"verysecret")
    common = ["--secret-file", str(secret), "--metallb-key", "--label", "blue"]
    a, b, c = (host(number) for number in (1, 2, 3))
    with (
        join("--name", "a", "--bind", a, *common) as first,
        join("--name", "b", "--bind", b, "--join", a, *common) as second,
        join("--name", "c", "--bind", c, "--join", a, b, "--observe", *common) as third,
    ):
        said = first.until("join", "b")
        assert (said["addr"], said["port"], said["state"], said["reachable"]) == (
            b.partition(":")[0],
            PORT,
            "alive",
            True,
        )
        third.until("join", "b")
        listed: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while listed != ["a", "b", "c"]:  # c may have heard of b before a has heard of c
            assert time.monotonic() < deadline, listed
            assert main(["members", a, "--json", *common]) == 0
            listed = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
        assert main(["members", a]) == 1, "without the secret"
        assert "memberlist members:" in capsys.readouterr().err
        second.popen.kill()
        assert first.until("unreachable", "b")["reachable"] is False
        assert third.until("unreachable", "b")["reachable"] is False
        first.popen.send_signal(signal.SIGTERM)
        assert third.until("left", "a")["state"] == "left"
        assert first.popen.wait(PATIENCE) == 0


@pytest.mark.e2e
def test_keys_are_rotated_by_sighup(tmp_path: Path) -> None:
    old, new = bytes(32).hex(), bytes(range(32)).hex()
    files = {name: tmp_path / name for name in "abc"}
    files["a"].write_text(old)
    files["b"].write_text(old)
    files["c"].write_text(new)
    at = {name: host(number) for number, name in enumerate("abc", 10)}
    start = {name: ("--name", name, "--bind", at[name], "--secret-file", str(files[name])) for name in "abc"}
    with join(*start["a"]) as a, join(*start["b"], "--join", at["a"]) as b:
        a.until("join", "b")
        for content in ("no key", f"{old}\n{new}", f"{new}\n{old}"):  # a mistake changes nothing
            for member in (a, b):
                files["a"].write_text(content)
                files["b"].write_text(content)
                member.reload()
        with join(*start["c"], "--join", at["b"]) as c:
            c.until("join", "a")
            a.until("join", "c")


@pytest.mark.e2e
def test_when_nobody_reads_on_it_leaves() -> None:
    a, b = (host(number) for number in (4, 5))
    with join("--name", "a", "--bind", a) as first:
        first.until("join", "a")
        with join("--name", "b", "--bind", b, "--join", a) as second:
            second.until("join", "a")
            first.until("join", "b")
            assert second.popen.stdout is not None
            second.popen.stdout.close()
            with join("--name", "c", "--bind", host(6), "--join", a):  # something to print
                assert first.until("left", "b")["state"] == "left"
            assert second.popen.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["join", "--bind", "127.0.0.1:x"], "--bind: '127.0.0.1:x' has no port"),
        (["join", "--bind", "nowhere:1"], "bind: ('nowhere', 1) is not an (IP address, port) pair"),
        (["join", "--bind", "192.0.2.1:0"], "bind: 192.0.2.1 port 0: Cannot assign requested address"),
        (["join", "--metallb-key"], "--metallb-key: needs --secret-file"),
        (["join", "--secret-file", "/nonexistent"], "--secret-file: /nonexistent: No such file or directory"),
        (["join", "--secret-file", "/dev/null"], "--secret-file: /dev/null: it is empty"),
        (
            ["join", "--secret-file", "/dev/zero"],
            "--secret-file: /dev/zero: over 65536 octets",
        ),
        (
            ["join", "--label", "x" * 256],
            "label: 'xxxxxxxxxxxxxxxxxxxx'..., 256 octets, is not a text of at most 255",
        ),
        (["join", "--join", "10.0.0.1:x"], "'10.0.0.1:x': port 'x' is not a number from 1 to 65535"),
        (["join", "--join", ":::"], "':::': ':::' is no IPv6 address, and a name has no colons"),
        (["join", "--name", ""], "name: '' is not a text of 1 to 255 octets"),
        (["members", "127.0.0.1", "--timeout", "0"], "--timeout: from 0 to 3600 seconds"),
        (["members", "127.0.0.1:99999"], "HOST: '127.0.0.1:99999' has no port from 0 to 65535"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert why in errors
    assert errors.count("\n") == 1


def test_a_secret_file_that_is_no_key_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "key"
    secret.write_bytes(b"hunter2")
    assert main(["join", "--secret-file", str(secret)]) == 2
    errors = capsys.readouterr().err
    assert f"--secret-file: {secret}: 7 octets that are neither a raw key" in errors
    assert "hunter2" not in errors


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["members", "127.0.0.1:1", "--timeout", "1"]) == 1
    assert "refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", ("10.0.0.1", 7946)),
        ("10.0.0.1:0", ("10.0.0.1", 0)),
        ("::1", ("::1", 7946)),
        ("[::1]", ("::1", 7946)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "--bind") == address


def test_a_bad_port() -> None:
    with pytest.raises(ConfigError, match="--bind"):
        parse_address("10.0.0.1:-1", "--bind")


def test_other_events_as_json() -> None:
    said = describe(Conflict(NODE, "10.0.0.9", 80))
    assert (said["event"], said["other_addr"], said["other_port"]) == ("conflict", "10.0.0.9", 80)
    assert describe(UserMessage(b"\x01"))["payload"] == "01"
    assert describe(Lagged(3))["count"] == 3


def test_names_from_the_network_move_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[2Jb") == "a\\x1b[2Jb"
    show(
        Conflict(Node("\x1b[2J", "fd00::1", 1, State.ALIVE, True, 1, None, 0.0), "fd00::2", 2), as_json=False
    )
    show(UserMessage(b"hello"), as_json=False)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "conflict    \\x1b[2J [fd00::1]:1 incarnation 1 alive also at fd00::2 port 2" in printed
    assert "user        68656c6c6f" in printed
