"""Peers on demand, and the stage on which the scenarios of one file are played."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.interop.gobuild import MODULE_FILES, cache_directory, go_peer
from tests.interop.peer import PYTHON_PEER
from tests.interop.serf import serf_program
from tests.interop.stage import Programs, Scene, Stage
from tests.places import alone_in


@pytest.fixture(scope="session")
def programs(progress: Callable[[str], None]) -> Programs:
    """Kind of member -> the command that runs one, or the reason why there is none here."""
    programs = Programs({"python": PYTHON_PEER})
    with alone_in(cache_directory()):
        for version in MODULE_FILES:
            programs.find(version, partial(go_peer, version, progress))
        programs.find("serf", partial(serf_program, progress))
    return programs


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, programs: Programs) -> Iterator[Stage]:
    found = [
        item.callspec.params["scene"]
        for item in request.session.items
        if item.path == request.path
        and isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and "scene" in item.callspec.params
    ]
    wanted = [scene for scene in found if isinstance(scene, Scene)]
    stage = Stage(programs, wanted)
    yield stage
    stage.close()
