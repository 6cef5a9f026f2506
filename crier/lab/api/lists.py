"""Paged lists: every page of one list is from the same moment.

A stored object never changes, so the rest of a list is kept as it was when the first page went out.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from crier.lab.api.errors import bad_request, expired
from crier.lab.api.kinds import Kind
from crier.lab.api.store import Object, Store
from crier.lab.api.watches import Selection

MAX_UNFINISHED: Final = 256
"""Lists whose rest is kept; the one asked for longest ago goes first, and its next page is a 410."""


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Object]
    revision: int
    following: str
    """The `continue` token, "" on the last page."""
    remaining: int | None
    """Known only where nothing is selected (as the real server has it)."""


@dataclass(frozen=True, slots=True)
class _Rest:
    items: list[Object]
    revision: int
    resource: str
    counted: bool


class Pages:
    """Lists in progress."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unfinished: OrderedDict[str, _Rest] = OrderedDict()
        self._serial = 0

    def forget(self) -> None:
        self._unfinished.clear()

    def check_exact(self, revision: int) -> None:
        """Raises: ApiError: 410, lists as of another moment than now are not kept."""
        if revision != self._store.revision:
            raise expired(f"The provided resource version is too old: {revision}")

    def page(self, kind: Kind, selection: Selection, limit: int, token: str) -> Page:
        """The first page, or with a token the one after.

        Raises:
            ApiError: 400, the token is none of ours; 410, its list is no longer kept.
        """
        if token:
            rest = self._resume(kind, token)
        else:
            items = [
                thing
                for thing in self._store.list(kind.stored_as, selection.namespace)
                if selection.is_everything or selection.matches(thing)
            ]
            rest = _Rest(items, self._store.revision, kind.resource, selection.is_everything)
        if not limit or limit >= len(rest.items):
            return Page(rest.items, rest.revision, "", None)
        left = rest.items[limit:]
        following = self._keep(_Rest(left, rest.revision, rest.resource, rest.counted))
        return Page(rest.items[:limit], rest.revision, following, len(left) if rest.counted else None)

    def _keep(self, rest: _Rest) -> str:
        self._serial += 1
        name = f"{rest.revision}.{self._serial}"
        self._unfinished[name] = rest
        if len(self._unfinished) > MAX_UNFINISHED:
            self._unfinished.popitem(last=False)
        return base64.urlsafe_b64encode(name.encode()).decode()

    def _resume(self, kind: Kind, token: str) -> _Rest:
        try:
            name = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
        except (binascii.Error, UnicodeError, ValueError):
            raise bad_request("continue key is not valid: illegal base64 data") from None
        rest = self._unfinished.get(name)
        if rest is None:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. "
                "You can start a new list without the continue parameter."
            )
        if rest.resource != kind.resource:
            raise bad_request("continue key is not valid: it belongs to another list")
        self._unfinished.move_to_end(name)
        return rest
