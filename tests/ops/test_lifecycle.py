from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import trio

from crier.ops.lifecycle import stop_on_signal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_a_stop_signal_is_told(number: signal.Signals) -> None:
    told: list[signal.Signals] = []
    heard = trio.Event()

    def stop(which: signal.Signals) -> None:
        told.append(which)
        heard.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, stop)
        os.kill(os.getpid(), number)
        with trio.fail_after(60):
            await heard.wait()
        nursery.cancel_scope.cancel()
    assert told == [number]


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", '''
import os, sys, time
from crier.ops.lifecycle import die_with_parent
die_with_parent(parent=int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(60)
''', str(__import__("os").getpid())])
sys.stdin.read()
"""


def test_a_child_goes_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        watched = os.pidfd_open(child)
    finally:
        parent.kill()
        parent.communicate()

    async def gone() -> None:
        with trio.fail_after(60):
            await trio.lowlevel.wait_readable(watched)

    try:
        trio.run(gone)
    finally:
        os.close(watched)


def test_a_parent_that_went_already_is_noticed() -> None:
    script = "from crier.ops.lifecycle import die_with_parent; die_with_parent(parent=1 << 22)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
