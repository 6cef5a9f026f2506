"""How a client outside reaches a pod: `pods/NAME/proxy`; and `serviceaccounts/NAME/token`, to be known there.

As the real server does it: only GET, the pod named as `https:NAME:PORT`, its certificate not looked at, the
caller's `Authorization` kept back.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from crier.lab.api.errors import ApiError, bad_request
from crier.lab.api.store import Object

PATIENCE: Final = 10.0
MAX_ANSWER: Final = 16 * 1024 * 1024
_KEPT: Final = frozenset({"authorization", "host", "connection", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Visit:
    """A request to a pod, to be made by the shell."""

    scheme: str
    address: str
    port: int
    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PodPath:
    namespace: str
    scheme: str
    name: str
    port: int
    rest: str


def parse_pod_path(path: str) -> PodPath | None:
    """Of `/api/v1/namespaces/NS/pods/[SCHEME:]NAME[:PORT]/proxy/...`; None for every other path.

    Raises:
        ApiError: 400, the port is none.
    """
    match path.split("/"):
        case ["", "api", "v1", "namespaces", namespace, "pods", pod, "proxy", *rest]:
            pass
        case _:
            return None
    scheme, name, port = "http", pod, "80"
    match pod.split(":"):
        case [name, port]:
            pass
        case [scheme, name, port]:
            pass
    if scheme not in ("http", "https") or not port.isdecimal() or not 0 < int(port) < 65536:
        raise bad_request(f"invalid pod request {pod!r}")
    return PodPath(namespace, scheme, name, int(port), "/" + "/".join(rest))


def visit(path: PodPath, pod: Object, headers: Mapping[str, str]) -> Visit:
    """Raises ApiError: 503, the pod has no address."""
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        raise ApiError(503, f"pod {path.name!r} has no address")
    passed = {name: value for name, value in headers.items() if name not in _KEPT}
    return Visit(path.scheme, address, path.port, path.rest, passed)


def call(there: Visit) -> tuple[int, bytes, str]:
    """Status, body and content type of the pod's answer.  Raises ApiError: 503, there was none."""
    connection: http.client.HTTPConnection
    if there.scheme == "https":
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(there.address, there.port, timeout=PATIENCE, context=anybody)
    else:
        connection = http.client.HTTPConnection(there.address, there.port, timeout=PATIENCE)
    try:
        connection.request("GET", there.target, headers=dict(there.headers))
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER)
        return answer.status, body, answer.headers.get("Content-Type", "text/plain")
    except (OSError, http.client.HTTPException) as problem:
        why = getattr(problem, "strerror", None) or str(problem)
        text = f"error trying to reach service: dial tcp {there.address}:{there.port}: {why}"
        raise ApiError(503, text) from None
    finally:
        connection.close()


def parse_token_path(path: str) -> tuple[str, str] | None:
    """Namespace and name of `.../serviceaccounts/NAME/token`; None for every other path."""
    match path.split("/"):
        case ["", "api", "v1", "namespaces", namespace, "serviceaccounts", name, "token"]:
            return namespace, name
    return None


def token_request(namespace: str, name: str, body: Any, mint: Callable[[str], str], until: str) -> Object:
    """The TokenRequest with its status filled in; `mint` makes a token for a user."""
    spec = body.get("spec") if isinstance(body, dict) else None
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec or {},
        "status": {
            "token": mint(f"system:serviceaccount:{namespace}:{name}"),
            "expirationTimestamp": until,
        },
    }
