"""What follows from a value that is kept as it is while nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Source = TypeVar("Source")
Result = TypeVar("Result")


class Derived(Generic[Source, Result]):
    """Made anew only when the value is another object."""

    def __init__(self, make: Callable[[Source], Result]) -> None:
        self._make = make
        self._last: tuple[Source, Result] | None = None

    def of(self, source: Source) -> Result:
        if self._last is None or self._last[0] is not source:
            self._last = (source, self._make(source))
        return self._last[1]
