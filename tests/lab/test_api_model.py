"""Random operations against the simplest model that could be right; pages and watches against the lists."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crier.lab.api.calls import Request
from crier.lab.api.cluster import new_cluster
from crier.lab.api.handler import Response, WatchResponse
from crier.lab.api.watches import Watch

MAPS = "/api/v1/namespaces/default/configmaps"
NAMES = st.sampled_from(["a", "b", "c", "d"])
LABELS = st.sampled_from(["red", "blue"])
VALUES = st.sampled_from(["1", "2", "3"])


class Follower:
    """A client that lists, then watches, and keeps what it saw: it must come out where the server is."""

    def __init__(self, selector: str, listed: dict[str, Any], watch: Watch) -> None:
        self.selector = selector
        self.seen = {thing["metadata"]["name"]: thing for thing in listed["items"]}
        self.revision = int(listed["metadata"]["resourceVersion"])
        """Of the last event."""
        self.caught_up_at = self.revision
        """Up to where everything has been looked at, selected or not."""
        self.watch = watch

    def catch_up(self) -> None:
        while data := self.watch.take(0.0):
            for line in data.splitlines():
                self._apply(json.loads(line))

    def _apply(self, event: dict[str, Any]) -> None:
        thing = event["object"]
        name = thing["metadata"]["name"]
        revision = int(thing["metadata"]["resourceVersion"])
        assert revision > self.revision, "events come in order, each once"
        self.revision = revision
        match event["type"]:
            case "ADDED":
                assert name not in self.seen
                self.seen[name] = thing
            case "MODIFIED":
                assert name in self.seen
                self.seen[name] = thing
            case "DELETED":
                del self.seen[name]


class ServerAgainstModel(RuleBasedStateMachine):
    """Names to (label, data); revisions only grow; stale writers conflict."""

    def __init__(self) -> None:
        super().__init__()
        cluster = new_cluster(seed=0, now=0.0, history=1)  # short, so that watches do lose their place
        self.handler = cluster.handler
        self.store = cluster.store
        self.model: dict[str, tuple[str, str]] = {}
        self.readings: dict[str, dict[str, Any]] = {}
        self.followers: list[Follower] = []

    def ask(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> tuple[int, Any]:
        data = b"" if body is None else json.dumps(body).encode()
        answer = self.handler.plan(Request(method, path, {"content-type": kind}, data)).run(0.0)
        assert isinstance(answer, Response)
        return answer.status, json.loads(answer.body)

    @rule(name=NAMES, label=LABELS, value=VALUES)
    def create(self, name: str, label: str, value: str) -> None:
        body = {"metadata": {"name": name, "labels": {"colour": label}}, "data": {"v": value}}
        status, made = self.ask("POST", MAPS, body)
        assert status == (409 if name in self.model else 201)
        if status == 201:
            self.model[name] = (label, value)
            assert made["data"] == {"v": value}

    @rule(name=NAMES)
    def read(self, name: str) -> None:
        status, thing = self.ask("GET", f"{MAPS}/{name}")
        assert status == (200 if name in self.model else 404)
        if status == 200:
            self.readings[name] = thing

    @rule(name=NAMES, value=VALUES)
    def write_what_was_read(self, name: str, value: str) -> None:
        reading = self.readings.get(name)
        if reading is None:
            return
        current = self.store.get("configmaps", ("default", name))
        status, _ = self.ask("PUT", f"{MAPS}/{name}", {**reading, "data": {"v": value}})
        if current is None:
            assert status == 404
        elif current["metadata"]["resourceVersion"] != reading["metadata"]["resourceVersion"]:
            assert status == 409
        else:
            assert status == 200
            self.model[name] = (self.model[name][0], value)

    @rule(name=NAMES, label=LABELS)
    def relabel(self, name: str, label: str) -> None:
        before = self.store.revision
        patch = {"metadata": {"labels": {"colour": label}}}
        status, _ = self.ask("PATCH", f"{MAPS}/{name}", patch, "application/merge-patch+json")
        assert status == (200 if name in self.model else 404)
        if status == 200:
            changed = self.model[name][0] != label
            assert self.store.revision == before + changed, "what changes nothing is not written"
            self.model[name] = (label, self.model[name][1])

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        status, _ = self.ask("DELETE", f"{MAPS}/{name}")
        assert status == (200 if name in self.model else 404)
        self.model.pop(name, None)

    @rule(selector=st.sampled_from(["", "colour=red", "colour!=red"]))
    def follow(self, selector: str) -> None:
        query = f"labelSelector={selector}"
        _, listed = self.ask("GET", f"{MAPS}?{query}")
        revision = listed["metadata"]["resourceVersion"]
        answer = self.handler.plan(
            Request("GET", f"{MAPS}?watch=1&{query}&resourceVersion={revision}", {})
        ).run(0.0)
        assert isinstance(answer, WatchResponse), "nothing is forgotten that was listed just now"
        self.followers = [*self.followers[-3:], Follower(selector, listed, answer.watch)]

    @precondition(lambda self: self.followers)
    @rule(limit=st.integers(1, 3))
    def catch_up(self, limit: int) -> None:
        for follower in self.followers[:limit]:
            if follower.caught_up_at < self.store.log("configmaps").floor:
                assert b'"code":410' in (follower.watch.take(0.0) or b""), "who fell behind is told"
                assert follower.watch.take(0.0) is None
                self.followers.remove(follower)
                continue
            follower.catch_up()
            follower.caught_up_at = self.store.revision
            _, listed = self.ask("GET", f"{MAPS}?labelSelector={follower.selector}")
            assert follower.seen == {thing["metadata"]["name"]: thing for thing in listed["items"]}

    @rule(limit=st.integers(1, 3))
    def read_in_pages(self, limit: int) -> None:
        names, token = [], ""
        while True:
            _, page = self.ask("GET", f"{MAPS}?limit={limit}&continue={token}")
            assert len(page["items"]) <= limit
            names += [thing["metadata"]["name"] for thing in page["items"]]
            token = page["metadata"].get("continue", "")
            if not token:
                break
        assert names == sorted(self.model)

    @invariant()
    def the_list_is_the_model(self) -> None:
        _, listed = self.ask("GET", MAPS)
        shown = {
            thing["metadata"]["name"]: (thing["metadata"]["labels"]["colour"], thing["data"]["v"])
            for thing in listed["items"]
        }
        assert shown == self.model
        assert int(listed["metadata"]["resourceVersion"]) == self.store.revision


TestServerAgainstModel = ServerAgainstModel.TestCase
TestServerAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
