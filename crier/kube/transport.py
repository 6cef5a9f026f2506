"""Where the API is, who we are there, and octets to and fro: the part done by the official client.

Of `kubernetes` only the configuration loaders and the connection pool they configure are used: certificates,
proxies, tokens that rotate, exec plugins.  Its model classes are never imported (they load on demand).
Everything here blocks and belongs in a worker thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import urllib3
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import (
    SERVICE_HOST_ENV_NAME,
    load_incluster_config,
)

from crier.kube.errors import ApiError, api_error, unavailable

MAX_RESPONSE: Final = 128 * 1024 * 1024
"""Octets of one answer.  A page of 500 large objects is a few MiB."""
MAX_LINE: Final = 16 * 1024 * 1024
"""Octets of one watch event."""
CONNECT_TIMEOUT: Final = 5.0
POOL_SIZE: Final = 32
_CHUNK: Final = 256 * 1024

# A peer that vanished without a word is noticed by the kernel after 10 + 3 * 5 s on a silent connection, and
# after 20 s when data of ours stays unacknowledged.
_SOCKET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
)


class NoCluster(Exception):
    """No usable configuration says where the API is."""


def load_configuration() -> Configuration:
    """KUBECONFIG when it is set, else the pod's service account, else the user's own kubeconfig.

    Raises:
        NoCluster: none of them can be used; the text names the one that was tried.
    """
    configuration = Configuration()
    configuration.api_key.clear()
    tried = "kubeconfig"
    try:
        if os.environ.get("KUBECONFIG") or not os.environ.get(SERVICE_HOST_ENV_NAME):
            # OAuth and more, 0.3 s of a start: none of it is needed in a pod
            from kubernetes.config.kube_config import load_kube_config
        if given := os.environ.get("KUBECONFIG"):
            tried = f"KUBECONFIG={given}"
            # Given by name, because the client looks at the variable only once, when it is imported.
            load_kube_config(given, client_configuration=configuration)  # type: ignore[no-untyped-call]
        elif os.environ.get(SERVICE_HOST_ENV_NAME):
            tried = "the pod's service account"
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, ValueError, KeyError, TypeError) as problem:
        raise NoCluster(f"no Kubernetes API from {tried}: {problem}") from problem
    return configuration


def plain_configuration(url: str) -> Configuration:
    """No credentials at all, only a place."""
    configuration = Configuration(host=url)
    configuration.api_key.clear()
    return configuration


class Transport:
    """One API server.  Thread-safe."""

    def __init__(self, configuration: Configuration) -> None:
        configuration.retries = False  # whether to try again is for those who know what they asked
        configuration.connection_pool_maxsize = POOL_SIZE
        configuration.socket_options = list(_SOCKET_OPTIONS)
        self.host = configuration.host.rstrip("/")
        self._configuration = configuration
        self._refreshing = threading.Lock()
        self._pool = RESTClientObject(configuration).pool_manager

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
            headers = {**self._headers(), **(extra or {})}
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
        except ConfigException as problem:  # a token file that is away for the moment
            raise unavailable(f"{method} {path}: credentials: {problem}") from problem

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "crier"}
        # The client re-reads the token file (or runs the plugin) when it is due, and not more than once at
        # a time.
        with self._refreshing:
            auth: Mapping[str, Any] = self._configuration.auth_settings()
        for setting in auth.values():
            if setting["value"]:
                headers[setting["key"]] = setting["value"]
        return headers


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
