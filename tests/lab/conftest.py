"""An API server of each kind, and what the contract tests need to speak to it."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from kubernetes import client, config

from crier.lab.api import start_api_process
from crier.lab.kube import Kube, Programs, start_kube
from crier.lab.kube.install import Accounts, install, install_crds

KINDS = ("embedded", "kube")
"""Kinds of API server the contract holds for; one more is one more starter below."""

_new_client: Any = config.new_client_from_config  # the package has no types of its own here

_serial = itertools.count(1)

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds until a test gives up; what it waits for takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def eventually(look: Callable[[], T], right: Callable[[T], object] = bool) -> T:
    """What `look` finds, once it is right: a real server does some things after it has answered."""
    deadline = time.monotonic() + PATIENCE
    while not right(found := look()):
        assert time.monotonic() < deadline, f"still {found!r}"
        time.sleep(0.02)
    return found


@dataclass(slots=True)
class ApiServer:
    """A running API server of any kind, reached through its kubeconfig alone."""

    kubeconfig: Path
    kubectl_program: str
    embedded: bool
    """Ours, which also does what controllers do: collects garbage, empties namespaces."""
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
        for credential in configuration.auth_settings().values():
            headers[credential["key"]] = credential["value"]
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        pool = self.client.rest_client.pool_manager
        reply = pool.request(
            method, configuration.host + path, body=data, headers=headers, retries=False, timeout=PATIENCE
        )
        return Answer(reply.status, reply.headers, reply.data.decode())

    def watch(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """The events of a watch until it ends by itself (give timeoutSeconds)."""
        text = "&".join(f"{name}={value}" for name, value in {"watch": "true", **query}.items())
        answer = self.call("GET", f"{path}?{text}")
        assert answer.status == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def kubectl(
        self, *arguments: str, stdin: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command = [self.kubectl_program, f"--kubeconfig={self.kubeconfig}", *arguments]
        # a home of its own: kubectl keeps discovery on disk, by host and port, and ports come again
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.kubeconfig.parent),
            "EDITOR": "true",
        }
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=PATIENCE, env=environment
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done


@contextmanager
def _embedded() -> Iterator[ApiServer]:
    kubectl = shutil.which("kubectl")
    assert kubectl is not None, "kubectl is part of the setup"
    with start_api_process("--metallb-crds", "--seed", "1") as process:
        yield ApiServer(process.kubeconfig, kubectl, embedded=True)


@contextmanager
def _kube(found: Programs) -> Iterator[ApiServer]:
    with start_kube(found) as kube:
        install_crds(kube)
        yield ApiServer(kube.kubeconfig, str(found.kubectl), embedded=False)


def _starter(kind: str, request: pytest.FixtureRequest) -> AbstractContextManager[ApiServer]:
    return _embedded() if kind == "embedded" else _kube(request.getfixturevalue("kube_programs"))


@pytest.fixture(scope="session", params=KINDS)
def api_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """A server that all contract tests of a run share: each works in a namespace of its own."""
    with _starter(request.param, request) as server:
        yield server
        server.client.close()


@pytest.fixture
def controllers(api_server: ApiServer) -> None:
    """For tests of what controllers do, which the real server runs none of."""
    if not api_server.embedded:
        pytest.skip("this is done by kube-controller-manager, which the lab does not run")


@pytest.fixture
def namespace(api_server: ApiServer) -> Iterator[str]:
    """A fresh namespace."""
    name = f"t{next(_serial)}"
    answer = api_server.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert answer.status == 201, answer.text
    yield name
    api_server.call("DELETE", f"/api/v1/namespaces/{name}")


# Beside the contract's server there is one with all our manifests, where the programs run as what they are.


@pytest.fixture(scope="session")
def kube(kube_programs: Programs) -> Iterator[Kube]:
    """A real API server that writes down every request (see `Kube.requests`)."""
    with start_kube(kube_programs, audit=True) as kube:
        yield kube


@pytest.fixture(scope="session")
def accounts(kube: Kube) -> Accounts:
    """The service accounts of manifests/base, which is applied."""
    return install(kube)


@pytest.fixture(scope="session")
def system(kube: Kube, accounts: Accounts) -> Iterator[ApiServer]:
    """That server as its administrator sees it."""
    assert accounts.speaker.exists()
    server = ApiServer(kube.kubeconfig, str(kube.programs.kubectl), embedded=False)
    yield server
    server.client.close()
