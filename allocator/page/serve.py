"""The status page over HTTP: gathered when somebody asks, at most every `FRESH` seconds, for all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import trio

from allocator.page import html
from crier.inspect.gather import Gatherer, Wish
from crier.inspect.overview import Overview, overview
from crier.inspect.reach import Reach, Via
from crier.kube.client import Api
from crier.kube.errors import ApiError
from crier.ops.http import Handler, Response

FRESH: Final = 2.0
PATIENCE: Final = 3.0
"""Seconds a speaker has to answer, so that one that is dead does not cost the page."""
WISH: Final = Wish(
    kinds=frozenset(
        {
            "services", "ipaddresspools", "servicel2statuses", "servicebgpstatuses", "configurationstates",
            "events",
        }
    ),
    events="involvedObject.kind=Service",
)  # fmt: skip
"""Nodes and endpoints are none of the controller's business, so it may not list them."""


class StatusPage:
    """`/` and `/page.json`."""

    def __init__(self, api: Api, namespace: str, version: str) -> None:
        self._api = api
        self._namespace = namespace
        self._version = version
        self._reach = Reach(api, namespace, Via.NODE, PATIENCE)
        self._looking = trio.Lock()
        self._found: Overview | None = None
        self._found_at = -FRESH

    def routes(self) -> dict[str, Handler]:
        return {"/": self.show, "/page.json": self.document}

    async def show(self) -> Response:
        return await self._answer(self._as_page)

    async def document(self) -> Response:
        return await self._answer(_as_json)

    async def _answer(self, form: Callable[[Overview], Response]) -> Response:
        refusal = Response.text("", 503)
        try:
            return form(await self._look())
        except* ApiError as problems:
            refusal = Response.text(f"the Kubernetes API could not be asked: {problems.exceptions[0]}\n", 503)
        return refusal

    def _as_page(self, found: Overview) -> Response:
        text = html.page(found, self._version)
        return Response(200, text.encode(), "text/html; charset=utf-8", html.headers())

    async def _look(self) -> Overview:
        async with self._looking:
            if self._found is None or trio.current_time() - self._found_at >= FRESH:
                picture = await Gatherer(self._api, self._namespace, self._reach).gather(WISH)
                self._found, self._found_at = overview(picture), trio.current_time()
            return self._found


def _as_json(found: Overview) -> Response:
    return Response.json({"apiVersion": "crier.dev/v1", "kind": "Status", **msgspec.to_builtins(found)})
