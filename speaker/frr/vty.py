"""The vty socket of an FRR daemon: what vtysh speaks, without vtysh.

A command is its text and one zero octet; the answer is text, three zero octets and one status octet
(0: done).  The connection remembers where in the configuration it stands, as a terminal does.  A daemon reads
many commands in one go, so they are sent without waiting for each answer: 10,000 of them take half the time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

MAX_COMMAND: Final = 4000
"""Octets; FRR's own buffer has 4,096."""
MAX_ANSWER: Final = 1 << 26
"""Octets of all answers that were not taken yet: a running configuration of a million prefixes."""
CHUNK: Final = 65536
MANY: Final = 100
"""Answers that are waited for."""
PATIENCE: Final = 0.005
"""Seconds between two looks at what came, while there are `MANY` to come: a daemon writes each answer by
itself, and to be woken for every one of them costs both sides more than the commands do."""
TIMEOUT: Final = 30.0
"""Seconds without a single octet until a daemon is given up: it may be busy, but not for that long."""

_END: Final = b"\0\0\0"


class VtyError(Exception):
    """The daemon is not there, went away, or does not speak as a vty does."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    status: int

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def why(self) -> str:
        """What the daemon says of it, in one line."""
        words = " ".join(self.text.split()).lstrip("% ")
        return words or f"status {self.status}"


def encode(command: str) -> bytes:
    """Raises ValueError: control characters would make it another command, or more than one."""
    data = command.encode("utf-8", "surrogateescape")
    if len(data) > MAX_COMMAND:
        raise ValueError(f"a command of {len(data)} octets is too long for FRR, which takes {MAX_COMMAND}")
    if not data or any(octet < 0x20 or octet == 0x7F for octet in data):
        raise ValueError("a command is one line of printable characters")
    return data + b"\0"


class Decoder:
    """Octets to answers, however they are cut."""

    def __init__(self, limit: int = MAX_ANSWER) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._seen = 0
        """No end of an answer begins before this place."""

    def feed(self, data: bytes) -> list[Answer]:
        """Raises VtyError when an answer is longer than any daemon's, or has zeros that end nothing."""
        buffer = self._buffer
        buffer += data
        answers: list[Answer] = []
        start = 0
        while True:
            at = buffer.find(0, max(self._seen, start))
            if at < 0:
                self._seen = len(buffer)
                break
            if not _END.startswith(buffer[at : at + 3]):
                raise VtyError("zero octets in the middle of an answer")
            if at + 4 > len(buffer):
                self._seen = at
                break
            answers.append(Answer(buffer[start:at].decode("utf-8", "replace"), buffer[at + 3]))
            start = self._seen = at + 4
        del buffer[:start]
        self._seen -= start
        if len(buffer) > self._limit:
            raise VtyError(f"an answer of more than {self._limit} octets")
        return answers


class Vty:
    """One connection.  One task at a time; after an exception or a cancellation it is of no more use."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, name: str) -> None:
        self._stream, self.name = stream, name
        self._decoder = Decoder()
        self._broken = False

    @classmethod
    async def open(cls, path: Path) -> Vty:
        """Connect and become privileged.  Raises VtyError."""
        try:
            with trio.fail_after(TIMEOUT):
                stream = await trio.open_unix_socket(path)
        except (OSError, trio.TooSlowError) as problem:
            raise VtyError(f"{path}: {problem}") from None
        vty = cls(stream, path.stem)
        try:
            answer = await vty.ask("enable")
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        if not answer.ok:
            await trio.aclose_forcefully(stream)
            raise VtyError(f"{vty.name}: enable: {answer.why}")
        return vty

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def ask(self, command: str) -> Answer:
        """Raises VtyError; ValueError when that is no command."""
        return (await self.ask_many([command]))[0]

    async def ask_many(self, commands: Sequence[str]) -> list[Answer]:
        """One answer per command, in order; all are sent, whatever the first ones' answers.

        Raises VtyError; ValueError, with nothing sent, when one is no command.
        """
        if self._broken:
            raise VtyError(f"{self.name}: the connection broke before")
        data = b"".join(map(encode, commands))
        self._broken = True
        answers: list[Answer] = []
        failure = ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, data)
            try:
                await self._receive(len(commands), answers.extend)
            except trio.TooSlowError:
                failure = f"silent for {TIMEOUT:.0f} s"
            except (VtyError, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as problem:
                failure = str(problem)
            nursery.cancel_scope.cancel()
        if failure or len(answers) != len(commands):
            why = failure or f"{len(answers)} answers to {len(commands)} commands"
            raise VtyError(f"{self.name}: {why}")
        self._broken = False
        return answers

    async def _send(self, data: bytes) -> None:
        # a daemon that does not read, or has gone, is noticed by whom waits for its answers
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_all(data)

    async def _receive(self, count: int, take: Callable[[list[Answer]], None]) -> None:
        while count > 0:
            with trio.fail_after(TIMEOUT):
                data = await self._stream.receive_some(CHUNK)
            if not data:
                raise VtyError("the daemon closed the connection")
            answers = self._decoder.feed(bytes(data))
            count -= len(answers)
            take(answers)
            if count > MANY:
                await trio.sleep(PATIENCE)


@functools.cache
def printable(text: str) -> bool:
    """Whether it is one word of a command: FRR parts words at white space and knows no quotes."""
    return text.isascii() and text.isprintable() and " " not in text and text != ""
