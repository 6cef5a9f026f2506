"""An API server of each kind, and what the contract tests need to speak to it."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from crier.lab.api import start_api_process

KINDS = ("embedded",)
"""Kinds of API server the contract holds for; one more is one more context manager below."""

_new_client: Any = config.new_client_from_config  # the package has no types of its own here

_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(slots=True)
class ApiServer:
    """A running API server of any kind, reached through its kubeconfig alone."""

    kubeconfig: Path
    has_controllers: bool
    """Whether somebody collects garbage and empties namespaces."""
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        self.client = _new_client(str(self.kubeconfig))

    @property
    def core(self) -> Any:
        """The official client's core group.  `Any`, because its fields are all optional to mypy."""
        return client.CoreV1Api(self.client)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """A request as it stands; a body that is not octets is sent as JSON."""
        configuration = self.client.configuration
        headers = {"Accept": accept, "Content-Type": content_type}
        if token := configuration.get_api_key_with_prefix("authorization"):
            headers["Authorization"] = token
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        pool = self.client.rest_client.pool_manager
        reply = pool.request(
            method, configuration.host + path, body=data, headers=headers, retries=False, timeout=30
        )
        return Answer(reply.status, reply.headers, reply.data.decode())

    def watch(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """The events of a watch until it ends by itself (give timeoutSeconds)."""
        text = "&".join(f"{name}={value}" for name, value in {"watch": "true", **query}.items())
        answer = self.call("GET", f"{path}?{text}")
        assert answer.status == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def kubectl(
        self, *arguments: str, stdin: str = "", check: bool = True, program: str = "kubectl"
    ) -> subprocess.CompletedProcess[str]:
        command = [program, f"--kubeconfig={self.kubeconfig}", *arguments]
        # a home of its own: kubectl keeps discovery on disk, by host and port, and ports come again
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.kubeconfig.parent),
            "EDITOR": "true",
        }
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=60, env=environment
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done


@contextmanager
def _embedded() -> Iterator[ApiServer]:
    with start_api_process("--metallb-crds", "--seed", "1") as process:
        yield ApiServer(process.kubeconfig, has_controllers=True)


_STARTERS = {"embedded": _embedded}


@pytest.fixture(scope="session", params=KINDS)
def api_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """A server that all contract tests of a run share: each works in a namespace of its own."""
    with _STARTERS[request.param]() as server:
        yield server
        server.client.close()


@pytest.fixture
def namespace(api_server: ApiServer) -> Iterator[str]:
    """A fresh namespace."""
    name = f"t{next(_serial)}"
    answer = api_server.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert answer.status == 201, answer.text
    yield name
    api_server.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def kubectl_program() -> str:
    program = shutil.which("kubectl")
    assert program is not None, "kubectl is part of the setup"
    return program
