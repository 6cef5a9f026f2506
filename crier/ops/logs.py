"""Log lines: one JSON object each, on stdout, in MetalLB's shape (`ts`, `level`, `caller`, `event`, fields).

    log = logs.get(__name__)
    log.info("took_over", vip="192.0.2.1", why="owner unreachable")

Everything goes through the standard library's logging, so other libraries' lines have the same shape.

*No secrets, by construction.*  A field is written only if it is of a kind that cannot carry one by accident:
octets are written as their number (key material is octets), an object of any other class as its class's name
(so that no `repr` gives away what it holds), a field whose name speaks of a secret not at all; and text that
looks like a bearer token or a private key is cut out wherever it stands.

*No waiting, on request.*  `configure(..., blocking=False)` drops and counts lines while the pipe is full, so
that a reader who stalls cannot stall us.
"""

from __future__ import annotations

import logging
import os
import re
import select
import socket
import stat
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final, Protocol

import msgspec

LEVELS: Final[Mapping[str, int]] = {
    "all": 1,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "none": logging.CRITICAL + 1,
}
"""What `--log-level` may say."""

MAX_LINE: Final = 4096
"""Octets of a line, newline included: what a pipe takes whole or not at all (PIPE_BUF on Linux)."""
MAX_TEXT: Final = 1024
MAX_ITEMS: Final = 64
MAX_DEPTH: Final = 4

HIDDEN: Final = "(hidden)"

_SECRET_NAME: Final = re.compile(
    r"secret|token|passw|authoriz|credential|cookie|private_?key|key_?data|keyring", re.IGNORECASE
)
_SECRET_TEXT: Final = re.compile(
    r"(?i:bearer|basic)\s+[\w.~+/=-]{8,}"  # an Authorization header
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # a JSON web token
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user:password in a URL
)
_FIELDS: Final = "crier_fields"
_LEVEL_NAMES: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "error",
}
_RECORD_NAMES: Final = {
    *vars(logging.LogRecord("", 0, "", 0, "", None, None)),
    "message",
    "asctime",
    "taskName",
}
_ADDRESSES: Final = (IPv4Address, IPv6Address, IPv4Network, IPv6Network, IPv4Interface, IPv6Interface)


class Logger:
    """Logs events with fields.  `bind` gives one that adds fields to every line."""

    __slots__ = ("_bound", "_logger")

    def __init__(self, logger: logging.Logger, bound: Mapping[str, object] | None = None) -> None:
        self._logger = logger
        self._bound = dict(bound or {})

    def bind(self, **fields: object) -> Logger:
        return Logger(self._logger, {**self._bound, **fields})

    def debug(self, event: str, /, **fields: object) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """An exception passed as `error=` is written as its class and message, with where it came from."""
        self._log(logging.ERROR, event, fields)

    def _log(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            extra = {_FIELDS: {**self._bound, **fields}}
            self._logger.log(level, event, extra=extra, stacklevel=3)


def get(name: str) -> Logger:
    """The logger of a module; pass `__name__`."""
    return Logger(logging.getLogger(name))


# -------------------------------------------------------------------------------------------- a line


def encode(record: logging.LogRecord) -> bytes:
    """The line for a record, newline included, at most `MAX_LINE` octets.  Never raises."""
    line: dict[str, object] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "level": _LEVEL_NAMES.get(record.levelno, "info"),
        "caller": f"{record.filename}:{record.lineno}",
    }
    fields = _fields(record)
    if fields is not None:
        line["event"] = _text(str(record.msg))
        for name, value in fields.items():
            # a caller's field never hides the line's own
            line[f"{name}_" if name in line else name] = HIDDEN if _SECRET_NAME.search(name) else plain(value)
        problem = fields.get("error")
        if isinstance(problem, BaseException) and record.levelno >= logging.ERROR:
            line["stack"] = _stack(problem)
    else:  # some library's own words
        line |= {"event": "log", "logger": record.name, "msg": _text(_message(record))}
        if record.exc_info and record.exc_info[1] is not None:
            line |= {"error": plain(record.exc_info[1]), "stack": _stack(record.exc_info[1])}
    encoded = msgspec.json.encode(line)
    if len(encoded) >= MAX_LINE:
        kept = {name: line[name] for name in ("ts", "level", "caller", "event")}
        text = encoded.decode("utf-8", "replace")
        encoded = msgspec.json.encode({**kept, "truncated": text[: MAX_TEXT // 2]})
    if len(encoded) >= MAX_LINE:  # escapes can swell it sixfold
        encoded = msgspec.json.encode({"ts": line["ts"], "level": line["level"], "event": "line_too_long"})
    return encoded + b"\n"


def _fields(record: logging.LogRecord) -> Mapping[str, object] | None:
    """What was logged as an event with fields, by our `Logger` or by `extra=`; None for a sentence."""
    ours = getattr(record, _FIELDS, None)
    if isinstance(ours, Mapping):
        return ours
    extra = {name: value for name, value in vars(record).items() if name not in _RECORD_NAMES}
    return extra if extra and not record.args else None


def plain(value: object, depth: int = 0) -> object:
    """What of a field's value is written: bounded in size and depth, and nothing that could hide a secret."""
    match value:
        case None | bool():
            return value
        case Enum():
            return plain(value.value, depth) if isinstance(value.value, str) else value.name
        case int():
            return value if value.bit_length() <= 63 else _text(hex(value))
        case float():
            return round(value, 6) if value - value == 0 else str(value)  # JSON has no infinity
        case str():
            return _text(value)
        case bytes() | bytearray() | memoryview():
            return f"({len(value)} octets)"
        case BaseException():
            return _text(f"{type(value).__name__}: {_words(value)}")
        case _ if isinstance(value, _ADDRESSES):
            return str(value)
        case Mapping() if depth < MAX_DEPTH:
            some = list(value.items())[:MAX_ITEMS]
            return {
                str(key)[:MAX_TEXT]: HIDDEN if _SECRET_NAME.search(str(key)) else plain(item, depth + 1)
                for key, item in some
            }
        case list() | tuple() if depth < MAX_DEPTH:
            return [plain(item, depth + 1) for item in value[:MAX_ITEMS]]
        case set() | frozenset() if depth < MAX_DEPTH:
            return sorted((plain(item, depth + 1) for item in list(value)[:MAX_ITEMS]), key=str)
    return f"({type(value).__name__})"


def _text(text: str) -> str:
    # scrub before cutting: half a token is still a secret; but bound the scrubbing itself
    clean = _SECRET_TEXT.sub(HIDDEN, text[: 16 * MAX_TEXT])
    clean = clean.encode("utf-8", "replace").decode("utf-8")  # lone surrogates are no JSON
    return clean if len(clean) <= MAX_TEXT else clean[:MAX_TEXT] + "..."


def _words(problem: BaseException) -> str:
    try:
        return str(problem)
    except Exception:  # noqa: BLE001 - logging an error must not make another
        return "(no text)"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a library's bad format string is not our failure
        return str(record.msg)


def _stack(problem: BaseException) -> str:
    """Where it came from, innermost first; names and lines only, never values."""
    frames = traceback.extract_tb(problem.__traceback__)[-8:]
    where = [f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in reversed(frames)]
    if isinstance(problem, BaseExceptionGroup):
        where += [f"[{plain(each)} at {_stack(each)}]" for each in problem.exceptions[:4]]
    return _text(" < ".join(where))


# ------------------------------------------------------------------------------------------- a sink


class Sink(Protocol):
    dropped: int
    """Lines lost so far."""

    def write(self, line: bytes) -> None: ...

    def close(self) -> None:
        """Give back what the sink opened itself; the descriptor it was given stays open."""


class BlockingSink:
    """Writes every line, however long the reader takes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.dropped = 0

    def write(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except BlockingIOError:  # somebody else made the shared description non-blocking
            self.dropped += 1
        except OSError:  # nobody reads any more; nothing can be said about that here
            self.dropped += 1

    def close(self) -> None:
        pass


class NonBlockingSink:
    """Writes a line if that can be done at once, else drops and counts it.

    O_NONBLOCK belongs to the open file description, which we share with our parent and children; to set it
    there would change *their* writes.  So a pipe is opened anew; a socket is told per call.
    """

    def __init__(self, fd: int) -> None:
        self.dropped = 0
        self._fd = fd
        self._own = False
        self._socket: socket.socket | None = None
        self._rest = b""
        self._ask_first = False
        kind = os.fstat(fd).st_mode
        if stat.S_ISFIFO(kind) or os.isatty(fd):
            try:
                self._fd = os.open(
                    f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                )
                self._own = True
            except OSError:
                # no /proc, or the pipe is another user's: a pipe that polls writable takes a whole line
                # (pipe(7): PIPE_BUF octets), unless another writer is faster; that rare wait we accept
                self._ask_first = True
        elif stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=os.dup(fd))

    def write(self, line: bytes) -> None:
        try:
            if self._rest:  # the tail of a line that a socket took in part
                self._rest = self._rest[self._put(self._rest) :]
            if self._rest:
                raise BlockingIOError
            self._rest = line[self._put(line) :]
        except OSError:
            self.dropped += 1

    def close(self) -> None:
        if self._own:
            os.close(self._fd)
        if self._socket is not None:
            self._socket.close()

    def _put(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self._ask_first:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            if not poll.poll(0):
                raise BlockingIOError
        return os.write(self._fd, data)


class _Handler(logging.Handler):
    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink
        self._told = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._sink.write(encode(record))
        if self._sink.dropped > self._told:
            self._confess()

    def _confess(self) -> None:
        """Say how many lines are missing, as soon as the reader is back."""
        dropped = self._sink.dropped
        note = logging.LogRecord(__name__, logging.WARNING, __file__, 0, "log_lines_dropped", None, None)
        setattr(note, _FIELDS, {"count": dropped - self._told})
        self._sink.write(encode(note))
        if self._sink.dropped == dropped:
            self._told = dropped
        else:
            self._sink.dropped = dropped  # the note itself is not a lost line


def configure(level: str = "info", *, blocking: bool = True, fd: int | None = None) -> Sink:
    """From now on every log line goes to `fd` (stdout) as JSON.  Raises KeyError for a level not in `LEVELS`.

    Returns the sink, whose `dropped` is worth a metric.
    """
    threshold = LEVELS[level]
    target = sys.stdout.fileno() if fd is None else fd
    sink: Sink = BlockingSink(target) if blocking else NonBlockingSink(target)
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_Handler(sink))
    root.setLevel(threshold)
    # HTTP clients log every request at debug, headers included: only on `all`
    for chatty in ("urllib3", "kubernetes", "requests"):
        logging.getLogger(chatty).setLevel(logging.WARNING if level != "all" else logging.NOTSET)
    logging.raiseExceptions = False
    return sink
