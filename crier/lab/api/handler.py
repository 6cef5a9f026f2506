"""One HTTP request in, one answer or one watch out: the API without sockets.

Faults are judged here and acted on in the shell; authentication is by bearer token, when there are tokens.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from crier.lab.api import discovery, podproxy, reviews
from crier.lab.api.body import decode
from crier.lab.api.calls import (
    JSON,
    Call,
    Request,
    parse_delete_options,
    parse_number,
    parse_revision,
    parse_selection,
    parse_verb,
    parse_write,
    table_wanted,
)
from crier.lab.api.convert import to_version
from crier.lab.api.errors import ApiError, bad_request, method_not_allowed, no_such_path
from crier.lab.api.faults import Faults, Verdict, parse_order
from crier.lab.api.forms import JsonForm, TableForm
from crier.lab.api.kinds import Kinds
from crier.lab.api.lists import Pages
from crier.lab.api.registry import Registry, scale_of
from crier.lab.api.routes import Target, parse_target
from crier.lab.api.store import Object, Store
from crier.lab.api.tables import table
from crier.lab.api.watches import Watch

log = logging.getLogger(__name__)

OPENAPI_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""What kubectl asks for; the answer names itself without the `@`, which is no MIME character."""

MIN_WATCH: Final = 1800.0
"""Seconds a watch without `timeoutSeconds` lasts at least; at most twice that (as the real server)."""


TOKEN_SECONDS: Final = 3600
"""How long a service account's token is said to be good; it is for ever."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class WatchResponse:
    watch: Watch
    content_type: str = JSON


Answer = Response | WatchResponse | podproxy.Visit


@dataclass(frozen=True, slots=True)
class Plan:
    """A request understood: its verdict is known, carrying it out is `run`."""

    verdict: Verdict
    run: Callable[[float], Answer]
    """Takes the time; never raises `ApiError`."""
    is_control: bool = False


class Handler:
    """The API over one store."""

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        *,
        rng: random.Random,
        faults: Faults,
        tokens: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._rng = rng
        self._faults = faults
        self._tokens = dict(tokens or {})
        self._minted: dict[str, str] = {}
        """Tokens of service accounts; they open no door here, but others ask whose they are."""
        self.registry = Registry(store, kinds, rng=rng)
        self._pages = Pages(store)

    def forget(self) -> None:
        """Compact: no watch or list goes on from before now."""
        self._store.forget()
        self._pages.forget()

    def plan(self, request: Request) -> Plan:
        """What a request asks for and what is to happen to it; nothing has been done yet."""
        try:
            call = self._parse(request)
        except ApiError as error:
            answer = refusal(error)
            return Plan(Verdict(), lambda _: answer)
        if call.control:
            return Plan(Verdict(), lambda _: self._control(call), is_control=True)
        verdict = self._faults.judge(call.verb, call.resource, call.name)
        return Plan(verdict, lambda now: self._run(call, now))

    def _parse(self, request: Request) -> Call:
        try:
            url = urlsplit(request.target)
            query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
            path = "/".join(unquote(step, errors="strict") for step in url.path.split("/"))
        except (UnicodeDecodeError, ValueError):
            raise bad_request("the request line cannot be understood") from None
        call = Call(request, path, query, control=path.startswith("/crier-lab/"))
        if call.control or path in _OPEN_PATHS:
            return call
        self._authenticate(request, call)
        if path.startswith(("/api/", "/apis/")) and not _is_discovery(path) and not _is_virtual(path):
            call.target = parse_target(path, self._kinds)
            call.verb = parse_verb(request.method, call.target, query)
        return call

    def _authenticate(self, request: Request, call: Call) -> None:
        if not self._tokens:
            call.user = "system:admin"
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        user = self._tokens.get(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise ApiError(401, "Unauthorized")
        call.user = user

    def _run(self, call: Call, now: float) -> Answer:
        try:
            return self._dispatch(call, now)
        except ApiError as error:
            return refusal(error)
        except RecursionError:
            return refusal(bad_request("the object is nested too deeply"))
        except Exception:
            # A bug of ours, met by one request: the others go on, as behind the real server's panic handler.
            log.exception("a request failed: %s %s", call.request.method, call.path)
            return refusal(ApiError(500, "Internal error occurred: see the server's log"))
        finally:
            if self.registry.garbage.pending:
                self.registry.garbage.collect(now)

    def _dispatch(self, call: Call, now: float) -> Answer:
        if call.target is not None:
            return self._resource(call, call.target, now)
        if reviews.is_review(call.path):
            if call.request.method != "POST":
                raise method_not_allowed()
            body = decode(call.request.body, call.content_type)
            return answer(reviews.review(call.path, body, call.user, self._tokens | self._minted), 201)
        if (account := podproxy.parse_token_path(call.path)) is not None:
            return self._token(call, account, now)
        if call.request.method not in ("GET", "HEAD"):
            raise (
                method_not_allowed()
                if call.path in _OPEN_PATHS or _is_discovery(call.path)
                else no_such_path()
            )
        return self._document(call)

    def _token(self, call: Call, account: tuple[str, str], now: float) -> Response:
        if call.request.method != "POST":
            raise method_not_allowed()
        body = decode(call.request.body, call.content_type)
        self._core("serviceaccounts", *account)  # there must be one
        until = datetime.fromtimestamp(now + TOKEN_SECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return answer(podproxy.token_request(*account, body, self._mint, until), 201)

    def _mint(self, user: str) -> str:
        token = f"lab-{self._rng.getrandbits(128):032x}"
        self._minted[token] = user
        return token

    def _core(self, plural: str, namespace: str, name: str) -> Object:
        """An object of the core group.  Raises ApiError: 404."""
        kind = self._kinds.find("", "v1", plural)
        assert kind is not None, "a core kind"
        return self.registry.get(kind, "v1", namespace, name)

    def _document(self, call: Call) -> Response | podproxy.Visit:
        if (pod := podproxy.parse_pod_path(call.path)) is not None:
            return podproxy.visit(pod, self._core("pods", pod.namespace, pod.name), call.request.headers)
        match [step for step in call.path.split("/") if step]:
            case ["healthz" | "readyz" | "livez", *_]:
                return Response(200, b"ok", "text/plain; charset=utf-8")
            case ["version"]:
                return answer(dict(discovery.VERSION))
            case ["api"]:
                return answer(discovery.api_versions())
            case ["api", "v1"]:
                return answer(discovery.api_resources(self._kinds, "", "v1"))
            case ["apis"]:
                return answer(discovery.api_groups(self._kinds))
            case ["apis", group]:
                return answer(discovery.api_group(self._kinds, group))
            case ["apis", group, version]:
                return answer(discovery.api_resources(self._kinds, group, version))
            case ["openapi", "v2"]:
                if OPENAPI_PROTOBUF in call.accept and JSON not in call.accept.split(","):
                    return Response(200, discovery.openapi_v2_protobuf(), OPENAPI_PROTOBUF.replace("@", "."))
                return answer(discovery.openapi_v2(self._kinds))
            case ["openapi", "v3"]:
                return answer(discovery.openapi_v3_index(self._kinds))
            case ["openapi", "v3", "api", "v1"]:
                return answer(discovery.openapi_v3(self._kinds, "", "v1"))
            case ["openapi", "v3", "apis", group, version]:
                return answer(discovery.openapi_v3(self._kinds, group, version))
            case []:
                paths = ["/api", "/api/v1", "/apis", "/healthz", "/openapi/v2", "/openapi/v3", "/version"]
                return answer({"paths": paths})
        raise no_such_path()

    def _control(self, call: Call) -> Response:
        try:
            match call.request.method, call.path:
                case "GET", "/crier-lab/faults":
                    return answer(self._faults.report())
                case "POST", "/crier-lab/faults":
                    self._faults.obey(parse_order(call.request.body))
                    return answer(self._faults.report())
            raise no_such_path()
        except ApiError as error:
            return refusal(error)

    # ---------------------------------------------------------------------------------- resources

    def _resource(self, call: Call, target: Target, now: float) -> Answer:
        match call.verb:
            case "get":
                found = self.registry.get(target.kind, target.version, target.namespace, target.name)
                if target.subresource == "scale":
                    return answer(scale_of(found))
                return self._shown(call, target, found, now)
            case "list":
                return self._list(call, target, now)
            case "watch":
                return self._watch(call, target, now)
            case "create":
                body = decode(call.request.body, call.content_type)
                write = parse_write(call, now)
                made = self.registry.create(target.kind, target.version, target.namespace, body, write)
                return self._shown(call, target, made, now, 201)
            case "update":
                body = decode(call.request.body, call.content_type)
                key = (target.namespace, target.name)
                args = (target.kind, target.version, key, target.subresource, body, parse_write(call, now))
                return self._shown(call, target, self.registry.update(*args), now)
            case "patch":
                return self._patch(call, target, now)
            case "delete":
                return self._delete(call, target, now)
            case "deletecollection":
                return self._delete_collection(call, target, now)
        raise method_not_allowed()

    def _patch(self, call: Call, target: Target, now: float) -> Response:
        body = decode(call.request.body, call.content_type)
        key = (target.namespace, target.name)
        patched, is_new = self.registry.patch(
            target.kind,
            target.version,
            key,
            target.subresource,
            call.content_type,
            body,
            parse_write(call, now),
        )
        return self._shown(call, target, patched, now, 201 if is_new else 200)

    def _delete(self, call: Call, target: Target, now: float) -> Response:
        options = parse_delete_options(call)
        key = (target.namespace, target.name)
        deleted, gone = self.registry.delete(
            target.kind, target.version, key, options, parse_write(call, now, options)
        )
        if not gone or target.kind.resource in _DELETE_RETURNS_OBJECT:
            return answer(deleted)
        details = {
            "name": target.name, "group": target.kind.group, "kind": target.kind.plural,
            "uid": deleted["metadata"]["uid"],
        }  # fmt: skip
        success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return answer({**success, "details": {name: value for name, value in details.items() if value}})

    def _delete_collection(self, call: Call, target: Target, now: float) -> Response:
        options = parse_delete_options(call)
        selection = parse_selection(call, target)
        write = parse_write(call, now, options)
        matching = [thing for thing in self._store.list(target.kind.stored_as) if selection.matches(thing)]
        deleted = []
        for thing in matching:
            metadata = thing["metadata"]
            key = (metadata.get("namespace", ""), metadata["name"])
            if self._store.get(target.kind.stored_as, key) is not None:  # not taken along by another
                deleted.append(self.registry.delete(target.kind, target.version, key, options, write)[0])
        return answer(
            {
                "kind": f"{target.kind.kind}List",
                "apiVersion": target.kind.api_version(target.version),
                "metadata": {"resourceVersion": str(self._store.revision)},
                "items": deleted,
            }
        )

    def _list(self, call: Call, target: Target, now: float) -> Response:
        limit = parse_number(call.query, "limit") or 0
        revision = parse_revision(call.query)
        if revision is not None and revision > self._store.revision:
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            message = f"Too large resource version: {revision}, current: {self._store.revision}"
            raise ApiError(504, message, details={"causes": [cause], "retryAfterSeconds": 1})
        if revision and call.query.get("resourceVersionMatch") == "Exact":
            self._pages.check_exact(revision)
        page = self._pages.page(
            target.kind, parse_selection(call, target), limit, call.query.get("continue", "")
        )
        metadata: Object = {"resourceVersion": str(page.revision)}
        if page.following:
            metadata["continue"] = page.following
            if page.remaining is not None:
                metadata["remainingItemCount"] = page.remaining
        items = [to_version(target.kind, target.version, thing) for thing in page.items]
        if include := table_wanted(call):
            return answer(table(target.kind, items, metadata, now=now, include=include))
        return answer(
            {
                "kind": f"{target.kind.kind}List",
                "apiVersion": target.kind.api_version(target.version),
                "metadata": metadata,
                "items": items,
            }
        )

    def _watch(self, call: Call, target: Target, now: float) -> WatchResponse:
        revision = parse_revision(call.query)
        wants_initial = call.query.get("sendInitialEvents", "").lower() == "true"
        timeout = parse_number(call.query, "timeoutSeconds")
        include = table_wanted(call)
        form = TableForm(target, include) if include else JsonForm(target)
        watch = Watch(
            self._store,
            target.kind,
            parse_selection(call, target),
            form,
            version=target.version,
            revision=revision,
            initial=not revision or wants_initial,
            mark_initial=wants_initial,
            bookmarks=call.query.get("allowWatchBookmarks", "").lower() in ("true", "1"),
            now=now,
            timeout=float(timeout) if timeout else self._rng.uniform(MIN_WATCH, 2 * MIN_WATCH),
        )
        return WatchResponse(watch)

    def _shown(self, call: Call, target: Target, thing: Object, now: float, status: int = 200) -> Response:
        if (include := table_wanted(call)) and target.subresource != "scale":
            metadata = {"resourceVersion": thing["metadata"].get("resourceVersion", "")}
            return answer(table(target.kind, [thing], metadata, now=now, include=include), status)
        return answer(thing, status)


_OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/livez", "/version"})
_DELETE_RETURNS_OBJECT: Final = frozenset({"pods", "services", "serviceaccounts", "resourcequotas"})


def answer(value: Any, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(value) + b"\n")


def refusal(error: ApiError) -> Response:
    headers: tuple[tuple[str, str], ...] = ()
    if error.retry_after is not None:
        headers = (("Retry-After", str(error.retry_after)),)
    return Response(error.code, msgspec.json.encode(error.body()) + b"\n", headers=headers)


def _is_discovery(path: str) -> bool:
    steps = [step for step in path.split("/") if step]
    return len(steps) <= (2 if steps[:1] == ["api"] else 3)


def _is_virtual(path: str) -> bool:
    """What is answered without an object that is stored."""
    return (
        reviews.is_review(path)
        or podproxy.parse_token_path(path) is not None
        or podproxy.parse_pod_path(path) is not None
    )
