from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.routed.stage import Stage, keep_logs, open_stage


@pytest.fixture(scope="package")
def shared_stage() -> Iterator[Stage]:
    with open_stage() as found:
        yield found


@pytest.fixture
def stage(shared_stage: Stage, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The same for all tests, as it was at first for each."""
    failed = request.session.testsfailed
    yield shared_stage
    if request.session.testsfailed != failed:
        keep_logs(shared_stage.run)
    shared_stage.clear()
