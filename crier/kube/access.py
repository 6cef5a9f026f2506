"""Where the API is, and who we are there.

In a pod both are three files and two variables, read here.  Everything else (kubeconfigs with certificates,
exec plugins and identity providers, proxies) is the official client's business; it takes half a second and
20 MB to import, so it is imported only where it is needed (`crier.kube.kubeconfig`).
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import urllib3

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVICE_HOST: Final = "KUBERNETES_SERVICE_HOST"
SERVICE_PORT: Final = "KUBERNETES_SERVICE_PORT"
TOKEN_LIFETIME: Final = 60.0
"""Seconds until the token's file is read again: kubelet replaces it long before the token expires."""
POOL_SIZE: Final = 32
"""Connections that are kept."""

# A peer that vanished without a word is noticed by the kernel after 10 + 3 * 5 s on a silent connection, and
# after 20 s when data of ours stays unacknowledged.
SOCKET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
)


class NoCluster(Exception):
    """No usable configuration says where the API is."""


class NoCredentials(Exception):
    """Who we are cannot be said at the moment."""


class Access(Protocol):
    host: str
    """URL without a path."""

    def open_pool(self) -> urllib3.PoolManager:
        """Connections as they must be made to get there."""

    def credentials(self) -> Mapping[str, str]:
        """Headers.  From any thread.  Raises NoCredentials."""


class Plain:
    """An API that asks for no credentials: a place is enough."""

    def __init__(self, url: str) -> None:
        self.host = url.rstrip("/")

    def open_pool(self) -> urllib3.PoolManager:
        return urllib3.PoolManager(retries=False, maxsize=POOL_SIZE, socket_options=list(SOCKET_OPTIONS))

    def credentials(self) -> Mapping[str, str]:
        return {}


class InCluster:
    """A pod's service account."""

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        directory: Path = SERVICE_ACCOUNT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises NoCluster."""
        name, port = environ.get(SERVICE_HOST, ""), environ.get(SERVICE_PORT, "")
        if not name or not port:
            raise NoCluster(f"{SERVICE_HOST} and {SERVICE_PORT} are not both set")
        self.host = f"https://[{name}]:{port}" if ":" in name else f"https://{name}:{port}"
        self._token_file = directory / "token"
        self._clock = clock
        self._lock = threading.Lock()
        self._token, self._read_at = "", float("-inf")
        try:
            self._tls = ssl.create_default_context(cafile=directory / "ca.crt")
        except OSError as problem:  # ssl.SSLError is one
            raise NoCluster(f"{directory / 'ca.crt'}: {problem}") from None
        try:
            self.credentials()
        except NoCredentials as problem:
            raise NoCluster(str(problem)) from None

    def open_pool(self) -> urllib3.PoolManager:
        # one context for all connections, so that the authorities are read once
        return urllib3.PoolManager(
            retries=False, maxsize=POOL_SIZE, socket_options=list(SOCKET_OPTIONS), ssl_context=self._tls
        )

    def credentials(self) -> Mapping[str, str]:
        with self._lock:
            if self._clock() - self._read_at >= TOKEN_LIFETIME:
                self._read()
            return {"authorization": f"Bearer {self._token}"}

    def _read(self) -> None:
        try:
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as problem:
            why = problem if isinstance(problem, OSError) else "not a token"  # whose octets are nobody's
            raise NoCredentials(f"{self._token_file}: {why}") from None
        if not token:
            raise NoCredentials(f"{self._token_file} is empty")
        self._token, self._read_at = token, self._clock()


def is_proxied(environ: Mapping[str, str]) -> bool:
    """Whether the environment names a proxy that may stand between us and an HTTPS server."""
    return any(environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"))
