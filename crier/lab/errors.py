"""What the lab raises on purpose."""

from __future__ import annotations


class LabError(Exception):
    """Something the lab needs did not happen; the text says what and, where known, why."""


class NotPossible(LabError):
    """This machine or this user cannot run the lab at all: not root, no namespaces, a tool is missing."""
