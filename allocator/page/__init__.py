"""The status page.  It is loaded when somebody looks for the first time: it is a fifth of what the
controller would have to load at every start."""

from __future__ import annotations

import functools

from crier.kube.client import Api
from crier.ops.http import Handler, Response


def routes(api: Api, namespace: str, version: str) -> dict[str, Handler]:
    """`/` and `/page.json`."""

    @functools.cache
    def loaded() -> dict[str, Handler]:
        from allocator.page.serve import StatusPage

        return StatusPage(api, namespace, version).routes()

    async def answer(path: str) -> Response:
        found = loaded()[path]()
        return found if isinstance(found, Response) else await found

    return {path: functools.partial(answer, path) for path in ("/", "/page.json")}
