"""The way to the speakers' own documents.

They are served over HTTPS on the metrics port to whoever shows a token that may `get` them.  The token is one
of the service account `crier-viewer`, asked of the API for ten minutes: it may read these documents and do
nothing else, so no credential of a person or a controller ever leaves for a pod.

From outside the way leads through the API server's pod proxy, which needs no route to the nodes; it keeps the
`Authorization` header to itself, so the token travels in one of ours.  Who is in the cluster goes directly.
"""

from __future__ import annotations

import functools
import math
import re
import ssl
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeVar

import msgspec
import trio
import urllib3

from crier.inspect import words
from crier.inspect.records import ProgramPod
from crier.inspect.words import BadAnswer
from crier.kube.client import Api
from crier.kube.errors import ApiError, Forbidden, NotFound
from crier.kube.resources import PODS, SERVICE_ACCOUNTS
from crier.ops.scrape import PROXIED_TOKEN

VIEWER: Final = "crier-viewer"
"""The service account whose token is shown; manifests/base/access.yaml."""
TOKEN_SECONDS: Final = 600
"""The least the API gives."""
DEFAULT_PORT: Final = 9120
PATIENCE: Final = 8.0
MAX_AT_ONCE: Final = 16

T = TypeVar("T")


class Unreachable(Exception):
    """A pod's document could not be had; the text says why."""


class Via(Enum):
    """How pods are reached."""

    PROXY = "proxy"
    """Through the API server."""
    NODE = "node"
    """Directly, at the pod's address."""


class _TokenStatusWire(msgspec.Struct, frozen=True):
    token: str = ""


class _TokenWire(msgspec.Struct, frozen=True):
    status: _TokenStatusWire = _TokenStatusWire()


class Reach:
    """One way to all pods of ours; asks for its token when it first needs one."""

    def __init__(self, api: Api, namespace: str, via: Via = Via.PROXY, patience: float = PATIENCE) -> None:
        # each request would be told as unverified, in the middle of somebody's log: see `_anybody`
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._api = api
        self._namespace = namespace
        self._via = via
        self._patience = patience
        self._token = ""
        self._token_until = 0.0
        self._token_problem = ""
        self._asking = trio.Lock()
        self._limiter = trio.CapacityLimiter(MAX_AT_ONCE)
        self._awaited: dict[object, tuple[str, float]] = {}
        self._pool = urllib3.PoolManager(cert_reqs="CERT_NONE", assert_hostname=False, ssl_context=_anybody())

    def close(self) -> None:
        self._pool.clear()

    @property
    def patience(self) -> float:
        """Seconds a pod has to answer in."""
        return self._patience

    def awaited(self, since: float) -> set[str]:
        """Names of the pods asked before this moment of the trio clock that have not answered yet."""
        return {name for name, asked_at in self._awaited.values() if asked_at <= since}

    async def ask(self, pod: ProgramPod, path: str, form: type[T], patience: float = math.inf) -> T:
        """A document of a pod, within `patience` seconds if that is less than usual.  Raises Unreachable."""
        patience = min(patience, self._patience)
        port = port_of(pod)
        token = await self._get_token()
        fetch = self._through_proxy if self._via is Via.PROXY else self._directly
        question = object()
        self._awaited[question] = pod.name, trio.current_time()
        try:
            with trio.fail_after(patience):
                data = await fetch(pod, port, path, token, patience)
            return words.decode(data, form)
        except trio.TooSlowError:
            raise Unreachable(f"no answer within {patience:g} s") from None
        except ApiError as problem:
            raise Unreachable(self._explain(problem, pod, path)) from None
        except BadAnswer as problem:
            raise Unreachable(str(problem)) from None
        finally:
            del self._awaited[question]

    async def _through_proxy(
        self, pod: ProgramPod, port: int, path: str, token: str, patience: float
    ) -> bytes:
        address = PODS.path(self._namespace, f"https:{pod.name}:{port}", f"proxy{path}")
        return await self._api.fetch(address, headers={PROXIED_TOKEN: f"Bearer {token}"}, timeout=patience)

    async def _directly(self, pod: ProgramPod, port: int, path: str, token: str, patience: float) -> bytes:
        if not pod.ip:
            raise Unreachable(f"its pod {pod.name} has no address")
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        call: Callable[[], Any] = functools.partial(
            self._pool.request,
            "GET",
            f"https://{host}:{port}{path}",
            headers={"Authorization": f"Bearer {token}"},
            retries=False,
            redirect=False,
            timeout=patience,
        )
        try:
            answer = await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)
        except urllib3.exceptions.HTTPError as problem:
            raise Unreachable(f"{host}:{port}: {_plain(problem)}") from None
        if answer.status != 200:
            text = bytes(answer.data[:200]).decode("utf-8", "replace").strip()
            raise Unreachable(f"{host}:{port} answers {answer.status}{f': {text}' if text else ''}")
        return bytes(answer.data)

    async def _get_token(self) -> str:
        async with self._asking:  # everybody waits for one and the same
            if self._token_problem:
                raise Unreachable(self._token_problem)
            if not self._token or trio.current_time() > self._token_until:
                body = {
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenRequest",
                    "metadata": {},
                    "spec": {"expirationSeconds": TOKEN_SECONDS},
                }
                try:
                    made = await self._api.create(
                        SERVICE_ACCOUNTS, body, namespace=self._namespace, name=VIEWER, subresource="token"
                    )
                    self._token = msgspec.json.decode(made, type=_TokenWire).status.token
                except NotFound:
                    self._token_problem = (
                        f"there is no ServiceAccount {self._namespace}/{VIEWER}: apply manifests/base"
                    )
                except Forbidden as problem:
                    self._token_problem = f"no token of ServiceAccount {VIEWER}: {problem.message}"
                except (ApiError, msgspec.MsgspecError) as problem:
                    self._token_problem = f"no token of ServiceAccount {VIEWER}: {problem}"
                if self._token_problem:
                    raise Unreachable(self._token_problem)
                self._token_until = trio.current_time() + TOKEN_SECONDS / 2
            return self._token

    def _explain(self, problem: ApiError, pod: ProgramPod, path: str) -> str:
        if isinstance(problem, NotFound):
            return f"pod {pod.name} does not serve {path}: it is gone, or no speaker of ours"
        return f"through the API server's proxy: {problem.message}"


def port_of(pod: ProgramPod) -> int:
    """Where a pod serves its documents."""
    given = pod.flag("port")
    return int(given) if given.isdecimal() and 0 < int(given) < 65536 else DEFAULT_PORT


def _anybody() -> ssl.SSLContext:
    """Pods make their certificates themselves, so there is nobody to vouch for them."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _plain(problem: urllib3.exceptions.HTTPError) -> str:
    text = str(problem)
    return re.sub(r"^\[Errno \d+\] ", "", text.rpartition(": ")[2] or text)
