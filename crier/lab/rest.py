"""A client for the lab's Kubernetes API, of either kind: HTTP or HTTPS, JSON, list and watch.

The programs under test talk to the API through `crier.kube`; this is for what the lab plays itself (kubelet,
kube-proxy, the user), where a process has to start in milliseconds.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote, urlsplit

from crier.lab.errors import LabError

Object: TypeAlias = dict[str, Any]

REQUEST_TIMEOUT: Final = 5.0
WATCH_SILENCE: Final = 300.0
"""Seconds without a line after which a watch is opened anew."""
MAX_LINE: Final = 4 * 1024 * 1024
RECONNECT_PAUSE: Final = 0.2


class RestError(LabError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Rest:
    """One API server, e.g. `http://172.30.0.2:6443`."""

    def __init__(self, server: str, *, tls: ssl.SSLContext | None = None, token: str = "") -> None:
        parts = urlsplit(server)
        scheme = "http" if tls is None else "https"
        if parts.scheme != scheme or parts.hostname is None or parts.port is None:
            raise LabError(f"API server {server!r}: expected {scheme}://ADDRESS:PORT")
        self._host, self._port = parts.hostname, parts.port
        self._tls = tls
        self._credentials = {"Authorization": f"Bearer {token}"} if token else {}

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Rest:
        """The server and the user of a kubeconfig that the lab wrote: JSON, and one of each."""
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
            authority = cluster.get("certificate-authority-data")
            tls = authority and ssl.create_default_context(cadata=base64.b64decode(authority).decode())
            return cls(cluster["server"], tls=tls or None, token=user.get("token", ""))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as problem:
            raise LabError(f"kubeconfig {path}: {problem!r}") from None

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def request(self, method: str, path: str, body: Object | None = None, *, kind: str = "json") -> Object:
        """One request.  Raises RestError with the API's own message when it refuses or cannot be reached."""
        connection = self._connect(REQUEST_TIMEOUT)
        try:
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={
                    "Content-Type": f"application/{kind}",
                    "Accept": "application/json",
                    **self._credentials,
                },
            )
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as problem:
            raise RestError(0, f"{method} {path}: {problem or type(problem).__name__}") from None
        finally:
            connection.close()
        try:
            document = json.loads(answer) if answer else {}
        except ValueError:
            document = {}
        if response.status >= 400:
            message = document.get("message", "") if isinstance(document, dict) else ""
            raise RestError(response.status, f"{method} {path}: {response.status} {message}")
        return document if isinstance(document, dict) else {}

    def get(self, path: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return self.request("GET", path)
        except RestError as problem:
            if problem.status == 404:
                return None
            raise

    def create(self, collection: str, thing: Object) -> Object:
        return self.request("POST", collection, thing)

    def merge(self, path: str, change: Mapping[str, Any]) -> Object:
        """A JSON merge patch (RFC 7386)."""
        return self.request("PATCH", path, dict(change), kind="merge-patch+json")

    def delete(self, path: str) -> None:
        with suppress(RestError):
            self.request("DELETE", path)

    def watch(self, collection: str) -> Iterator[dict[str, Object]]:
        """The collection's objects by `namespace/name`, again whenever they change; reconnects for ever."""
        while True:
            try:
                yield from self._watch_once(collection)
            except (OSError, http.client.HTTPException, ValueError, KeyError, RestError):
                time.sleep(RECONNECT_PAUSE)  # the API is away or our version is too old: list again

    def _watch_once(self, collection: str) -> Iterator[dict[str, Object]]:
        listing = self.request("GET", collection)
        objects = {key_of(thing): thing for thing in listing["items"]}
        yield dict(objects)
        version = quote(str(listing["metadata"]["resourceVersion"]))
        connection = self._connect(WATCH_SILENCE)
        try:
            connection.request(
                "GET",
                f"{collection}?watch=1&allowWatchBookmarks=true&resourceVersion={version}",
                headers=self._credentials,
            )
            response = connection.getresponse()
            if response.status != 200:
                raise RestError(response.status, f"watch {collection}: {response.status}")
            while line := response.readline(MAX_LINE):
                event = json.loads(line)
                match event["type"]:
                    case "ADDED" | "MODIFIED":
                        objects[key_of(event["object"])] = event["object"]
                        yield dict(objects)
                    case "DELETED":
                        objects.pop(key_of(event["object"]), None)
                        yield dict(objects)
                    case "ERROR":
                        return
        finally:
            connection.close()


def key_of(thing: Mapping[str, Any]) -> str:
    metadata = thing["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"
