"""Writes what the controller tells: counters of pools, its ConfigurationState, events on what is wrong."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from math import inf
from typing import Any, Final

import trio

from allocator import review, status
from allocator.bell import Bell
from allocator.controller import REMIND, Controller
from allocator.review import Finding
from allocator.survey import Survey
from crier.kube.client import Api, PatchType, decode_document
from crier.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from crier.kube.events import Recorder, Reference
from crier.kube.model.errors import DecodeError
from crier.kube.model.pod import Pod
from crier.kube.model.pool import PoolObject
from crier.kube.model.states import (
    COMPONENT_LABEL,
    CONFIGURATION_ERROR,
    Condition,
    ConfigurationState,
    Result,
    judge,
)
from crier.kube.resources import CONFIGURATION_STATES, IP_ADDRESS_POOLS, PODS
from crier.kube.watch import Mirror, backoff, watch
from crier.ops import logs

log = logs.get(__name__)

STATE_NAME: Final = "controller"
FIELD_MANAGERS: Final = {
    status.CONDITION_TYPE: "poolReconciler",  # MetalLB's
    review.CONDITION_TYPE: "configurationReview",
}
SETTLE: Final = 0.1
"""Seconds in which changes gather."""
COUNTERS_INTERVAL: Final = 1.0
"""Seconds between two writes of a pool's counters: a thousand allocations are few writes, not a thousand."""


class Reporter:
    """Brings the API up to what the controller knows, and back to it when somebody edits it."""

    def __init__(
        self, api: Api, controller: Controller, recorder: Recorder, *, namespace: str, pod_name: str
    ) -> None:
        self.states: Mirror[ConfigurationState] = Mirror(ConfigurationState.decode)
        self._api = api
        self._controller = controller
        self._recorder = recorder
        self._namespace = namespace
        self._pod_name = pod_name
        self._owner: dict[str, Any] | None = None
        self._told: tuple[Finding, ...] = ()
        self._bell = Bell()
        self._due = inf
        """When counters may be written again."""
        self._counted: dict[str, float] = {}
        self._survey = Survey(api, self._bell.ring, namespace=namespace)
        self._rng = random.Random()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_states)
            nursery.start_soon(self._survey.run)
            nursery.start_soon(self._relay)
            nursery.start_soon(self._remind)
            failures = 0
            while True:
                with trio.move_on_at(self._due):
                    await self._bell.wait()
                self._due = inf
                try:
                    await self._bring_up()
                    failures = 0
                except ApiError as problem:
                    failures += 1
                    log.warning("report_not_written", error=problem, attempt=failures)
                    self._bell.ring()
                    await trio.sleep(backoff(failures, self._rng))
                await trio.sleep(SETTLE)

    async def _watch_states(self) -> None:
        await watch(
            self._api,
            CONFIGURATION_STATES,
            self.states,
            self._bell.ring,
            namespace=self._namespace,
            field_selector=f"metadata.name={STATE_NAME}",
        )

    async def _relay(self) -> None:
        while True:
            await self._controller.reconciled.wait()
            self._bell.ring()

    async def _remind(self) -> None:
        while True:
            await trio.sleep(REMIND)
            self._told = ()
            self._bell.ring()

    async def _bring_up(self) -> None:
        controller = self._controller
        found = self._look_around()
        self._tell((*status.by_pool(controller.problems, controller.pools.objects.values()), *(found or ())))
        if controller.allocator.configured:
            for pool in list(controller.pools.objects.values()):
                await self._bring_up_counters(pool)
        if self.states.synced and controller.synced:
            await self._bring_up_state(status.condition(controller.problems), found)

    def _look_around(self) -> tuple[Finding, ...] | None:
        """What the rest of the configuration gives to tell; None before all of it is known."""
        controller = self._controller
        if not (self._survey.synced and controller.synced):
            return None
        names = frozenset(pool.name for pool in controller.pools.objects.values())
        return self._survey.findings(controller.allocator.ledger.pools, names)

    def _tell(self, findings: tuple[Finding, ...]) -> None:
        """Each once, until it was mended and comes again."""
        told = set(self._told)
        news = [finding for finding in findings if finding not in told]
        self._told = findings
        for finding in news:
            kind = finding.resource.kind
            level = log.error if finding.fatal else log.warning
            level(
                "configuration_finding",
                kind=kind,
                name=finding.name,
                reason=finding.reason,
                text=finding.text,
            )
            about = Reference(
                finding.resource.api_version, kind, finding.namespace, finding.name, finding.uid
            )
            what = "configuration error: " if finding.reason == CONFIGURATION_ERROR else ""
            self._recorder.record(about, "Warning", finding.reason, f"{what}{finding.text}")

    # ----------------------------------------------------------------------- counters

    async def _bring_up_counters(self, found: PoolObject) -> None:
        pool = self._controller.allocator.ledger.pools.pools.get(found.name)
        if pool is None:
            return  # of a configuration that is not in force
        wanted = status.counters(pool, self._controller.allocator.ledger)
        if found.counters == wanted:
            return
        if (again := self._counted.get(found.uid, -inf) + COUNTERS_INTERVAL) > trio.current_time():
            self._due = min(self._due, again)
            return
        self._counted[found.uid] = trio.current_time()
        document = {
            "apiVersion": IP_ADDRESS_POOLS.api_version,  # which items of a list may lack
            "kind": IP_ADDRESS_POOLS.kind,
            **decode_document(found.document),
            "status": status.counters_json(wanted),
        }
        try:
            await self._api.replace(
                IP_ADDRESS_POOLS, found.name, document, namespace=found.namespace, subresource="status"
            )
        except (NotFound, Conflict):
            self._bell.ring()  # the watch brings what changed

    # ------------------------------------------------------------- ConfigurationState

    async def _bring_up_state(self, ours: Condition, findings: tuple[Finding, ...] | None) -> None:
        found = self.states.objects.get(f"{self._namespace}/{STATE_NAME}")
        if found is None:
            await self._create_state()
        there = found.conditions if found is not None else ()
        if findings is None:  # what was said last holds until we know better
            reviewed = [each for each in there if each.type == review.CONDITION_TYPE]
        else:
            reviewed = [review.condition(findings)]
        conditions = [ours, *reviewed]
        result, summary = judge(conditions)
        judged = found is not None and (found.result, found.error_summary) == (result.value, summary)
        try:
            for condition in conditions:
                if condition not in there:
                    await self._apply_condition(condition)
            if not judged:
                await self._write_result(result, summary)
        except NotFound:
            self._bell.ring()  # deleted just now; make it again

    async def _apply_condition(self, condition: Condition) -> None:
        now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": CONFIGURATION_STATES.api_version,
            "kind": CONFIGURATION_STATES.kind,
            "metadata": {"name": STATE_NAME, "namespace": self._namespace},
            "status": {
                "conditions": [
                    {
                        "type": condition.type,
                        "status": condition.status,
                        "reason": condition.reason,
                        "message": condition.message,
                        "lastTransitionTime": now,
                    }
                ],
            },
        }
        await self._api.patch(
            CONFIGURATION_STATES,
            STATE_NAME,
            body,
            namespace=self._namespace,
            subresource="status",
            kind=PatchType.APPLY,
            field_manager=FIELD_MANAGERS[condition.type],
            force=True,
        )

    async def _write_result(self, result: Result, summary: str) -> None:
        body = {"status": {"result": result.value, "errorSummary": summary}}
        await self._api.patch(
            CONFIGURATION_STATES, STATE_NAME, body, namespace=self._namespace, subresource="status"
        )

    async def _create_state(self) -> None:
        metadata: dict[str, Any] = {
            "name": STATE_NAME,
            "namespace": self._namespace,
            "labels": {COMPONENT_LABEL: "controller"},
        }
        if self._owner is None:
            self._owner = await self._find_owner()
        if self._owner:
            metadata["ownerReferences"] = [self._owner]
        body = {
            "apiVersion": CONFIGURATION_STATES.api_version,
            "kind": CONFIGURATION_STATES.kind,
            "metadata": metadata,
        }
        try:
            await self._api.create(CONFIGURATION_STATES, body, namespace=self._namespace)
        except AlreadyExists:
            log.debug("state_exists", name=STATE_NAME)

    async def _find_owner(self) -> dict[str, Any]:
        """Our pod; nobody when there is none of our name, as outside a cluster."""
        try:
            pod = Pod.decode(await self._api.get(PODS, self._pod_name, namespace=self._namespace))
        except (NotFound, DecodeError) as problem:
            log.warning("own_pod_not_found", pod=self._pod_name, error=problem)
            return {}
        return {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
