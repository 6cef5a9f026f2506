"""Defaults and checks per kind: what the real server adds to an object, or refuses in it."""

from __future__ import annotations

import base64
import copy
import random
from typing import Any, Final

from crier.lab.api import crds, errors
from crier.lab.api.kinds import Kind, Kinds
from crier.lab.api.services import Services
from crier.lab.api.store import Object, Store

MAX_SECRET: Final = 1024 * 1024
"""Octets of all values of one Secret or ConfigMap."""


class Admission:
    """Makes an object complete, or refuses it."""

    def __init__(self, store: Store, kinds: Kinds, *, rng: random.Random) -> None:
        self._store = store
        self._kinds = kinds
        self._services = Services(rng=rng)

    def admit(self, kind: Kind, new: Object, old: Object | None, now: float) -> None:
        """Complete `new` in place; nothing it shares with the stored object is changed.

        Raises:
            ApiError: 422, a field is missing or wrong.
        """
        match kind.resource:
            case "services":
                self._services.admit(new, old)
            case "secrets":
                _secret(kind, new, old)
            case "configmaps":
                _check_size(kind, new, ("data", "binaryData"))
            case "namespaces":
                _namespace(new, old)
            case "pods":
                _pod(kind, new, old)
            case "nodes":
                new["spec"] = new.get("spec") or {}
            case "endpointslices.discovery.k8s.io":
                _endpoint_slice(kind, new, old)
            case "customresourcedefinitions.apiextensions.k8s.io":
                crds.admit(kind, new, now)
            case "deployments.apps" | "daemonsets.apps" | "replicasets.apps" | "statefulsets.apps":
                _workload(kind, new)
            case "events" | "events.events.k8s.io":
                _event(kind, new)

    def changed(self, kind: Kind, old: Object | None, new: Object | None) -> None:
        """An object was stored (`old` None: it is new) or removed (`new` None)."""
        if kind.resource == "services":
            self._services.changed(old, new)
        elif kind.resource == "customresourcedefinitions.apiextensions.k8s.io":
            self._serve(old, new)

    def _serve(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._kinds.add(crds.kind_of(new))
        elif old is not None:
            gone = crds.kind_of(old)
            for thing in self._store.list(gone.resource):
                metadata = thing["metadata"]
                self._store.remove(gone.resource, (metadata.get("namespace", ""), metadata["name"]))
            self._kinds.discard(gone.group, gone.plural)


def _secret(kind: Kind, new: Object, old: Object | None) -> None:
    name = new["metadata"]["name"]
    strings = new.pop("stringData", None) or {}
    if strings:
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in strings.items()}
        new["data"] = {**(new.get("data") or {}), **encoded}
    new.setdefault("type", "Opaque")
    _check_size(kind, new, ("data",))
    if old is not None:
        if new["type"] != old["type"]:
            raise errors.invalid("", "Secret", name, _immutable("type", new["type"]))
        if old.get("immutable") and (new.get("data") != old.get("data") or not new.get("immutable")):
            cause = ("FieldValueForbidden", "data", "Forbidden: field is immutable when `immutable` is set")
            raise errors.invalid("", "Secret", name, cause)


def _immutable(field: str, value: Any) -> tuple[str, str, str]:
    return "FieldValueInvalid", field, f"Invalid value: {value!r}: field is immutable"


def _check_size(kind: Kind, new: Object, fields: tuple[str, ...]) -> None:
    for field in fields:
        if sum(map(len, (new.get(field) or {}).values())) > MAX_SECRET * 4 // 3:
            cause = ("FieldValueTooLong", field, f"Too long: may not be more than {MAX_SECRET} bytes")
            raise errors.invalid(kind.group, kind.kind, new["metadata"]["name"], cause)


def _namespace(new: Object, old: Object | None) -> None:
    metadata = new["metadata"]
    labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    metadata["labels"] = labels
    if old is None:
        new["spec"] = {"finalizers": ["kubernetes"]}
        new["status"] = {"phase": "Active"}
    elif "finalizers" in (old.get("spec") or {}):
        new["spec"] = old["spec"]


def _pod(kind: Kind, new: Object, old: Object | None) -> None:
    spec = dict(new.get("spec") or {})
    if not spec.get("containers"):
        cause = ("FieldValueRequired", "spec.containers", "Required value")
        raise errors.invalid("", kind.kind, new["metadata"]["name"], cause)
    for field, default in (
        ("restartPolicy", "Always"), ("dnsPolicy", "ClusterFirst"), ("schedulerName", "default-scheduler"),
        ("serviceAccountName", "default"), ("terminationGracePeriodSeconds", 30), ("securityContext", {}),
        ("enableServiceLinks", True),
    ):  # fmt: skip
        spec.setdefault(field, copy.copy(default))
    new["spec"] = spec
    if old is None:
        new["status"] = {"phase": "Pending", "qosClass": "BestEffort"}


def _endpoint_slice(kind: Kind, new: Object, old: Object | None) -> None:
    name = new["metadata"]["name"]
    if new.get("addressType") not in ("IPv4", "IPv6", "FQDN"):
        text = (
            "Required value"
            if not new.get("addressType")
            else f'Unsupported value: "{new["addressType"]}": supported values: "FQDN", "IPv4", "IPv6"'
        )
        raise errors.invalid(kind.group, kind.kind, name, ("FieldValueInvalid", "addressType", text))
    if old is not None and old["addressType"] != new["addressType"]:
        raise errors.invalid(kind.group, kind.kind, name, _immutable("addressType", new["addressType"]))
    if new.get("ports"):
        new["ports"] = [{"name": "", "protocol": "TCP", **port} for port in new["ports"]]
    new.setdefault("endpoints", None)
    new.setdefault("ports", None)


def _workload(kind: Kind, new: Object) -> None:
    spec = dict(new.get("spec") or {})
    name = new["metadata"]["name"]
    if not spec.get("selector"):
        raise errors.invalid(
            kind.group, kind.kind, name, ("FieldValueRequired", "spec.selector", "Required value")
        )
    if kind.kind != "DaemonSet":
        spec.setdefault("replicas", 1)
    new["spec"] = spec


def _event(kind: Kind, new: Object) -> None:
    involved = new.get("involvedObject")
    if not isinstance(involved, dict):
        cause = ("FieldValueRequired", "involvedObject", "Required value")
        raise errors.invalid(kind.group, kind.kind, new["metadata"]["name"], cause)
    theirs = involved.get("namespace") or "default"
    if theirs != new["metadata"].get("namespace"):
        text = f'Invalid value: "{theirs}": does not match event.namespace'
        raise errors.invalid(
            "", kind.kind, new["metadata"]["name"], ("FieldValueInvalid", "involvedObject.namespace", text)
        )
