"""A gossip member in a process of its own, driven by lines of JSON: a real Go one, or ours.

Both speak the same commands and events (see tests/peers/memberlist/main.go), so a scenario does not care
which is which, and a crash is a real one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio

Line: TypeAlias = dict[str, Any]

PYTHON_PEER: Final = [sys.executable, "-m", "tests.interop.python_peer"]
ROOT: Final = Path(__file__).parents[2]

ANSWER_SECONDS: Final = 60.0
TAIL_LINES: Final = 40
TAIL_WIDTH: Final = 240
DULL: Final = {"ping", "packet"}
"""Events that would hide the others in a report."""


class PeerError(Exception):
    """The peer refused a command, or is no more."""


class Peer:
    """One member process: commands in, answers and events out."""

    def __init__(self, name: str, host: str, port: int, command: Sequence[str]) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.command = list(command)
        self.events: list[Line] = []
        self.errors: deque[str] = deque(maxlen=TAIL_LINES)
        self._process: trio.Process | None = None
        self._answers: dict[int, Line] = {}
        self._next_id = 0
        self._sending = trio.Lock()
        self._changed = trio.Event()
        self._gone = False

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def open(self, nursery: trio.Nursery) -> None:
        """Start the process and wait until it is ready for commands."""
        process = await trio.lowlevel.open_process(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            # Its own session, so that a Ctrl-C in the terminal reaches the tests first.
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "GOMAXPROCS": "2"},
        )
        self._process, self._gone = process, False
        mark = self.mark()
        nursery.start_soon(self._read_output, process)
        nursery.start_soon(self._read_errors, process)
        await self.expect("ready", since=mark)

    async def _read_output(self, process: trio.Process) -> None:
        assert process.stdout is not None
        buffer = bytearray()
        async for chunk in process.stdout:
            buffer += chunk
            *lines, rest = buffer.split(b"\n")
            buffer = bytearray(rest)
            for text in lines:
                line = json.loads(text)
                if "id" in line:
                    self._answers[line["id"]] = line
                else:
                    self.events.append(line)
            self._tell()
        if process is self._process:  # and has not been started anew
            self._gone = True
            self._tell()

    async def _read_errors(self, process: trio.Process) -> None:
        assert process.stderr is not None
        async for chunk in process.stderr:
            self.errors.extend(chunk.decode(errors="replace").splitlines())

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def call(self, command: str, **fields: Any) -> Any:
        """Run one command; its result, or PeerError with the peer's words."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._next_id += 1
        asked = self._next_id
        line = json.dumps({"id": asked, "command": command, **fields})
        try:
            with trio.fail_after(ANSWER_SECONDS):
                async with self._sending:
                    await self._process.stdin.send_all(line.encode() + b"\n")
                while asked not in self._answers:
                    if self._gone:
                        raise PeerError(f"{self.name} ended during {command}: {self.last_words()}")
                    await self._changed.wait()
        except trio.TooSlowError:
            raise PeerError(f"{self.name} has not answered {command} in {ANSWER_SECONDS:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise PeerError(f"{self.name} is gone: {self.last_words()}") from None
        answer = self._answers.pop(asked)
        if "error" in answer:
            raise PeerError(f"{self.name} {command}: {answer['error']}")
        return answer["result"]

    def mark(self) -> int:
        """A place in the events to look from."""
        return len(self.events)

    def seen(self, kind: str, since: int = 0, **fields: Any) -> list[Line]:
        """The events of a kind since a mark that have these fields; `about` is their node's name."""
        return [event for event in self.events[since:] if event["event"] == kind and _has(event, fields)]

    async def expect(
        self, kind: str, *, since: int = 0, count: int = 1, within: float = ANSWER_SECONDS, **fields: Any
    ) -> Line:
        """Wait for the count-th such event since the mark; AssertionError when it does not come in time."""
        with trio.move_on_after(within):
            while len(found := self.seen(kind, since, **fields)) < count and not self._gone:
                await self._changed.wait()
            if len(found) >= count:
                return found[count - 1]
        tail = [event for event in self.events if event["event"] not in DULL][-TAIL_LINES:]
        raise AssertionError(
            f"{self.name} saw {len(found)} of {count} {kind!r} events {_short(fields)} within {within:g} s; "
            f"its last words: {self.last_words()}; its last events:\n" + "\n".join(map(_short, tail))
        )

    async def until(self, question: Callable[[], Any], *, within: float, what: str) -> None:
        """Wait until the question about this peer's events is answered with yes."""
        with trio.move_on_after(within):
            while not question():
                await self._changed.wait()
            return
        raise AssertionError(f"{self.name}: {what}: not within {within:g} s")

    def last_words(self) -> str:
        return " | ".join(self.errors) or "none"

    def kill(self) -> None:
        """End it the hard way: no farewell of any kind."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def wait_gone(self) -> None:
        assert self._process is not None
        await self._process.wait()


def _has(event: Line, fields: Mapping[str, Any]) -> bool:
    return all(
        (event["node"]["name"] if field == "about" else event[field]) == value
        for field, value in fields.items()
    )


def _short(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields)[:TAIL_WIDTH]
