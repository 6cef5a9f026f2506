"""The real reflex in a namespace, with a planner for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.speaker.lan import Station

PATIENCE: Final = 60.0
"""Seconds after which what should have happened is given up; a busy machine may need many."""

KEY: Final = "K6Yl0q5mWb2s1l9RkQ3u7A"


def until(what: Callable[[], Any], why: str) -> Any:
    """Wait for something true, and return it."""
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, f"never happened: {why}"
        time.sleep(0.01)
    return found


class Reflex:
    def __init__(
        self, station: Station, directory: Path, *, gossip: bool, environ: Mapping[str, str]
    ) -> None:
        self.station = station
        self._orders, self._reports = directory / "orders", directory / "reports"
        self._generation = 0
        self.log = directory / "log"
        keys = directory / "keys"
        keys.mkdir(exist_ok=True)
        (keys / "secretkey").write_text(KEY)
        self._environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "METALLB_NODE_NAME": station.name,
            "METALLB_POD_NAME": f"speaker-{station.name}",
            "METALLB_NAMESPACE": "metallb-system",
            "CRIER_PLANNER_COMMAND": f"{sys.executable} {Path(__file__).with_name('fake_planner.py')}"
            f" {self._orders} {self._reports}",
            "CRIER_EXCLUDE_L2_FILE": str(directory / "absent"),
            "CRIER_ML_CONFIG_FILE": str(directory / "absent"),
            **environ,
        }
        if gossip:
            self._environ |= {
                "METALLB_ML_BIND_ADDR": station.ipv4,
                "METALLB_ML_LABELS": "app=metallb",
                "METALLB_ML_SECRET_KEY_PATH": str(keys),
            }
        self.process: subprocess.Popen[bytes]

    def start(self, *, stdout: int | None = None) -> None:
        command = self.station.command(sys.executable, "-m", "speaker.reflex.app")
        root = Path(__file__).parent.parent.parent
        with self.log.open("ab") as log:
            # `ip netns exec` becomes the program, so the pid is the reflex's own
            self.process = subprocess.Popen(
                command, env=self._environ, cwd=root, stdout=stdout or log, stderr=log, start_new_session=True
            )

    def order(self, *vips: Mapping[str, Any], seeds: tuple[str, ...] = (), misbehave: str = "") -> None:
        """New standing orders; a VIP needs `address` and `candidates`."""
        self._generation += 1
        full = [{"services": ["ns/svc"], **vip} for vip in vips]
        text = {"generation": self._generation, "vips": full, "seeds": seeds, "misbehave": misbehave}
        new = self._orders.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(text))
        new.rename(self._orders)

    def reports(self, kind: str) -> list[dict[str, Any]]:
        """What came up so far, of one kind."""
        text = self._reports.read_bytes() if self._reports.exists() else b""
        lines = text.splitlines(keepends=True)
        messages = [msgspec.json.decode(line) for line in lines if line.endswith(b"\n")]
        return [message for message in messages if message["type"] == kind]

    def vip(self, address: str) -> dict[str, Any]:
        newest = self.reports("vips")[-1:]
        found = [vip for report in newest for vip in report["vips"] if vip["address"] == address]
        return found[0] if found else {"answering": False, "owner": None}

    def until_answering(self, *addresses: str) -> None:
        def all_answered() -> bool:
            return all(self.vip(address)["answering"] for address in addresses)

        until(all_answered, f"{addresses} answered by {self.station.name}")

    def happened(self, what: str) -> list[dict[str, Any]]:
        return [report for report in self.reports("happened") if report["what"] == what]

    def planner(self) -> int:
        """Process id of the planner, as soon as there is one."""

        def find() -> int:
            for pid in self.station.processes():
                try:
                    words = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                if b"fake_planner" in words and b"prctl" not in words:
                    return pid
            return 0

        found: int = until(find, "a planner")
        return found

    def resident(self) -> int:
        """KiB of memory the reflex holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def stop(self, how: signal.Signals = signal.SIGTERM) -> float:
        """End it; returns how long that took."""
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(PATIENCE)
        return time.monotonic() - began


@contextmanager
def reflex(
    station: Station,
    directory: Path,
    *,
    gossip: bool = False,
    stdout: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Reflex]:
    """Running; killed at the end, and its log shown when the test failed."""
    directory.mkdir(exist_ok=True)
    running = Reflex(station, directory, gossip=gossip, environ=environ or {})
    running.start(stdout=stdout)
    try:
        yield running
    except BaseException:
        sys.stderr.write(f"--- log of {station.name}\n{running.log.read_text()}\n")
        raise
    finally:
        running.process.kill()
        running.process.wait(PATIENCE)
        if running.process.stdout is not None:
            running.process.stdout.close()
