"""FRR without its sockets: a rendered frr.conf, and whoever makes FRR read it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

PATIENCE: Final = 60.0
"""Seconds `vtysh -f` may take."""
_MAX_OUTPUT: Final = 512
_PID: Final = re.compile(r"\s*([1-9]\d{0,9})\s*")
_STATUS: Final = re.compile(r"\s*(\d{1,12}) (success|failure)\s*")


class ReloadError(Exception):
    """FRR was not told.  The text says why, and never what is in the file."""


@dataclass(frozen=True, slots=True)
class Reload:
    """MetalLB's reloader when there is one, else vtysh."""

    config_file: Path
    pid_file: Path
    """Of the reloader; a SIGHUP makes it compare the file with what is in force."""

    @property
    def has_reloader(self) -> bool:
        return self.pid_file.exists()

    def status(self) -> str:
        """The reloader's complaint; empty when it has none, or is none."""
        try:
            text = self.config_file.with_name(".status").read_text("ascii", "replace")[:64]
        except OSError:
            return ""
        found = _STATUS.fullmatch(text)
        if found is None or found[2] == "success":
            return ""
        return "FRR's reloader could not put the configuration in force; its log says why"

    async def put(self, whole: str, difference: str) -> None:
        """Make FRR have it.  `difference` is for vtysh, which only ever adds.  Raises ReloadError."""
        if self.has_reloader:
            self._write(whole)
            self._signal()
        elif shutil.which("vtysh"):
            self._write(difference)
            await self._vtysh()
        else:
            raise ReloadError(f"there is neither an FRR socket, nor {self.pid_file}, nor vtysh")

    def _write(self, text: str) -> None:
        """Whole or not at all, and for nobody else's eyes: there are passwords in it."""
        temporary = self.config_file.with_name(f".{self.config_file.name}.new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            temporary.replace(self.config_file)
        except OSError as problem:
            raise ReloadError(f"{self.config_file}: {problem.strerror}") from None

    def _signal(self) -> None:
        try:
            found = _PID.fullmatch(self.pid_file.read_text("ascii", "replace")[:32])
            if found is None:
                raise ReloadError(f"{self.pid_file}: there is no process number in it")
            os.kill(int(found[1]), signal.SIGHUP)
        except (OSError, OverflowError) as problem:
            raise ReloadError(f"{self.pid_file}: {problem}") from None

    async def _vtysh(self) -> None:
        command = ["vtysh", "-f", str(self.config_file)]
        try:
            with trio.fail_after(PATIENCE):
                done = await trio.run_process(
                    command, check=False, stdout=subprocess.DEVNULL, capture_stderr=True
                )
        except (OSError, trio.TooSlowError) as problem:
            raise ReloadError(f"vtysh: {problem or 'no end within a minute'}") from None
        if done.returncode != 0:
            # it quotes the lines it dislikes, and one of them may be a password
            lines = re.findall(rb"line (\d+)", done.stderr)[:10]
            where = b", ".join(lines).decode("ascii") or "none named"
            raise ReloadError(f"vtysh ended with {done.returncode}; lines it dislikes: {where}"[:_MAX_OUTPUT])
