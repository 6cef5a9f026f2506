"""A Serf agent: the oldest memberlist still shipped (0.2.2 in Debian 12), inside another program."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from tests.interop.gobuild import CannotBuildError, cache_directory

RPC_PORT: Final = 17373
CALL_SECONDS: Final = 60.0


def serf_program(progress: Callable[[str], None] = lambda line: None) -> Path:
    """An installed `serf`, or the one from Debian's archive unpacked in the cache.

    Unpacked and not installed, because the package starts an agent of its own that listens on all interfaces.
    Raises CannotBuildError.
    """
    installed = shutil.which("serf")
    if installed:
        return Path(installed)
    program = cache_directory() / "serf" / "usr" / "bin" / "serf"
    if not program.exists():
        progress("fetching serf from the Debian archive (once, 3 MB)")
        _fetch(program.parents[2])
    return program


def _fetch(directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        for command in (["apt-get", "download", "serf"], ["dpkg-deb", "-x", "serf.deb", str(unpacked)]):
            try:
                subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True, timeout=120)
            except (OSError, subprocess.SubprocessError) as error:
                said = getattr(error, "stderr", "") or ""
                raise CannotBuildError(
                    "no `serf`: install Debian's package of that name, or let `apt-get download serf` work "
                    f"(apt-get update); `{' '.join(command)}` says: {error} {said.strip()[-300:]}"
                ) from None
            for package in Path(scratch).glob("serf_*.deb"):
                package.rename(Path(scratch) / "serf.deb")
        unpacked.rename(directory)


class Serf:
    """One running agent."""

    def __init__(self, program: Path, name: str, host: str, port: int) -> None:
        self.program = program
        self.name = name
        self.host = host
        self.address = f"{host}:{port}"
        self.rpc = f"{host}:{RPC_PORT}"
        self.log: list[str] = []
        self._changed = trio.Event()

    async def call(self, *arguments: str) -> str:
        """Run a serf command against the agent; its output."""
        verb, *rest = arguments
        command = [str(self.program), verb, f"-rpc-addr={self.rpc}", *rest]
        with trio.fail_after(CALL_SECONDS):
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout.decode()} {done.stderr.decode()}"
        return done.stdout.decode()

    async def members(self) -> dict[str, str]:
        """Name -> alive, leaving, left or failed."""
        listed: dict[str, Any] = json.loads(await self.call("members", "-format=json"))
        return {member["name"]: member["status"] for member in listed["members"]}

    def logged(self, text: str) -> list[str]:
        return [line for line in self.log if text in line]

    async def expect(self, text: str, *, within: float) -> None:
        """Wait for a line of the agent's log."""
        with trio.move_on_after(within):
            while not self.logged(text):
                await self._changed.wait()
            return
        raise AssertionError(f"serf has not said {text!r} within {within:g} s:\n" + "\n".join(self.log[-30:]))

    async def read(self, stream: trio.abc.ReceiveStream) -> None:
        buffer = b""
        async for chunk in stream:
            *lines, buffer = (buffer + chunk).split(b"\n")
            self.log.extend(line.decode(errors="replace") for line in lines)
            changed, self._changed = self._changed, trio.Event()
            changed.set()


@asynccontextmanager
async def open_serf(
    program: Path, name: str, host: str, port: int, *, secret_key: str | None = None, join: str = ""
) -> AsyncIterator[Serf]:
    """An agent that is killed when the block is left."""
    serf = Serf(program, name, host, port)
    command = [
        *(str(program), "agent", f"-node={name}", f"-bind={serf.address}", f"-rpc-addr={serf.rpc}"),
        *("-profile=lan", "-log-level=debug"),
    ]
    if secret_key:
        command.append("-encrypt=" + base64.b64encode(bytes.fromhex(secret_key)).decode())
    if join:
        command.append(f"-join={join}")
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert process.stdout is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serf.read, process.stdout)
            await serf.expect("Serf agent running!", within=CALL_SECONDS)
            yield serf
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
