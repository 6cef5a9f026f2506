"""`python -m speaker.planner` as a process, with the test for a reflex."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crier.lab.api.process import start_api_process
from speaker import orders
from speaker.orders import Hello, Orders
from tests.places import free_port
from tests.speaker.planner.lab import PATIENCE

ENVIRON = {
    "METALLB_NODE_NAME": "iris1",
    "METALLB_POD_NAME": "speaker-iris1",
    "METALLB_NAMESPACE": "metallb-system",
    "METALLB_ML_BIND_ADDR": "192.0.2.1",
    "METALLB_ML_LABELS": "app=metallb",
}
HELLO = Hello(orders.PROTOCOL, "iris1", 3, True, 1)


class Planner:
    def __init__(self, process: subprocess.Popen[str], reflex: socket.socket) -> None:
        self.process = process
        self.reflex = reflex

    def receive(self) -> orders.Down | orders.Up:
        header = self._take(orders.HEADER)
        return orders.decode(self._take(orders.frame_length(header)))

    def _take(self, size: int) -> bytes:
        taken = b""
        while len(taken) < size:
            part = self.reflex.recv(size - len(taken))
            assert part, "the planner went away"
            taken += part
        return taken

    def ends(self) -> tuple[int, list[dict[str, object]], str]:
        """Exit status, log lines, standard error."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, [json.loads(line) for line in output.splitlines()], errors


@contextmanager
def planner(kubeconfig: Path | None, **environ: str) -> Iterator[Planner]:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    with ours, theirs:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "speaker.planner",
                f"--health-probe-port={free_port()}",
                f"--port={free_port()}",
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/nonexistent",
                "CRIER_REFLEX_FD": str(theirs.fileno()),
                **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}),
                **ENVIRON,
                **environ,
            },
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        try:
            yield Planner(process, ours)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


@contextmanager
def working_planner() -> Iterator[Planner]:
    with start_api_process("--metallb-crds") as api, planner(api.kubeconfig) as found:
        found.reflex.sendall(orders.encode(HELLO))
        while not isinstance(found.receive(), Orders):
            pass
        yield found


def test_it_ends_with_its_reflex() -> None:
    with working_planner() as found:
        found.reflex.close()
        status, lines, errors = found.ends()
    assert (status, errors) == (0, "")
    assert lines[-1]["event"] == "reflex_gone"
    assert all({"ts", "level", "caller", "event"} <= line.keys() for line in lines)


def test_it_ends_when_told() -> None:
    with working_planner() as found:
        found.process.send_signal(signal.SIGTERM)
        assert found.ends()[0] == 0


def test_a_terminals_interrupt_is_the_reflexs_business() -> None:
    with working_planner() as found:
        found.process.send_signal(signal.SIGINT)
        found.process.send_signal(signal.SIGQUIT)
        found.process.send_signal(signal.SIGTERM)
        assert found.ends()[0] == 0


def test_it_ends_with_its_reflex_also_when_the_api_answers_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kubeconfig = tmp_path / "kubeconfig"
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "x", "cluster": {"server": server}}],
                    "users": [{"name": "x", "user": {}}],
                    "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
                    "current-context": "x",
                }
            )
        )
        with planner(kubeconfig) as found:
            found.reflex.sendall(orders.encode(HELLO))
            silent.settimeout(PATIENCE)
            connection, _ = silent.accept()
            with connection:
                found.reflex.close()
                assert found.ends()[0] == 0


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"CRIER_REFLEX_FD": ""},
            "speaker.planner: CRIER_REFLEX_FD: not set; crier-speaker starts this program\n",
        ),
        (
            {"METALLB_NODE_NAME": ""},
            "crier-speaker: --node-name (or METALLB_NODE_NAME): required, and not given\n",
        ),
    ],
)
def test_bad_settings_are_one_line_and_status_2(environ: dict[str, str], message: str) -> None:
    with planner(None, **environ) as found:
        status, lines, errors = found.ends()
    assert (status, lines, errors) == (2, [], message)


@pytest.mark.parametrize(
    "octets",
    [
        b"\xff" * 64,
        orders.encode(Hello(orders.PROTOCOL + 1, "iris1", 0, True, 1)),
        orders.encode(Hello(orders.PROTOCOL, "iris2", 0, True, 1)),
    ],
    ids=["noise", "another protocol", "another node"],
)
def test_a_reflex_that_is_not_understood_is_an_error(octets: bytes) -> None:
    with planner(None) as found:
        found.reflex.sendall(octets)
        status, lines, errors = found.ends()
    assert (status, errors) == (1, "")
    assert lines[-1]["event"] == "planner_failed"
    assert str(lines[-1]["error"]).startswith("BadOrder: ")


def test_without_a_cluster_it_says_so() -> None:
    with planner(None) as found:
        found.reflex.sendall(orders.encode(HELLO))
        status, lines, _ = found.ends()
    assert status == 1
    assert str(lines[-1]["error"]).startswith("NoCluster: ")
