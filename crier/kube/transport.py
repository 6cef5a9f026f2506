"""Octets to the API and fro.  Everything here blocks and belongs in a worker thread."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlencode

import urllib3

from crier.kube.access import SERVICE_HOST, Access, InCluster, NoCluster, NoCredentials, Plain, is_proxied
from crier.kube.errors import ApiError, api_error, unavailable

__all__ = ["NoCluster", "Stream", "Transport", "load_configuration", "plain_configuration"]

MAX_RESPONSE: Final = 128 * 1024 * 1024
"""Octets of one answer.  A page of 500 large objects is a few MiB."""
MAX_LINE: Final = 16 * 1024 * 1024
"""Octets of one watch event."""
CONNECT_TIMEOUT: Final = 5.0
_CHUNK: Final = 256 * 1024


def load_configuration(file: str = "") -> Access:
    """The kubeconfig given, else KUBECONFIG, else the pod's service account, else the user's own kubeconfig.

    Raises:
        NoCluster: none of them can be used; the text names the one that was tried.
    """
    given = file or os.environ.get("KUBECONFIG")
    in_cluster = not given and bool(os.environ.get(SERVICE_HOST))
    named = f"--kubeconfig {given}" if file else f"KUBECONFIG={given}"
    tried = named if given else "the pod's service account" if in_cluster else "kubeconfig"
    try:
        if in_cluster and not is_proxied(os.environ):
            return InCluster()
        from crier.kube import kubeconfig  # it takes long, and pods have no use for it

        return kubeconfig.from_service_account() if in_cluster else kubeconfig.from_kubeconfig(given)
    except NoCluster as problem:
        raise NoCluster(f"no Kubernetes API from {tried}: {problem}") from problem


def plain_configuration(url: str) -> Access:
    """No credentials at all, only a place."""
    return Plain(url)


class Transport:
    """One API server.  Thread-safe."""

    def __init__(self, access: Access) -> None:
        self.host = access.host
        self._access = access
        self._pool = access.open_pool()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: float,
    ) -> bytes:
        """One request, one answer.  `timeout` bounds each wait for octets, in seconds.

        Raises:
            ApiError: in the kind that fits.
        """
        return self._read(method, path, self._send(method, path, query, body, content_type, timeout))

    @staticmethod
    def _read(method: str, path: str, response: urllib3.response.BaseHTTPResponse) -> bytes:
        try:
            data = response.read(MAX_RESPONSE + 1)
        except urllib3.exceptions.HTTPError as problem:
            response.close()
            raise unavailable(f"{method} {path}: {problem}") from problem
        if len(data) > MAX_RESPONSE:
            response.close()
            raise ApiError(response.status, "TooLarge", f"{method} {path}: more than {MAX_RESPONSE} octets")
        response.release_conn()
        if response.status >= 300:
            raise api_error(response.status, data, response.headers.get("Retry-After"))
        return data

    def fetch(self, path: str, *, headers: Mapping[str, str], timeout: float) -> bytes:
        """GET with headers of one's own, such as a pod behind the API's proxy needs.  Raises `ApiError`."""
        return self._read("GET", path, self._send("GET", path, None, None, "", timeout, headers))

    def stream(self, path: str, *, query: Mapping[str, str], timeout: float) -> Stream:
        """Open a watch.  Raises `ApiError`."""
        response = self._send("GET", path, query, None, "", timeout)
        if response.status >= 300:
            try:
                data = response.read(_CHUNK)
            except urllib3.exceptions.HTTPError:
                data = b""
            response.close()
            raise api_error(response.status, data, response.headers.get("Retry-After"))
        return Stream(response)

    def close(self) -> None:
        self._pool.clear()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        content_type: str,
        timeout: float,
        extra: Mapping[str, str] | None = None,
    ) -> urllib3.response.BaseHTTPResponse:
        url = self.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            headers = {
                "Accept": "application/json",
                "User-Agent": "crier",
                **self._access.credentials(),
                **(extra or {}),
            }
            if body is not None:
                headers["Content-Type"] = content_type
            return self._pool.request(
                method,
                url,
                headers=headers,
                body=body,
                preload_content=False,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT, timeout), read=timeout),
            )
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            raise unavailable(f"{method} {path}: {problem}") from problem
        except NoCredentials as problem:  # a token file that is away for the moment
            raise unavailable(f"{method} {path}: credentials: {problem}") from problem


class Stream:
    """The lines of a watch."""

    def __init__(self, response: urllib3.response.BaseHTTPResponse) -> None:
        self._response = response

    def batches(self) -> Iterator[list[bytes]]:
        """All whole lines that are there, as soon as there is one.

        Raises:
            ApiError: the connection broke, stayed silent for too long, or a line is longer than `MAX_LINE`.
        """
        rest = bytearray()
        while True:
            try:
                chunk = self._response.read1(_CHUNK)
            except (urllib3.exceptions.HTTPError, OSError) as problem:
                raise unavailable(f"watch: {problem}") from problem
            if not chunk:
                return
            rest += chunk
            end = rest.rfind(b"\n")
            if end < 0:
                if len(rest) > MAX_LINE:
                    raise unavailable(f"watch: an event of more than {MAX_LINE} octets")
                continue
            lines = [line for line in bytes(rest[:end]).split(b"\n") if line]
            del rest[: end + 1]
            if lines:
                yield lines

    def close(self) -> None:
        """Done with it; from the thread that reads."""
        self._response.close()

    def abort(self) -> None:
        """From any other thread: whoever waits in `batches` finds the end of the stream."""
        with contextlib.suppress(ValueError, RuntimeError, OSError):  # when it ended by itself just now
            self._response.shutdown()
