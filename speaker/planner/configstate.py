"""ConfigurationState `speaker-<node>`: whether this speaker could use its configuration, and why not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from crier.kube.model.states import (
    COMPONENT_LABEL,
    CONFIGURATION_ERROR,
    NODE_NAME_LABEL,
    RECONCILED,
    UNKNOWN_ERROR,
    Condition,
    ConfigurationState,
    judge,
)
from crier.kube.resources import CONFIGURATION_STATES
from speaker.planner.l2status import Owner

CONDITION: Final = "configReconcilerValid"
FIELD_MANAGER: Final = "configReconciler"
RESULT_FIELD_MANAGER: Final = "configurationStateReconciler"
_ERROR: Final = "configuration error: "
MAX_MESSAGE: Final = 32768
"""Characters; the API server takes no more in a condition."""


def object_name(node: str) -> str:
    return f"speaker-{node}"


def reconciled() -> Condition:
    return Condition(CONDITION, "True", RECONCILED)


def rejected(problems: str) -> Condition:
    """The configuration says something impossible; the last good one stays in force."""
    return Condition(CONDITION, "False", CONFIGURATION_ERROR, f"{_ERROR}{problems}"[:MAX_MESSAGE])


def joined(condition: Condition, more: str) -> Condition:
    """The same condition, and what else is wrong with the configuration ("" when nothing is)."""
    if not more:
        return condition
    if condition.status == "True":
        return rejected(more)
    return rejected(f"{condition.message.removeprefix(_ERROR)}; {more}")


def waiting(why: str) -> Condition:
    """The configuration is sound, but cannot be used yet."""
    return Condition(CONDITION, "False", UNKNOWN_ERROR, why[:MAX_MESSAGE])


def is_current(found: ConfigurationState, condition: Condition) -> bool:
    """Whether the object says already what it should."""
    result, summary = judge([condition])
    return condition in found.conditions and found.result == result.value and found.error_summary == summary


def new_object(node: str, owner: Owner | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": object_name(node),
        "labels": {COMPONENT_LABEL: "speaker", NODE_NAME_LABEL: node},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner.reference()]
    return {
        "apiVersion": CONFIGURATION_STATES.api_version,
        "kind": CONFIGURATION_STATES.kind,
        "metadata": metadata,
    }


def condition_apply(node: str, namespace: str, condition: Condition, now: datetime) -> dict[str, Any]:
    """For server-side apply on the status, by `FIELD_MANAGER`."""
    return {
        "apiVersion": CONFIGURATION_STATES.api_version,
        "kind": CONFIGURATION_STATES.kind,
        "metadata": {"name": object_name(node), "namespace": namespace},
        "status": {
            "conditions": [
                {
                    "type": condition.type,
                    "status": condition.status,
                    "reason": condition.reason,
                    "message": condition.message,
                    "lastTransitionTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
            ]
        },
    }


def result_patch(condition: Condition) -> dict[str, Any]:
    """A merge patch of what follows from the condition."""
    result, summary = judge([condition])
    return {"status": {"result": result.value, "errorSummary": summary or None}}
