from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crier.ops import logs


@contextmanager
def captured(level: str = "all", *, blocking: bool = True) -> Iterator[tuple[int, logs.Sink]]:
    """A pipe's reading end, while everything logged goes into the pipe."""
    root = logging.getLogger()
    handlers, threshold, raising = list(root.handlers), root.level, logging.raiseExceptions
    reading, writing = os.pipe()
    sink = logs.configure(level, blocking=blocking, fd=writing)
    try:
        yield reading, sink
    finally:
        sink.close()
        os.close(reading)
        os.close(writing)
        root.handlers[:] = handlers
        root.setLevel(threshold)
        logging.raiseExceptions = raising
        for name in ("urllib3", "kubernetes", "requests"):
            logging.getLogger(name).setLevel(logging.NOTSET)


def lines(reading: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in os.read(reading, 1 << 20).splitlines()]


def test_a_line_has_the_shape_metallb_gives_it() -> None:
    with captured() as (reading, _):
        logs.get("x").info("took_over", vip="192.0.2.1", count=3)
        (line,) = lines(reading)
    assert list(line) == ["ts", "level", "caller", "event", "vip", "count"]
    assert line["level"] == "info"
    assert line["event"] == "took_over"
    assert line["caller"].startswith("test_logs.py:")
    assert line["ts"].endswith("Z")
    assert line["ts"][10] == "T"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("all", ["debug", "info", "warn", "error"]),
        ("debug", ["debug", "info", "warn", "error"]),
        ("info", ["info", "warn", "error"]),
        ("warn", ["warn", "error"]),
        ("error", ["error"]),
        ("none", []),
    ],
)
def test_levels(level: str, expected: list[str]) -> None:
    log = logs.get("x")
    with captured(level) as (reading, _):
        os.set_blocking(reading, False)
        log.debug("e")
        log.info("e")
        log.warning("e")
        log.error("e")
        try:
            found = [line["level"] for line in lines(reading)]
        except BlockingIOError:
            found = []
    assert found == expected


def test_bound_fields_come_with_every_line() -> None:
    with captured() as (reading, _):
        logs.get("x").bind(vip="192.0.2.1").bind(node="a").info("e", more=1)
        (line,) = lines(reading)
    assert (line["vip"], line["node"], line["more"]) == ("192.0.2.1", "a", 1)


def test_a_field_never_hides_the_lines_own() -> None:
    with captured() as (reading, _):
        logs.get("x").info("e", level="mine", ts=0)
        (line,) = lines(reading)
    assert line["level"] == "info"
    assert line["level_"] == "mine"


@dataclass
class Settings:
    key: str = "hunter2"


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"hunter2", "(7 octets)"),
        (Settings(), "(Settings)"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: (hidden)"),
        ("https://me:hunter2@example.org/", "https://(hidden)@example.org/"),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----", "(hidden)"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2", "(hidden)"),
        ({"password": "hunter2", "a": 1}, {"password": "(hidden)", "a": 1}),
        ([b"hunter2"], ["(7 octets)"]),
        (ValueError("token is Bearer hunter2hunter2"), "ValueError: token is (hidden)"),
        (ip_address("192.0.2.1"), "192.0.2.1"),
        (Colour.RED, "RED"),
        (float("inf"), "inf"),
        (1 << 70, "0x400000000000000000"),
        ({3, 1}, [1, 3]),
    ],
)
def test_what_is_written_of_a_value(value: object, shown: object) -> None:
    assert logs.plain(value) == shown
    assert "hunter2" not in json.dumps(logs.plain(value))


@pytest.mark.parametrize("name", ["secret", "ml_secret", "token", "Password", "authorization", "keyring"])
def test_a_field_named_like_a_secret_is_hidden(name: str) -> None:
    with captured() as (reading, _):
        logs.get("x").info("e", **{name: "hunter2"})
        (line,) = lines(reading)
    assert line[name] == logs.HIDDEN


def test_other_libraries_come_out_in_the_same_shape() -> None:
    with captured() as (reading, _):
        logging.getLogger("lib").warning("odd %s", "thing")
        logging.getLogger("lib").warning("watch_failed", extra={"kind": "Node", "failures": 2})
        logging.getLogger("lib").warning("bad format %d", "text")
        sentence, event, bad = lines(reading)
    assert sentence["event"] == "log"
    assert sentence["msg"] == "odd thing"
    assert (event["event"], event["kind"], event["failures"]) == ("watch_failed", "Node", 2)
    assert bad["msg"] == "bad format %d"


def test_an_error_says_where_it_came_from_but_shows_no_values() -> None:
    def fail(secret: str) -> None:
        raise ValueError("it failed")

    with captured() as (reading, _):
        try:
            fail("hunter2")
        except ValueError as problem:
            logs.get("x").error("e", error=problem)
        (line,) = lines(reading)
    assert line["error"] == "ValueError: it failed"
    assert " fail" in line["stack"]
    assert "hunter2" not in json.dumps(line)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(object)
    | st.builds(ValueError, st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.frozensets(st.text()),
    max_leaves=30,
)


@settings(max_examples=50)
@given(st.text(max_size=100), st.dictionaries(st.text(), anything))
def test_whatever_is_logged_is_one_bounded_line_of_json(event: str, fields: dict[str, object]) -> None:
    record = logging.LogRecord("x", logging.INFO, "f.py", 1, event, None, None)
    record.crier_fields = fields
    line = logs.encode(record)
    assert len(line) <= logs.MAX_LINE
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["level"] == "info"


def test_a_huge_line_is_cut_and_keeps_its_event() -> None:
    with captured() as (reading, _):
        logs.get("x").info("big", **{f"f{n}": "\x00" * 5000 for n in range(50)})
        (line,) = lines(reading)
    assert line["event"] == "big"
    assert "truncated" in line


def test_a_full_pipe_drops_and_counts_and_says_so_afterwards() -> None:
    with captured(blocking=False) as (reading, sink):
        fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
        log = logs.get("x")
        for number in range(100):
            log.info("filling", number=number, padding="x" * 200)
        assert sink.dropped > 0
        found = lines(reading)
        log.info("after")
        found += lines(reading)
    events = [line["event"] for line in found]
    told = sum(line["count"] for line in found if line["event"] == "log_lines_dropped")
    assert events.count("filling") + told == 100
    assert told == sink.dropped
    assert events[-2:] == ["after", "log_lines_dropped"]


def test_the_description_shared_with_others_stays_blocking() -> None:
    reading, writing = os.pipe()
    try:
        sink = logs.NonBlockingSink(writing)
        sink.write(b"line\n")
        sink.close()
        assert os.get_blocking(writing)
        assert os.read(reading, 100) == b"line\n"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_full_socket_never_tears_a_line() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        sink = logs.NonBlockingSink(ours.fileno())
        written = 0
        while not sink.dropped:
            sink.write(b"%07d\n" % written)
            written += 1
        received = theirs.recv(1 << 20)
        sink.write(b"1234567\n")
        theirs.setblocking(False)
        received += theirs.recv(1 << 20)
        sink.close()
    assert {len(line) for line in received.splitlines()} == {7}


@pytest.mark.parametrize("kind", [logs.BlockingSink, logs.NonBlockingSink])
def test_nobody_reads_any_more(kind: type[logs.BlockingSink | logs.NonBlockingSink]) -> None:
    reading, writing = os.pipe()
    sink = kind(writing)
    os.close(reading)
    try:
        sink.write(b"line\n")
        assert sink.dropped == 1
    finally:
        sink.close()
        os.close(writing)
