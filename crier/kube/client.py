"""Requests to the Kubernetes API, from trio."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

import msgspec
import trio

from crier.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    TooManyRequests,
    Unavailable,
    unavailable,
)
from crier.kube.resources import Resource
from crier.kube.transport import NoCluster, Transport, load_configuration, plain_configuration

__all__ = [
    "AlreadyExists",
    "Api",
    "ApiError",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "NoCluster",
    "NotFound",
    "Page",
    "PatchType",
    "TooManyRequests",
    "Unavailable",
]

T = TypeVar("T")

REQUEST_TIMEOUT: Final = 10.0
MAX_CONCURRENT: Final = 16
"""Requests under way at once; each keeps a thread.  Watches have their own."""
PAGE: Final = 500


class PatchType(Enum):
    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"
    """Server-side apply; the body is JSON, which is YAML."""


class _ListMetaWire(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str | None = msgspec.field(default=None, name="continue")


class _ListWire(msgspec.Struct, frozen=True):
    metadata: _ListMetaWire
    items: tuple[msgspec.Raw, ...] | None = None


_DOCUMENT: Final = msgspec.json.Decoder(dict[str, Any])
_LIST: Final = msgspec.json.Decoder(_ListWire)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    items: tuple[msgspec.Raw, ...]
    """Each the JSON of one object, for a record's `decode`."""
    resource_version: str
    next_page: str
    """The continue token; "" on the last page."""


def decode_page(data: bytes) -> Page:
    """Raises `Unavailable`: what answers like this is not the API."""
    try:
        found = _LIST.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise unavailable(f"not a list: {problem}") from None
    return Page(found.items or (), found.metadata.resource_version, found.metadata.continue_ or "")


def decode_document(data: bytes) -> dict[str, Any]:
    """An object whole, to be changed and sent back.  Raises `Unavailable` when it is none."""
    try:
        return _DOCUMENT.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise unavailable(f"not an object: {problem}") from None


def page_query(limit: int, token: str, label_selector: str, field_selector: str) -> dict[str, str]:
    query = {"limit": str(limit)}
    if token:
        query["continue"] = token
    if label_selector:
        query["labelSelector"] = label_selector
    if field_selector:
        query["fieldSelector"] = field_selector
    return query


class Api:
    """The API of one cluster.  Answers are raw JSON, for a record's `decode`; bodies are what JSON can say.

    Every method raises `ApiError` in the kind that fits, `Unavailable` when there was no answer in time.
    A cancelled request is abandoned: whether it took effect is not known, as after `Unavailable`.
    """

    def __init__(self, transport: Transport, *, timeout: float = REQUEST_TIMEOUT) -> None:
        self.transport = transport
        self._timeout = timeout
        self._limiter = trio.CapacityLimiter(MAX_CONCURRENT)

    @classmethod
    def connect(cls, *, timeout: float = REQUEST_TIMEOUT, kubeconfig: str = "") -> Api:
        """Find the cluster and our credentials; nothing is sent yet.

        Raises:
            NoCluster: no configuration says where the API is.
        """
        return cls(Transport(load_configuration(kubeconfig)), timeout=timeout)

    @classmethod
    def at(cls, url: str, *, timeout: float = REQUEST_TIMEOUT) -> Api:
        """An API that asks for no credentials, such as a lab's or that of `kubectl proxy`."""
        return cls(Transport(plain_configuration(url)), timeout=timeout)

    def close(self) -> None:
        self.transport.close()

    async def get(
        self, resource: Resource, name: str, *, namespace: str | None = None, subresource: str = ""
    ) -> bytes:
        return await self._request("GET", resource.path(namespace, name, subresource))

    async def fetch(self, path: str, *, headers: Mapping[str, str], timeout: float | None = None) -> bytes:
        """GET of any path, with headers of one's own; `timeout` seconds, else the API's."""
        call = functools.partial(
            self.transport.fetch, path, headers=headers, timeout=self._timeout if timeout is None else timeout
        )
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)

    async def list_pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = PAGE,
    ) -> AsyncIterator[Page]:
        """Page by page.  `Gone` in the middle means: begin again."""
        token = ""
        while True:
            query = page_query(limit, token, label_selector, field_selector)
            page = decode_page(await self._request("GET", resource.path(namespace), query=query))
            yield page
            token = page.next_page
            if not token:
                return

    async def create(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str = "",
    ) -> bytes:
        """POST.  `name` only with a subresource."""
        return await self._request("POST", resource.path(namespace, name, subresource), body=body)

    async def replace(
        self,
        resource: Resource,
        name: str,
        body: Mapping[str, Any],
        *,
        namespace: str | None = None,
        subresource: str = "",
    ) -> bytes:
        """PUT.  A `metadata.resourceVersion` in the body makes it conditional (`Conflict`)."""
        return await self._request("PUT", resource.path(namespace, name, subresource), body=body)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Any,
        *,
        namespace: str | None = None,
        subresource: str = "",
        kind: PatchType = PatchType.MERGE,
        field_manager: str = "",
        force: bool = False,
    ) -> bytes:
        """PATCH.  `PatchType.APPLY` needs a `field_manager`; `force` takes over fields of other managers."""
        query = {}
        if field_manager:
            query["fieldManager"] = field_manager
        if force:
            query["force"] = "true"
        path = resource.path(namespace, name, subresource)
        return await self._request("PATCH", path, query=query, body=body, content_type=kind.value)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str = "",
    ) -> bytes:
        """DELETE; with `uid` only that very object (`Conflict` when another has its name now)."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}} if uid else None
        return await self._request("DELETE", resource.path(namespace, name), body=body)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What makes several calls one after the other, since a hand-over costs about as much as a call."""
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> bytes:
        """One request; blocks, so not in the trio thread."""
        encoded = None if body is None else msgspec.json.encode(body)
        return self.transport.request(
            method, path, query=query, body=encoded, content_type=content_type, timeout=self._timeout
        )

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> bytes:
        call = functools.partial(self.call, method, path, query=query, body=body, content_type=content_type)
        return await self.in_thread(call)
