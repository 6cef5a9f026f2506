"""A real API server that tests use one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

import trio

from crier.kube.client import Api
from crier.lab.kube import Kube
from crier.lab.rest import RestError

PATIENCE: Final = 60.0


def delete_all(kube: Kube, *collections: str) -> None:
    """What earlier tests have left there, but not the API's own Service.

    Pods go at once, since no kubelet will end them.  Asked again while the server is too busy to answer.
    """
    deadline = time.monotonic() + PATIENCE
    for path in collections:
        while True:
            try:
                query = "gracePeriodSeconds=0&fieldSelector=metadata.name!=kubernetes"
                kube.rest.request("DELETE", f"{path}?{query}")
                break
            except RestError as problem:
                if problem.status or time.monotonic() > deadline:
                    raise


async def at_rest(apis: Iterable[Api]) -> None:
    """Returns when none of these waits for an answer.

    A request that was given up is carried out all the same, and must not be in the next test.
    """
    with trio.fail_after(PATIENCE):
        while any(api._limiter.borrowed_tokens for api in apis):  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.01)
