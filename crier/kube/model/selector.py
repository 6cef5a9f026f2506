"""Label selectors: checked once, then matched without doubt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec


class Operator(Enum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class ExpressionWire(msgspec.Struct, frozen=True):
    key: str = ""
    operator: str = ""
    values: tuple[str, ...] | None = None


class SelectorWire(msgspec.Struct, frozen=True, rename="camel"):
    """A LabelSelector as it stands in an object."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[ExpressionWire, ...] | None = None


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                # An absent label is not in any set: Kubernetes matches it too.
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels

    def __str__(self) -> str:
        values = ",".join(sorted(self.values))
        match self.operator:
            case Operator.IN if len(self.values) == 1:
                return f"{self.key}={values}"
            case Operator.IN:
                return f"{self.key} in ({values})"
            case Operator.NOT_IN:
                return f"{self.key} notin ({values})"
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; none at all matches everything.  `str()` is kubectl's notation."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


def any_matches(selectors: Sequence[Selector], labels: Mapping[str, str]) -> bool:
    """OR over the selectors; none at all matches everything, as everywhere in the metallb.io kinds."""
    return not selectors or any(selector.matches(labels) for selector in selectors)


def duplicates(items: Iterable[str]) -> list[str]:
    """What occurs more than once, sorted."""
    return sorted(item for item, times in Counter(items).items() if times > 1)


def parse_selectors(
    found: Iterable[SelectorWire] | None, path: str, problems: list[str]
) -> tuple[Selector, ...]:
    """Check a list of selectors; what is wrong with it goes to `problems`, each fault with its path."""
    seen: set[bytes] = set()
    selectors: list[Selector] = []
    name = path.rpartition(".")[2]
    for index, wire in enumerate(found or ()):
        selector = parse_selector(wire, f"{path}[{index}]", problems)
        written = msgspec.json.encode(wire, order="deterministic")
        if written in seen:
            problems.append(f"{path}[{index}]: duplicate definition of {name} {str(selector)!r}")
        seen.add(written)
        selectors.append(selector)
    return tuple(selectors)


def parse_selector(wire: SelectorWire, path: str, problems: list[str]) -> Selector:
    """Check one selector; what is wrong with it goes to `problems`, each fault with its path."""
    requirements: list[Requirement] = []
    for key, value in sorted((wire.match_labels or {}).items()):
        where = f"{path}.matchLabels"
        _check_key(key, where, problems)
        _check_value(value, where, problems)
        requirements.append(Requirement(key, Operator.IN, frozenset({value})))
    seen: set[ExpressionWire] = set()
    for index, expression in enumerate(wire.match_expressions or ()):
        where = f"{path}.matchExpressions[{index}]"
        requirement = _parse_expression(expression, where, problems)
        if expression in seen:
            problems.append(f"{where}: duplicate definition of match expressions {expression.key!r}")
        seen.add(expression)
        if requirement is not None:
            requirements.append(requirement)
    return Selector(tuple(requirements))


def _parse_expression(expression: ExpressionWire, path: str, problems: list[str]) -> Requirement | None:
    _check_key(expression.key, f"{path}.key", problems)
    values = expression.values or ()
    for index, value in enumerate(values):
        _check_value(value, f"{path}.values[{index}]", problems)
    if len(set(values)) != len(values):
        twice = ", ".join(duplicates(values))
        problems.append(
            f"{path}.values: duplicate definition of match expression value in label selector: {twice}"
        )
    try:
        operator = Operator(expression.operator)
    except ValueError:
        known = ", ".join(each.value for each in Operator)
        why = f"invalid label selector operator {expression.operator!r}: must be one of {known}"
        problems.append(f"{path}.operator: {why}")
        return None
    if operator in (Operator.IN, Operator.NOT_IN) and not values:
        problems.append(f"{path}.values: invalid label selector: {operator.value} needs values")
    if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and values:
        problems.append(f"{path}.values: invalid label selector: {operator.value} takes no values")
    return Requirement(expression.key, operator, frozenset(values))


# Kubernetes' qualified name: an optional DNS subdomain, then a name of at most 63 characters.
_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def _check_key(key: str, path: str, problems: list[str]) -> None:
    prefix, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and not _PREFIX.fullmatch(prefix)):
        problems.append(f"{path}: invalid label selector: {key!r} is not a label key")


def _check_value(value: str, path: str, problems: list[str]) -> None:
    if value and not _NAME.fullmatch(value):
        problems.append(f"{path}: invalid label selector: {value!r} is not a label value")
