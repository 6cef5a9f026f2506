"""The verbs: what create, update, patch, apply and delete do to the store.

Time comes in with every call and chance with the constructor.  Bodies are the caller's to give away: they are
fresh from the decoder and become the stored objects.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from crier.lab.api import errors
from crier.lab.api.admission import Admission
from crier.lab.api.apply import apply as apply_fields
from crier.lab.api.convert import from_version, to_version
from crier.lab.api.crds import fill_in
from crier.lab.api.garbage import Garbage
from crier.lab.api.kinds import Kind, Kinds
from crier.lab.api.patch import json_patch, merge_patch, strategic_merge_patch
from crier.lab.api.shapes import conform
from crier.lab.api.store import Key, Object, Store

MAX_GENERATED_NAME: Final = 58
"""Octets of `generateName` that are kept, so that five more fit a DNS label (RFC 1123)."""

_SUFFIX: Final = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, no look-alikes: the real server's alphabet
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_NAMES: Final = {
    "services": re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?"),
    "namespaces": re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"),
}
"""Kinds whose names become DNS labels."""
_PATH_NAME = re.compile(r"[^/%]+")  # RBAC names are path segments: system:node and the like

_SYSTEM_METADATA: Final = (
    *("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"),
    *("selfLink", "generateName", "namespace", "name"),
)
"""Metadata that no update may change: what is stored stays, whatever the body says."""


@dataclass(frozen=True, slots=True)
class Write:
    """How a write is to be done, from its query."""

    now: float
    """Unix time."""
    dry_run: bool = False
    manager: str = ""
    """`fieldManager`."""
    force: bool = False
    """Server-side apply takes over fields of others."""
    strict: bool = False
    """Unknown fields are refused (`fieldValidation=Strict`)."""


class Registry:
    """Applies the verbs to one store."""

    def __init__(self, store: Store, kinds: Kinds, *, rng: random.Random) -> None:
        self._store = store
        self._kinds = kinds
        self._rng = rng
        self._admission = Admission(store, kinds, rng=rng)
        self.garbage = Garbage(store, self._remove)

    # ------------------------------------------------------------------------------------- reading

    def get(self, kind: Kind, version: str, namespace: str, name: str) -> Object:
        return to_version(kind, version, self._existing(kind, namespace, name))

    def _existing(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self._store.get(kind.stored_as, (namespace, name))
        if found is None:
            raise errors.not_found(kind.group, kind.plural, name)
        return found

    # ------------------------------------------------------------------------------------- writing

    def create(self, kind: Kind, version: str, namespace: str, body: Object, write: Write) -> Object:
        new = from_version(kind, version, check_shape(kind, version, body, strict=write.strict))
        return to_version(kind, version, self._insert(kind, namespace, new, write))

    def _insert(self, kind: Kind, namespace: str, new: Object, write: Write) -> Object:
        metadata = new["metadata"]
        _check_namespace(kind, namespace, metadata)
        if not metadata.get("name") and metadata.get("generateName"):
            prefix = metadata["generateName"][:MAX_GENERATED_NAME]
            metadata["name"] = prefix + "".join(self._rng.choices(_SUFFIX, k=5))
        name = metadata.get("name")
        if not name:
            cause = (
                "FieldValueRequired",
                "metadata.name",
                "Required value: name or generateName is required",
            )
            raise errors.invalid(kind.group, kind.kind, "", cause)
        _check_name(kind, name)
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        self._check_home(kind, namespace)
        if self._store.get(kind.stored_as, (namespace, name)) is not None:
            raise errors.already_exists(kind.group, kind.plural, name)
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"):
            metadata.pop(field, None)
        metadata["uid"] = self._new_uid()
        metadata["creationTimestamp"] = timestamp(write.now)
        if kind.has_generation:
            metadata["generation"] = 1
        if kind.has_status and kind.resource != "nodes":  # a kubelet registers with its status
            new.pop("status", None)
        fill_in(kind, new)
        self._admission.admit(kind, new, None, write.now)
        if write.dry_run:
            return new
        stored = self._store.put(kind.stored_as, (namespace, name), new)
        self._changed(kind, None, stored)
        return stored

    def update(
        self, kind: Kind, version: str, key: Key, subresource: str, body: Object, write: Write
    ) -> Object:
        namespace, name = key
        if subresource == "scale":
            return self._write_scale(kind, key, body, write)
        new = from_version(kind, version, check_shape(kind, version, body, strict=write.strict))
        metadata = new["metadata"]
        _check_namespace(kind, namespace, metadata)
        if metadata.get("name", name) != name:
            raise errors.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        old = self._existing(kind, namespace, name)
        if not metadata.get("resourceVersion") and not kind.unconditional_update:
            cause = (
                "FieldValueInvalid",
                "metadata.resourceVersion",
                "Invalid value: 0x0: must be specified for an update",
            )
            raise errors.invalid(kind.group, kind.kind, name, cause)
        stored = self._replace(kind, subresource, old, new, write)
        return to_version(kind, version, stored)

    def patch(
        self, kind: Kind, version: str, key: Key, subresource: str, content_type: str, body: Any, write: Write
    ) -> tuple[Object, bool]:
        """The object after the patch, and whether it is new (server-side apply creates)."""
        namespace, name = key
        if content_type == "application/apply-patch+yaml":
            return self._apply(kind, version, key, subresource, body, write)
        old = self._existing(kind, namespace, name)
        if subresource == "scale":
            scaled = _patched(scale_of(old), content_type, body, kind)
            return self._write_scale(kind, key, scaled, write), False
        before = to_version(kind, version, old)
        new = from_version(
            kind, version, check_shape(kind, version, _patched(before, content_type, body, kind))
        )
        if new["metadata"].get("name") != name:
            message = f"Precondition failed: name {new['metadata'].get('name')} is not {name}"
            raise errors.bad_request(message)
        return to_version(kind, version, self._replace(kind, subresource, old, new, write)), False

    def _apply(
        self, kind: Kind, version: str, key: Key, subresource: str, body: Any, write: Write
    ) -> tuple[Object, bool]:
        namespace, name = key
        if not write.manager:
            raise errors.bad_request(
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: '
                "is required for apply patch"
            )
        applied = from_version(kind, version, check_shape(kind, version, body, strict=write.strict))
        if applied["metadata"].get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        if applied["metadata"].setdefault("name", name) != name:
            raise errors.bad_request("the name of the object does not match the name on the URL")
        _check_namespace(kind, namespace, applied["metadata"])
        old = self._store.get(kind.stored_as, key)
        if old is None and subresource:
            raise errors.not_found(kind.group, kind.plural, name)
        if old is not None:
            given = applied["metadata"].get("resourceVersion")
            if given and given != old["metadata"]["resourceVersion"]:
                raise errors.conflict(kind.group, kind.plural, name)
        merged = apply_fields(
            kind, old, applied, manager=write.manager, force=write.force, subresource=subresource,
            time=timestamp(write.now),
        )  # fmt: skip
        if old is None:
            return to_version(kind, version, self._insert(kind, namespace, merged, write)), True
        merged["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        return to_version(kind, version, self._replace(kind, subresource, old, merged, write)), False

    def _replace(self, kind: Kind, subresource: str, old: Object, new: Object, write: Write) -> Object:
        namespace, name = key_of(old)
        metadata, before = new["metadata"], old["metadata"]
        if metadata.get("uid") and metadata["uid"] != before["uid"]:
            why = (
                f"Precondition failed: UID in precondition: {metadata['uid']}, "
                f"UID in object meta: {before['uid']}"
            )
            raise errors.conflict(kind.group, kind.plural, name, why)
        if metadata.get("resourceVersion") and metadata["resourceVersion"] != before["resourceVersion"]:
            raise errors.conflict(kind.group, kind.plural, name)
        for field in _SYSTEM_METADATA:
            if field in before:
                metadata[field] = before[field]
            else:
                metadata.pop(field, None)
        metadata["resourceVersion"] = before["resourceVersion"]
        if "managedFields" not in metadata and "managedFields" in before:
            metadata["managedFields"] = before[
                "managedFields"
            ]  # who leaves them out does not mean to drop them
        new = _merge_subresource(kind, subresource, old, new)
        fill_in(kind, new)
        metadata = new["metadata"]
        if metadata.get("deletionTimestamp"):
            added = sorted(set(metadata.get("finalizers") or ()) - set(before.get("finalizers") or ()))
            if added:
                why = (
                    "Forbidden: no new finalizers can be added if the object is being deleted, "
                    f"found new finalizers {added}"
                )
                raise errors.invalid(
                    kind.group, kind.kind, name, ("FieldValueForbidden", "metadata.finalizers", why)
                )
        self._admission.admit(kind, new, old, write.now)
        if kind.has_generation and _spec_of(kind, new) != _spec_of(kind, old):
            metadata["generation"] = before.get("generation", 0) + 1
        if write.dry_run:
            return new
        if new == old:  # nothing to say: no write, no event, the same revision
            return old
        if metadata.get("deletionTimestamp") and not _finalizers(new):
            self._store.put(kind.stored_as, (namespace, name), new)
            return self._remove(kind.stored_as, (namespace, name), write.now)
        stored = self._store.put(kind.stored_as, (namespace, name), new)
        self._changed(kind, old, stored)
        return stored

    def _write_scale(self, kind: Kind, key: Key, body: Object, write: Write) -> Object:
        old = self._existing(kind, *key)
        if not isinstance(body, dict):
            raise errors.bad_request("Scale is not an object")
        body = conform("autoscaling/v1", "Scale", body, strict=write.strict)
        replicas = (body.get("spec") or {}).get("replicas", 0)
        if replicas < 0:
            cause = ("FieldValueInvalid", "spec.replicas", f"Invalid value: {replicas!r}")
            raise errors.invalid("autoscaling", "Scale", key[1], cause)
        given = (body.get("metadata") or {}).get("resourceVersion") or old["metadata"]["resourceVersion"]
        metadata = {**old["metadata"], "resourceVersion": given}
        new = {**old, "metadata": metadata, "spec": {**(old.get("spec") or {}), "replicas": replicas}}
        return scale_of(self._replace(kind, "", old, new, write))

    # ------------------------------------------------------------------------------------ deleting

    def delete(
        self, kind: Kind, version: str, key: Key, options: Mapping[str, Any], write: Write
    ) -> tuple[Object, bool]:
        """What was deleted, and whether it is gone already."""
        namespace, name = key
        old = self._existing(kind, namespace, name)
        preconditions = options.get("preconditions") or {}
        for field in ("uid", "resourceVersion"):
            wanted = preconditions.get(field)
            if wanted is not None and wanted != old["metadata"][field]:
                label = "UID" if field == "uid" else "ResourceVersion"
                why = (
                    f"Precondition failed: {label} in precondition: {wanted}, "
                    f"{label} in object meta: {old['metadata'][field]}"
                )
                raise errors.conflict(kind.group, kind.plural, name, why)
        if write.dry_run:
            return to_version(kind, version, old), True
        policy = options.get("propagationPolicy") or (
            "Orphan" if options.get("orphanDependents") else "Background"
        )
        if policy == "Orphan":
            self.garbage.orphan(old["metadata"]["uid"])
        if kind.resource == "namespaces" and name in ("default", "kube-system", "kube-public"):
            raise errors.forbidden("", "namespaces", name, "this namespace may not be deleted")
        if _finalizers(old):
            if not old["metadata"].get("deletionTimestamp"):
                old = self._mark_deleted(kind, key, old, write.now)
            return to_version(kind, version, old), False
        if policy == "Foreground":
            self.garbage.collect_now(old["metadata"]["uid"], write.now)
        return to_version(kind, version, self._remove(kind.stored_as, key, write.now)), True

    def _mark_deleted(self, kind: Kind, key: Key, old: Object, now: float) -> Object:
        metadata = {**old["metadata"], "deletionTimestamp": timestamp(now), "deletionGracePeriodSeconds": 0}
        new = {**old, "metadata": metadata}
        if kind.has_generation:
            metadata["generation"] = metadata.get("generation", 0) + 1
        if kind.resource == "namespaces":
            new["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
        stored = self._store.put(kind.stored_as, key, new)
        self._changed(kind, old, stored)
        return stored

    def _remove(self, resource: str, key: Key, now: float) -> Object:
        """Take out an object that nothing holds back; one with finalizers is only marked."""
        old = self._store.get(resource, key)
        assert old is not None, "only what is there is removed"
        kind = self._kinds.by_storage(resource)
        if kind is not None and _finalizers(old):
            if old["metadata"].get("deletionTimestamp"):
                return old
            return self._mark_deleted(kind, key, old, now)
        gone = self._store.remove(resource, key)
        if kind is not None:
            self._changed(kind, old, None)
        self.garbage.owner_gone(gone["metadata"]["uid"])
        return gone

    # ------------------------------------------------------------------------------------- helpers

    def _changed(self, kind: Kind, old: Object | None, new: Object | None) -> None:
        """What follows at once from a change of one object."""
        self._admission.changed(kind, old, new)
        if new is not None:
            self.garbage.check(kind.stored_as, key_of(new))

    def _check_home(self, kind: Kind, namespace: str) -> None:
        if not kind.namespaced:
            return
        if not namespace:
            raise errors.bad_request("an empty namespace may not be set during creation")
        home = self._store.get("namespaces", ("", namespace))
        if home is None:
            raise errors.not_found("", "namespaces", namespace)
        if home["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise errors.forbidden(kind.group, kind.plural, namespace, why)

    def _new_uid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))


def key_of(thing: Object) -> Key:
    return thing["metadata"].get("namespace", ""), thing["metadata"]["name"]


def timestamp(now: float) -> str:
    """RFC 3339 in whole seconds, as `metav1.Time` is written."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_shape(kind: Kind, version: str, body: Any, *, strict: bool = False) -> Object:
    """The body as an object of this kind, with kind, apiVersion and metadata in place.

    Raises:
        ApiError: 400, it is another kind, not an object at all, or a field has the wrong type.
    """
    if not isinstance(body, dict):
        raise errors.bad_request(f"the body is not an object, but {type(body).__name__}")
    wanted = kind.api_version(version)
    if body.get("kind", kind.kind) != kind.kind or body.get("apiVersion", wanted) != wanted:
        raise errors.bad_request(
            f"the API version in the data ({body.get('apiVersion')}, {body.get('kind')}) does not match "
            f"the expected API version ({wanted}, {kind.kind})"
        )
    if kind.custom and not (body.get("kind") and body.get("apiVersion")):
        # what a builtin kind lacks is known from the URL; a custom one has to say it
        raise errors.bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): no kind or no apiVersion"
        )
    made = conform(wanted, kind.kind, body, strict=strict)
    for owner in made["metadata"].get("ownerReferences") or ():
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                name = made["metadata"].get("name", "")
                text = f"Invalid value: {field} must not be empty"
                cause = ("FieldValueInvalid", "metadata.ownerReferences", text)
                raise errors.invalid(kind.group, kind.kind, name, cause)
    return made


def _check_namespace(kind: Kind, namespace: str, metadata: Object) -> None:
    if not kind.namespaced:
        metadata.pop("namespace", None)
        return
    if not metadata.get("namespace"):
        metadata["namespace"] = namespace
    if metadata["namespace"] != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def _check_name(kind: Kind, name: str) -> None:
    if kind.resource in _LABEL_NAMES:
        if len(name) > 63 or not _LABEL_NAMES[kind.resource].fullmatch(name):
            text = (
                f'Invalid value: "{name}": must be a DNS label of at most 63 characters (RFC 1035, RFC 1123)'
            )
            raise errors.invalid(kind.group, kind.kind, name, ("FieldValueInvalid", "metadata.name", text))
        return
    pattern = _PATH_NAME if kind.group == "rbac.authorization.k8s.io" else _SUBDOMAIN
    if len(name) > 253 or not pattern.fullmatch(name):
        text = (
            f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case '
            "alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character "
            r"(e.g. 'example.com', regex used for validation is "
            r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        )
        raise errors.invalid(kind.group, kind.kind, name, ("FieldValueInvalid", "metadata.name", text))


def _merge_subresource(kind: Kind, subresource: str, old: Object, new: Object) -> Object:
    """The old object with what a write to this (sub)resource may change taken from the new one."""
    if subresource == "status":
        if kind.status_write == "status":
            metadata = dict(old["metadata"])
            if "managedFields" in new["metadata"]:
                metadata["managedFields"] = new["metadata"]["managedFields"]
        else:
            metadata = new["metadata"]
        merged = {**old, "metadata": metadata}
        merged.pop("status", None)
        return {**merged, "status": new["status"]} if "status" in new else merged
    if not kind.has_status:
        return new
    kept = {key: value for key, value in new.items() if key != "status"}
    if kind.resource == "namespaces" and subresource == "finalize":
        kept = {**old, "metadata": dict(old["metadata"]), "spec": new.get("spec") or {}}
    return {**kept, "status": old["status"]} if "status" in old else kept


def _spec_of(kind: Kind, thing: Object) -> Object:
    """Everything a new generation counts: neither metadata nor, where it has its own door, the status."""
    ignored = {"metadata", "status"} if kind.has_status else {"metadata"}
    return {key: value for key, value in thing.items() if key not in ignored}


def _finalizers(thing: Object) -> bool:
    if thing["metadata"].get("finalizers"):
        return True
    return thing["kind"] == "Namespace" and bool((thing.get("spec") or {}).get("finalizers"))


def _patched(target: Object, content_type: str, body: Any, kind: Kind) -> Any:
    match content_type:
        case "application/merge-patch+json":
            return merge_patch(target, body)
        case "application/json-patch+json":
            return json_patch(target, body)
        case "application/strategic-merge-patch+json" if not kind.custom:
            return strategic_merge_patch(target, body)
    accepted = ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
    if not kind.custom:
        accepted.insert(2, "application/strategic-merge-patch+json")
    raise errors.ApiError(
        415,
        "the body of the request was in an unknown format - accepted media types include: "
        f"{', '.join(accepted)}",
    )


def scale_of(thing: Object) -> Object:
    """The `autoscaling/v1` view of something with replicas."""
    metadata = thing["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = ((thing.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": (thing.get("spec") or {}).get("replicas", 0)},
        "status": {
            "replicas": (thing.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }
