"""What the package raises on purpose."""

from __future__ import annotations

import os


class MemberlistError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(MemberlistError):
    """A setting is out of range or contradicts another; the text names the field and what would be right."""


class DecodeError(MemberlistError):
    """The only thing a decoder raises, whatever the octets."""


class JoinError(MemberlistError):
    """Not one of the addresses could be joined; the text says why for each."""


class Timeout(MemberlistError):
    """The broadcast of a leave or an update was not finished in time; it may still reach everybody."""


class CannotSendError(MemberlistError):
    """What was to be sent is more than peers read; the text says how much that is."""


def reason(problem: Exception) -> str:
    """What went wrong, for who has said already with whom: a system's error without number and address."""
    number = problem.errno if isinstance(problem, OSError) else None
    return os.strerror(number) if number else str(problem)
