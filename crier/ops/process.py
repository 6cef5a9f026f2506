"""What Prometheus's client libraries tell of a process, by their names, for one process or another.

Read from /proc when somebody scrapes; a process that is gone has no series.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from crier.ops.metrics import Kind, Labels, Reported

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
# proc(5), counted from the field after the name in parentheses
_UTIME: Final = 11
_STIME: Final = 12
_START: Final = 19
_VSIZE: Final = 20
_RSS: Final = 21


def families(prefix: str = "process", pid: int | str = "self") -> Iterator[Reported]:
    """Processor time, memory, start and descriptors of a process of this machine."""
    proc = Path("/proc", str(pid))

    def family(name: str, text: str, kind: Kind, read: Callable[[], float]) -> Reported:
        def samples() -> Iterator[tuple[Labels, float]]:
            try:
                found = read()
            except (OSError, ValueError, IndexError):
                return
            yield (), found

        return Reported(f"{prefix}_{name}", text, kind, samples)

    def stat(field: int) -> int:
        return int((proc / "stat").read_text().rpartition(")")[2].split()[field])

    def started() -> float:
        lines = Path("/proc/stat").read_text().splitlines()
        (boot,) = (int(line.split()[1]) for line in lines if line.startswith("btime "))
        return boot + stat(_START) / _TICKS

    yield family(
        "cpu_seconds_total", "Processor time, user and system.", "counter",
        lambda: (stat(_UTIME) + stat(_STIME)) / _TICKS,
    )  # fmt: skip
    yield family("resident_memory_bytes", "Resident memory.", "gauge", lambda: stat(_RSS) * _PAGE)
    yield family("virtual_memory_bytes", "Virtual memory.", "gauge", lambda: stat(_VSIZE))
    yield family("start_time_seconds", "Unix time of the start.", "gauge", started)
    yield family("open_fds", "Open file descriptors.", "gauge", lambda: len(os.listdir(proc / "fd")))
