"""Failures on order: what a test tells the server to do wrong.

Decisions only; the shell acts on them.  Set in process through `Faults`, from outside by a POST of the same
fields to `/crier-lab/faults` (see `Order`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from crier.lab.api.errors import ApiError, bad_request

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Delay = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to requests of one sort."""

    verb: str = "*"
    """get, list, watch, create, update, patch, delete, deletecollection, or `*`."""
    resource: str = "*"
    """`services`, `services/status`, `ipaddresspools.metallb.io`, or `*`."""
    share: Share = 1.0
    """Of the requests that match, how many are hit."""
    status: Literal[409, 429, 500, 503, 504] | None = None
    """The answer instead of the real one; None answers truly, only late."""
    retry_after: Annotated[int, msgspec.Meta(ge=0, le=3600)] | None = None
    """Seconds, for 429 and 503; 1 when not given with 429."""
    latency: Delay = 0.0
    """Seconds before the answer, good or bad."""
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """How many requests are hit before the rule is spent; None is without end."""
    applied: bool = False
    """Carry it out nevertheless: with `status` the client is told of a failure that was none."""

    def matches(self, verb: str, resource: str) -> bool:
        return self.verb in ("*", verb) and self.resource in ("*", resource)


class Death(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Go away at the N-th request that matches, as a crash at that call would."""

    requests: Annotated[int, msgspec.Meta(ge=1)]
    verb: str = "*"
    resource: str = "*"
    applied: bool = False
    """Whether the last request is still carried out; it is never answered."""
    exit: bool = False
    """End the process; otherwise an outage begins, and the objects are there when it is over."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One POST.  What is absent stays as it is."""

    clear: bool = False
    """First forget all rules, the death and the outage."""
    rules: tuple[Rule, ...] | None = None
    """The rules from now on; the first that matches counts."""
    outage: bool | None = None
    """Reset every connection, except those to `/crier-lab/`."""
    drop_watches: bool = False
    """End all watches now, without a last word."""
    forget_history: bool = False
    """Answer 410 to whoever goes on from an earlier revision."""
    die_after: Death | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What to do with one request."""

    latency: float = 0.0
    error: ApiError | None = None
    applied: bool = True
    """Whether it is carried out."""
    death: Death | None = None


FINE = Verdict()


class Faults:
    """The orders in force, and the actions the shell hung in."""

    def __init__(self, *, rng: random.Random) -> None:
        self._rng = rng
        self.rules: tuple[Rule, ...] = ()
        self._hits: list[int] = []
        self._death: Death | None = None
        self._countdown = 0
        self.outage = False
        self.on_outage: Callable[[], None] = lambda: None
        self.on_drop_watches: Callable[[], None] = lambda: None
        self.on_forget: Callable[[], None] = lambda: None
        self.counted: dict[str, int] = {}
        """Requests seen, by `verb resource`: what tests assert on."""

    def obey(self, order: Order) -> None:
        if order.clear:
            self.clear()
        if order.rules is not None:
            self.rules = order.rules
            self._hits = [0] * len(order.rules)
        if order.die_after is not None:
            self._death, self._countdown = order.die_after, order.die_after.requests
        if order.forget_history:
            self.on_forget()
        if order.drop_watches:
            self.on_drop_watches()
        if order.outage is not None:
            self.set_outage(order.outage)

    def set(self, *rules: Rule) -> None:
        self.obey(Order(rules=rules))

    def clear(self) -> None:
        self.rules, self._hits, self._death = (), [], None
        self.set_outage(False)

    def set_outage(self, outage: bool) -> None:
        self.outage = outage
        if outage:
            self.on_outage()

    def drop_watches(self) -> None:
        self.on_drop_watches()

    def forget_history(self) -> None:
        self.on_forget()

    def die_after(self, requests: int, **how: bool | str) -> None:
        self.obey(Order(die_after=msgspec.convert({"requests": requests, **how}, Death)))

    def judge(self, verb: str, resource: str, name: str) -> Verdict:
        """What happens to this request; counts it."""
        label = f"{verb} {resource}"
        self.counted[label] = self.counted.get(label, 0) + 1
        death = self._death
        if death is not None and death.verb in ("*", verb) and death.resource in ("*", resource):
            self._countdown -= 1
            if self._countdown <= 0:
                self._death = None
                return Verdict(applied=death.applied, death=death)
        for index, rule in enumerate(self.rules):
            if not rule.matches(verb, resource) or (
                rule.times is not None and self._hits[index] >= rule.times
            ):
                continue
            if rule.share < 1.0 and self._rng.random() >= rule.share:
                continue
            self._hits[index] += 1
            if rule.status is None:
                return Verdict(latency=rule.latency)
            return Verdict(rule.latency, _error(rule, resource, name), applied=rule.applied)
        return FINE

    def report(self) -> dict[str, object]:
        """For GET: what is in force and what was seen."""
        return {
            "outage": self.outage,
            "rules": [
                {**msgspec.to_builtins(rule), "hits": hits}
                for rule, hits in zip(self.rules, self._hits, strict=True)
            ],
            "die_after": msgspec.to_builtins(self._death) if self._death else None,
            "counted": self.counted,
        }


def parse_order(data: bytes) -> Order:
    """The order in a POST's body.

    Raises:
        ApiError: 400, naming the field.
    """
    try:
        return msgspec.json.decode(data or b"{}", type=Order)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise bad_request(f"faults: {error}") from None


def _error(rule: Rule, resource: str, name: str) -> ApiError:
    match rule.status:
        case 409:
            why = (
                "the object has been modified; please apply your changes to the latest version and try again"
            )
            return ApiError(409, f'Operation cannot be fulfilled on {resource} "{name}": {why}')
        case 429:
            retry_after = 1 if rule.retry_after is None else rule.retry_after
            return ApiError(429, "Too many requests, please try again later.", retry_after=retry_after)
        case 503:
            return ApiError(
                503, "the server is currently unable to handle the request", retry_after=rule.retry_after
            )
        case 504:
            return ApiError(504, "the server was unable to return a response in the time allotted")
    return ApiError(500, "Internal error occurred: ordered by a test")
