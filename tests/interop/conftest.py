"""Peers on demand, and the stage on which this session's scenarios are played."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.interop.gobuild import MODULE_FILES, CannotBuildError, go_peer
from tests.interop.peer import PYTHON_PEER
from tests.interop.stage import Scene, Stage


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
def programs(progress: Callable[[str], None]) -> dict[str, Sequence[str]]:
    """Kind of member -> the command that runs one."""
    try:
        found: dict[str, Sequence[str]] = {
            version: [str(go_peer(version, progress))] for version in MODULE_FILES
        }
    except CannotBuildError as error:
        pytest.skip(str(error))
    return {**found, "python": PYTHON_PEER}


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest, programs: dict[str, Sequence[str]]) -> Iterator[Stage]:
    found = [
        item.callspec.params["scene"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and "scene" in item.callspec.params
    ]
    wanted = [scene for scene in found if isinstance(scene, Scene)]
    stage = Stage(programs, wanted)
    yield stage
    stage.close()
