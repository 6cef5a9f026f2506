from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from crier.lab.errors import NotPossible
from crier.lab.kube import Kube, Programs, programs, start_kube
from crier.lab.kube.install import Accounts, install

# a busy machine is no failure of ours
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Asked to end, as by `timeout`, we tidy up as after Ctrl-C: no program and no namespace stays behind.

    A shell's background jobs, and what they start, are born deaf to Ctrl-C; tests and programs are not.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


@pytest.fixture(scope="session")
def progress(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says a line to whoever watches the tests."""
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        if reporter is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(line)

    return say


@pytest.fixture(scope="session")
def kube_programs(progress: Callable[[str], None]) -> Programs:
    """What a real API server needs, built if need be; without it everything that asks for one is skipped."""
    try:
        return programs(progress)
    except NotPossible as missing:
        pytest.skip(f"no real kube-apiserver: {missing}")


@pytest.fixture(scope="module")
def real(kube_programs: Programs) -> Iterator[tuple[Kube, Accounts]]:
    """A real API server with our manifests, which the tests of a file use one after the other."""
    with start_kube(kube_programs) as kube:
        yield kube, install(kube)
