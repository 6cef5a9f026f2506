"""Durations as Go writes them: `90s`, `1m30s`, `1.5h`, `0`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

_UNITS: Final = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),  # the micro sign
    "μs": Fraction(1, 10**6),  # the Greek letter, which Go takes too
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_NUMBER: Final = r"(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})"
_PART: Final = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h)")
_MAX_TEXT: Final = 64
_MAX_SECONDS: Final = (2**63 - 1) // 10**9
"""What Go's 64 bits of nanoseconds hold."""


def parse_duration(text: str) -> Fraction:
    """Seconds, exactly; negative ones too.

    Raises:
        ValueError: Go would not take the text either, or it has more than 64 characters.
    """
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("+", "-") else text
    if len(text) > _MAX_TEXT:
        raise ValueError("invalid duration: it is longer than 64 characters")
    if rest == "0":
        return Fraction(0)
    total, at = Fraction(0), 0
    while at < len(rest):
        match = _PART.match(rest, at)
        if match is None:
            raise ValueError(f"invalid duration {text!r}: must be like 90s, 1m30s or 500ms")
        number = match[1].rstrip(".")
        total += Fraction(f"0{number}") * _UNITS[match[2]]
        at = match.end()
    if not at or total > _MAX_SECONDS:
        raise ValueError(f"invalid duration {text!r}: must be like 90s, 1m30s or 500ms")
    return sign * total
