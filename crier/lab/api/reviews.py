"""Reviews: kinds that are asked and answered, never stored.  Everybody who is known may do everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from crier.lab.api.discovery import REVIEWS
from crier.lab.api.errors import bad_request
from crier.lab.api.store import Object

_ALL_RULES: Final = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}


def is_review(path: str) -> bool:
    return _kind(path) is not None


def review(path: str, body: Any, user: str, tokens: Mapping[str, str]) -> Object:
    """The review with its status filled in.

    Raises:
        ApiError: 400, it is another kind than the path says.
    """
    found = _kind(path)
    assert found is not None, "the caller asked is_review"
    group, version, kind = found
    api_version = f"{group}/{version}"
    if (
        not isinstance(body, dict)
        or body.get("kind", kind) != kind
        or body.get("apiVersion", api_version) != api_version
    ):
        raise bad_request(f"the body is not a {kind} of {api_version}")
    spec = body.get("spec")
    status: Object
    match kind:
        case "TokenReview":
            token = spec.get("token") if isinstance(spec, dict) else None
            name = tokens.get(token) if isinstance(token, str) else None
            status = {"authenticated": name is not None, "user": {}}
            if name is not None:
                status["user"] = {"username": name, "groups": ["system:authenticated"]}
        case "SelfSubjectReview":
            status = {"userInfo": {"username": user, "groups": ["system:authenticated"]}}
        case "SelfSubjectRulesReview":
            status = dict(_ALL_RULES)
        case _:
            status = {"allowed": True, "reason": "the lab allows everything"}
    metadata = body.get("metadata") if isinstance(body.get("metadata"), dict) else {}
    return {
        "kind": kind,
        "apiVersion": api_version,
        "metadata": metadata,
        "spec": spec or {},
        "status": status,
    }


def _kind(path: str) -> tuple[str, str, str] | None:
    steps = [step for step in path.split("/") if step]
    match steps:
        case ["apis", group, version, plural]:
            namespaced = False
        case ["apis", group, version, "namespaces", _, plural]:
            namespaced = True
        case _:
            return None
    for of_group, of_version, kind, of_plural, of_namespaced in REVIEWS:
        if (group, version, plural, namespaced) == (of_group, of_version, of_plural, of_namespaced):
            return group, version, kind
    return None
