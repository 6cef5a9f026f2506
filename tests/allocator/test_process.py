"""The whole program as a process: what it says, what it answers, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crier.lab.api import start_api_process
from tests.allocator.clusters import clear
from tests.places import free_port

PATIENCE = 60.0
ENVIRON = {"METALLB_NAMESPACE": "metallb-system", "METALLB_POD_NAME": "controller-0"}


class Program:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def until(self, event: str, **fields: object) -> dict[str, Any]:
        """The first log line from here on with that event and those fields."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line: dict[str, Any] = json.loads(text)
            if line["event"] == event and fields.items() <= line.items():
                return line
        raise AssertionError(f"it ended without {event}")

    def ask(self, path: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
            return bytes(answer.read())

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def program(kubeconfig: Path | None, *arguments: str, **environ: str) -> Iterator[Program]:
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "allocator.app", f"--health-probe-port={port}"),
            *("--health-bind-address=127.0.0.1", f"--port={free_port()}", "--leader-elect"),
            *("--webhook-mode=disabled", *arguments),
        ],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}),
            **ENVIRON,
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Program(process, port)
    finally:
        process.kill()
        process.communicate()


def kubectl(kubeconfig: Path, *arguments: str, manifest: object = None) -> str:
    command = ["kubectl", f"--kubeconfig={kubeconfig}", *arguments, *(["-f", "-"] if manifest else [])]
    done = subprocess.run(
        command, input=json.dumps(manifest), capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    return done.stdout


POOL = {
    "apiVersion": "metallb.io/v1beta1",
    "kind": "IPAddressPool",
    "metadata": {"name": "one", "namespace": "metallb-system"},
    "spec": {"addresses": ["192.0.2.0/30"]},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
}


@dataclass(frozen=True)
class Server:
    """An API server with nothing in it but our namespace."""

    kubeconfig: Path
    """Ours, who may do everything."""
    account: Path
    """The controller's."""


@pytest.fixture(params=["embedded", "kube"])
def api(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "kube":
        kube, accounts = request.getfixturevalue("real")
        clear(kube)
        yield Server(kube.kubeconfig, accounts.controller)
        return
    with start_api_process("--metallb-crds") as server:
        kubectl(server.kubeconfig, "create", "namespace", "metallb-system")
        yield Server(server.kubeconfig, server.kubeconfig)


@pytest.mark.e2e
def test_from_start_to_end(api: Server) -> None:
    with program(api.account, METALLB_ML_SECRET_NAME="memberlist") as running:
        running.until("started")
        assert running.ask("/healthz") == running.ask("/readyz") == b"ok"
        kubectl(api.kubeconfig, "apply", manifest=POOL)
        kubectl(api.kubeconfig, "apply", manifest=SERVICE)
        running.until("service_written", service="default/web")
        document = json.loads(running.ask("/status"))
        assert document["synced"] is True
        assert document["pools"] == [{"name": "one", "assigned": 1, "available": 3}]
        assert document["services"] == [{"name": "default/web", "addresses": ["192.0.2.0"], "pool": "one"}]
        metrics = running.ask("/metrics").decode().splitlines()
        assert 'metallb_allocator_addresses_in_use_total{pool="one"} 1' in metrics
        assert 'metallb_allocator_addresses_total{pool="one"} 4' in metrics
        assert 'metallb_allocator_ipv6_addresses_total{pool="one"} 0' in metrics
        assert "metallb_k8s_client_config_loaded_bool 1" in metrics
        assert "metallb_k8s_client_config_stale_bool 0" in metrics
        secret = ("get", "secret", "-n", "metallb-system", "memberlist", "--ignore-not-found", "-o", "name")
        deadline = time.monotonic() + PATIENCE
        while kubectl(api.kubeconfig, *secret).strip() != "secret/memberlist":
            assert time.monotonic() < deadline, "made beside all else"
        assert running.end(signal.SIGTERM) == 0
    web = json.loads(kubectl(api.kubeconfig, "get", "service", "web", "-o", "json"))
    assert [entry["ip"] for entry in web["status"]["loadBalancer"]["ingress"]] == ["192.0.2.0"]


def ips(kubeconfig: Path, name: str) -> list[str]:
    found = json.loads(kubectl(kubeconfig, "get", "service", name, "-o", "json"))
    return [entry["ip"] for entry in found["status"].get("loadBalancer", {}).get("ingress", ())]


def named(name: str) -> dict[str, Any]:
    return {**SERVICE, "metadata": {"name": name, "namespace": "default"}}


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_one_takes_over(api: Server, number: signal.Signals) -> None:
    """The leader is killed, or stopped, while a service waits: the other one serves it."""
    kubectl(api.kubeconfig, "apply", manifest=POOL)
    with program(api.account) as one:
        one.until("started")
        with program(api.account, METALLB_POD_NAME="controller-1") as two:
            two.until("starting")
            kubectl(api.kubeconfig, "apply", manifest=named("before"))
            one.until("service_written", service="default/before")
            standby = json.loads(two.ask("/status"))
            assert (standby["leading"], standby["synced"]) == (False, False)
            assert json.loads(one.ask("/status"))["leading"] is True
            metrics = two.ask("/metrics").decode()
            assert "crier_controller_leading 0" in metrics
            assert "config_loaded" not in metrics, "or its alert would be about who stands by"
            one.end(number)
            kubectl(api.kubeconfig, "apply", manifest=named("after"))
            two.until("leading")
            two.until("service_written", service="default/after")
            taken = json.loads(two.ask("/status"))
            assert taken["leading"] is True
            assert taken["leader"].startswith("controller-1_")
            assert (ips(api.kubeconfig, "before"), ips(api.kubeconfig, "after")) == (
                ["192.0.2.0"],
                ["192.0.2.1"],
            )


@pytest.mark.e2e
def test_a_leader_that_cannot_renew_begins_anew(api: Server) -> None:
    """Somebody else has the lease: it stops writing, becomes a fresh process, and stands by."""
    kubectl(api.kubeconfig, "apply", manifest=POOL)
    with program(api.account) as running:
        running.until("started")
        lease = ("lease", "-n", "metallb-system", "crier-controller")
        thief = json.dumps({"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 6}})
        kubectl(api.kubeconfig, "patch", *lease, "--type=merge", "-p", thief)
        lost = running.until("leadership_lost")
        assert lost["why"] == "thief has the lease"
        running.until("starting")
        kubectl(api.kubeconfig, "apply", manifest=SERVICE)
        assert running.until("leading")["identity"] == lost["identity"], "the same process"
        running.until("service_written", service="default/web")
        assert running.end(signal.SIGTERM) == 0
    found = json.loads(kubectl(api.kubeconfig, "get", *lease, "-o", "json"))
    assert found["spec"]["holderIdentity"] == "", "given back"


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_also_without_an_api(number: signal.Signals, tmp_path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    with program(tmp_path / "config") as running:
        running.until("lease_not_reached")
        assert running.ask("/healthz") == b"ok"
        assert json.loads(running.ask("/status"))["synced"] is False
        assert running.end(number) == 0


@pytest.mark.e2e
def test_bad_settings_and_no_cluster() -> None:
    with program(None, "--log-level=loud") as running:
        _, errors = running.process.communicate(timeout=PATIENCE)
        assert (running.process.returncode, errors.count("\n")) == (2, 1)
        assert errors.startswith("crier-controller: --log-level: 'loud' is not one of")
    with program(Path("/nonexistent/config")) as running:
        _, errors = running.process.communicate(timeout=PATIENCE)
        assert running.process.returncode == 1
        assert errors.startswith("crier-controller: no Kubernetes API from KUBECONFIG=/nonexistent/config")
        assert errors.count("\n") == 1
