"""The API as a process of its own, for synchronous tests and for those that must not share a loop with it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

START_TIMEOUT: Final = 30.0
"""Seconds to wait for the first line; it takes a fraction of one, on a machine that is not overrun."""

STOP_TIMEOUT: Final = 5.0


class ApiStartError(Exception):
    """The process ended, or said nothing, before it was ready; the message has what it wrote."""


@dataclass(frozen=True, slots=True)
class ApiProcess:
    """A running server."""

    urls: tuple[str, ...]
    kubeconfig: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return self.urls[0]

    def faults(self, order: dict[str, Any] | None = None) -> dict[str, Any]:
        """Give an order (see `faults.Order`), or only ask; what is in force then."""
        data = None if order is None else json.dumps(order).encode()
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}/crier-lab/faults", data, {"Content-Type": "application/json"}
        )
        # no proxy stands between a test and its own loopback, whatever the environment says
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=STOP_TIMEOUT) as reply:
            answer: dict[str, Any] = json.load(reply)
        return answer


@contextmanager
def start_api_process(*arguments: str, listen: tuple[str, ...] = ("127.0.0.1:0",)) -> Iterator[ApiProcess]:
    """Run `python -m crier.lab.api` with these arguments; it is ended, by force if need be, after the block.

    Raises:
        ApiStartError: it did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="crier-api-") as directory:
        kubeconfig = Path(directory) / "kubeconfig"
        reading, writing = os.pipe()
        listeners = [text for endpoint in listen for text in ("--listen", endpoint)]
        command = [
            *(sys.executable, "-m", "crier.lab.api", *listeners),
            *("--kubeconfig", str(kubeconfig), "--ready-fd", str(writing), "--parent-pid", str(os.getpid())),
            *arguments,
        ]
        with tempfile.TemporaryFile() as stderr, open(reading, "rb") as ready:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, pass_fds=(writing,)
                )
            finally:
                os.close(writing)
            try:
                readable, _, _ = select.select([ready], [], [], START_TIMEOUT)
                line = ready.readline() if readable else b""
                if not line:
                    process.kill()
                    process.wait()
                    stderr.seek(0)
                    raise ApiStartError(stderr.read().decode(errors="replace").strip() or "it said nothing")
                yield ApiProcess(tuple(json.loads(line)["listening"]), kubeconfig, process)
            finally:
                process.terminate()
                try:
                    process.wait(STOP_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
