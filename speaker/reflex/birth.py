"""How a planner is born: a process of its own that dies with us, and a socket to it.

Apart from what keeps planners alive, and with little to import, because the first one is started before the
rest of the reflex is even loaded (app.py).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FD_VARIABLE: Final = "CRIER_REFLEX_FD"

# Dies with us even when we are killed: the request survives the exec.  Not `preexec_fn`, which would fork
# us, sockets and all, in the middle of things.
_TIED: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() == int(sys.argv[1]): os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class Newborn:
    """A planner that nobody has spoken to yet."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    """Our end."""


def start(command: Sequence[str], environ: Mapping[str, str]) -> Newborn:
    """Start one.  Raises OSError.

    From the main thread: what `_TIED` asks for is to die with the *thread* that started it, and trio starts
    its processes in workers that end after ten idle seconds.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**environ, FD_VARIABLE: str(theirs.fileno())},
            )
        except BaseException:
            ours.close()
            raise
    return Newborn(process, ours)
