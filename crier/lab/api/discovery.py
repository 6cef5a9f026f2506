"""What a client may ask for: groups, versions, resources, and enough OpenAPI for kubectl to apply.

The OpenAPI documents name every resource and say that the server understands `fieldValidation`; they carry no
schemas of the builtin types, so nothing is checked on the client's side.
"""

from __future__ import annotations

from typing import Any, Final

from crier.lab.api.errors import no_such_path
from crier.lab.api.kinds import ALL_VERBS, Kind, Kinds
from crier.lab.api.routes import subresources
from crier.lab.api.store import Object

VERSION: Final = {
    "major": "1", "minor": "32", "gitVersion": "v1.32.0-crier-lab", "gitCommit": "", "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "none", "platform": "linux/amd64",
}  # fmt: skip

REVIEWS: Final = (
    ("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", False),
    ("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", False),
    ("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", False),
    ("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False),
    ("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", True),
    ("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", False),
)
"""Kinds that are asked and answered but never stored: group, version, kind, plural, namespaced."""


def api_versions() -> Object:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    }


def api_groups(kinds: Kinds) -> Object:
    groups = [_group(name, versions) for name, versions in _groups(kinds).items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(kinds: Kinds, name: str) -> Object:
    versions = _groups(kinds).get(name)
    if versions is None:
        raise no_such_path()
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def api_resources(kinds: Kinds, group: str, version: str) -> Object:
    resources: list[Object] = []
    for kind in kinds.of(group, version):
        resources.append(_resource(kind))
        resources.extend(_subresource(kind, name) for name in subresources(kind))
    resources.extend(
        {
            "name": plural,
            "singularName": kind.lower(),
            "namespaced": namespaced,
            "kind": kind,
            "verbs": ["create"],
        }
        for of_group, of_version, kind, plural, namespaced in REVIEWS
        if (of_group, of_version) == (group, version)
    )
    if not resources:
        raise no_such_path()
    group_version = f"{group}/{version}" if group else version
    head = {"kind": "APIResourceList", "groupVersion": group_version}
    return (
        {**head, "resources": resources}
        if not group
        else {**head, "apiVersion": "v1", "resources": resources}
    )


def _groups(kinds: Kinds) -> dict[str, list[str]]:
    groups = kinds.groups()
    for group, version, *_ in REVIEWS:
        groups.setdefault(group, [version])
    return groups


def _group(name: str, versions: list[str]) -> Object:
    served = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": served, "preferredVersion": served[0]}


def _resource(kind: Kind) -> Object:
    resource: Object = {
        "name": kind.plural,
        "singularName": kind.singular_name,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(ALL_VERBS),
    }
    if kind.short_names:
        resource["shortNames"] = list(kind.short_names)
    if kind.categories:
        resource["categories"] = list(kind.categories)
    return resource


def _subresource(kind: Kind, name: str) -> Object:
    resource: Object = {
        "name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": ["get", "patch", "update"] if name != "finalize" else ["update"],
    }  # fmt: skip
    if name == "scale":
        resource.update(group="autoscaling", version="v1", kind="Scale")
    return resource


# -------------------------------------------------------------------------------------------- OpenAPI


def openapi_v3_index(kinds: Kinds) -> Object:
    paths = [
        "api/v1",
        *(f"apis/{group}/{version}" for group, all_of in kinds.groups().items() for version in all_of),
    ]
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def openapi_v3(kinds: Kinds, group: str, version: str) -> Object:
    served = kinds.of(group, version)
    if not served:
        raise no_such_path()
    return {
        "openapi": "3.0.0",
        "info": {"title": "Crier lab", "version": VERSION["gitVersion"]},
        "paths": _paths(served, version, v3=True),
        "components": {"schemas": {}},
    }


def openapi_v2(kinds: Kinds) -> Object:
    paths: Object = {}
    for kind in kinds:
        for version in kind.versions:
            paths.update(_paths([kind], version, v3=False))
    return {
        "swagger": "2.0",
        "info": {"title": "Crier lab", "version": VERSION["gitVersion"]},
        "paths": paths,
        "definitions": {},
    }


def openapi_v2_protobuf() -> bytes:
    """The least `gnostic.openapi.v2.Document`: `swagger` and `info`.

    kubectl before 1.26 reads nothing but this form; without definitions it skips validation and takes its own
    idea of the builtin types.
    """

    def field(number: int, payload: bytes) -> bytes:
        assert len(payload) < 128, "a longer one needs a longer length"
        return bytes((number << 3 | 2, len(payload))) + payload

    info = field(1, b"Crier lab") + field(2, VERSION["gitVersion"].encode())
    return field(1, b"2.0") + field(2, info)


def _paths(kinds: list[Kind], version: str, *, v3: bool) -> Object:
    paths: Object = {}
    for kind in kinds:
        root = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
        home = f"{root}/namespaces/{{namespace}}" if kind.namespaced else root
        gvk = {"group": kind.group, "version": version, "kind": kind.kind}
        one = f"{home}/{kind.plural}/{{name}}"
        paths[f"{home}/{kind.plural}"] = {
            "post": _operation(gvk, "post", v3=v3),
            "get": _operation(gvk, "list", v3=v3),
        }
        paths[one] = {verb: _operation(gvk, verb, v3=v3) for verb in ("get", "put", "patch", "delete")}
    return paths


def _operation(gvk: dict[str, str], action: str, *, v3: bool) -> Object:
    string: Any = {"schema": {"type": "string", "uniqueItems": True}} if v3 else {"type": "string"}
    parameters = [
        {"name": name, "in": "query", **string} for name in ("dryRun", "fieldManager", "fieldValidation")
    ]
    return {
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
        "parameters": parameters if action in ("post", "put", "patch") else [],
        "responses": {"200": {"description": "OK"}},
    }
