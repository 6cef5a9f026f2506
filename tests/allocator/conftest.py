"""An API server of each kind for what does not ask for faults that only the embedded one has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeAlias

import pytest

from tests.allocator.clusters import Cluster, open_cluster, open_real

Opened: TypeAlias = Callable[[], AbstractAsyncContextManager[Cluster]]


@pytest.fixture(params=["embedded", "kube"])
def opened(request: pytest.FixtureRequest) -> Opened:
    """Opens a cluster with nothing in it; on a real server controllers are their service account."""
    if request.param == "embedded":
        return open_cluster
    return partial(open_real, *request.getfixturevalue("real"))
