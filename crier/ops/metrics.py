"""Prometheus text exposition, as much of it as we need.

Not `prometheus_client`: it renames every counter to end in `_total`, and the names here are MetalLB's
(`metallb_layer2_requests_received`), which dashboards and alerts depend on.  Most of ours are not counted
here but reported by the reflex as totals, so a family is rendered from whatever mapping its owner holds.

    UPDATES = Counter("metallb_k8s_client_updates_total", "...")
    registry = Registry(UPDATES, ...)
    UPDATES.add()
    registry.render()

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, Protocol, TypeAlias

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES: Final = 20_000
"""Label combinations of one family; more are not rendered, so that a runaway label cannot fill the memory."""

Labels: TypeAlias = tuple[str, ...]
"""Values, in the order of the family's label names."""
Kind: TypeAlias = Literal["counter", "gauge"]

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Family(Protocol):
    """Anything that can be rendered."""

    name: str
    help: str
    kind: Kind
    labels: Labels

    def samples(self) -> Iterable[tuple[Labels, float]]: ...


class _Metric:
    kind: Kind

    def __init__(self, name: str, help: str, labels: Labels = ()) -> None:  # noqa: A002 - Prometheus's word
        if not _NAME.fullmatch(name):
            raise ValueError(f"metric name {name!r}")
        for label in labels:
            if not _LABEL.fullmatch(label):
                raise ValueError(f"label name {label!r} of {name}")
        self.name = name
        self.help = help
        self.labels = labels
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def _check(self, labels: Labels) -> None:
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has labels {self.labels}, given {labels}")

    def value(self, *labels: str) -> float:
        """The value now; 0 for a series that is not there."""
        return self._values.get(labels, 0.0)

    def samples(self) -> Iterator[tuple[Labels, float]]:
        yield from self._values.items()


class Counter(_Metric):
    """Only ever grows."""

    kind: Kind = "counter"

    def add(self, *labels: str, amount: float = 1.0) -> None:
        self._check(labels)
        if amount < 0:
            raise ValueError(f"{self.name} cannot shrink by {amount}")
        if labels in self._values or len(self._values) < MAX_SERIES:
            self._values[labels] = self._values.get(labels, 0.0) + amount


class Gauge(_Metric):
    kind: Kind = "gauge"

    def set(self, *labels: str, to: float) -> None:
        self._check(labels)
        if labels in self._values or len(self._values) < MAX_SERIES:
            self._values[labels] = to

    def remove(self, *labels: str) -> None:
        """The series disappears; no error if it was not there."""
        self._values.pop(labels, None)

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Exactly these series from now on."""
        for labels in values:
            self._check(labels)
        self._values = dict(values)


class Reported:
    """A family somebody else counts: `read` gives the series at the moment of scraping."""

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002
        kind: Kind,
        read: Callable[[], Iterable[tuple[Labels, float]]],
        labels: Labels = (),
    ) -> None:
        self.name, self.help, self.kind, self.labels = name, help, kind, labels
        self._read = read

    def samples(self) -> Iterable[tuple[Labels, float]]:
        return self._read()


class Registry:
    """The families of a program, rendered in the order of their names."""

    def __init__(self, *families: Family) -> None:
        self._families: dict[str, Family] = {}
        for family in families:
            self.add(family)

    def add(self, family: Family) -> None:
        if family.name in self._families:
            raise ValueError(f"two metrics of the name {family.name}")
        self._families[family.name] = family

    def render(self) -> bytes:
        lines: list[str] = []
        for _, family in sorted(self._families.items()):
            samples = sorted(family.samples())[:MAX_SERIES]
            if not samples:
                continue
            lines.append(f"# HELP {family.name} {_escape(family.help)}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines.extend(
                f"{family.name}{_braces(family.labels, labels)} {_number(value)}" for labels, value in samples
            )
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _braces(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = ",".join(
        f'{name}="{_escape(value, quote=True)}"' for name, value in zip(names, values, strict=True)
    )
    return f"{{{pairs}}}"


def _escape(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
