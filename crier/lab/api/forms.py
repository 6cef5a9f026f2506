"""How objects are written into a watch: as they are, or as rows of a Table."""

from __future__ import annotations

from dataclasses import dataclass

from crier.lab.api.convert import to_version
from crier.lab.api.routes import Target
from crier.lab.api.store import Object
from crier.lab.api.tables import table


@dataclass(frozen=True, slots=True)
class JsonForm:
    target: Target

    @property
    def name(self) -> tuple[str, ...]:
        return ("json",)

    def event(self, thing: Object, now: float, *, first: bool) -> Object:
        del now, first
        return to_version(self.target.kind, self.target.version, thing)


@dataclass(frozen=True, slots=True)
class TableForm:
    target: Target
    include: str

    @property
    def name(self) -> tuple[str, ...]:
        return ("table", self.include)

    def event(self, thing: Object, now: float, *, first: bool) -> Object:
        shown = to_version(self.target.kind, self.target.version, thing)
        metadata = {"resourceVersion": thing["metadata"]["resourceVersion"]}
        return table(self.target.kind, [shown], metadata, now=now, include=self.include, heads=first)
