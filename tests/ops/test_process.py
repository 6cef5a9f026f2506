from __future__ import annotations

import os
import time

import pytest

from crier.ops.metrics import Registry
from crier.ops.process import families


def values(*given: object) -> dict[str, float]:
    text = Registry(*families(*given)).render().decode()  # type: ignore[arg-type]
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_this_process() -> None:
    found = values()
    assert set(found) == {
        "process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes",
        "process_start_time_seconds", "process_open_fds",
    }  # fmt: skip
    assert found["process_cpu_seconds_total"] == pytest.approx(sum(os.times()[:2]), abs=0.2)
    assert 5_000_000 < found["process_resident_memory_bytes"] < found["process_virtual_memory_bytes"]
    assert 0 < time.time() - found["process_start_time_seconds"] < 86_400
    with open("/dev/null", "rb"):
        assert values()["process_open_fds"] == found["process_open_fds"] + 1


def test_another_process_and_one_that_is_gone() -> None:
    other = values("x", os.getppid())
    assert other["x_start_time_seconds"] <= values()["process_start_time_seconds"]
    assert values("x", 2**22 + 1) == {}
