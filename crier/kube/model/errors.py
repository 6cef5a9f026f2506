"""The two ways an object from the API can be wrong."""

from __future__ import annotations

from collections.abc import Sequence


class DecodeError(ValueError):
    """The object does not have the shape its kind promises.  The only thing `decode` methods raise."""


class ConfigError(ValueError):
    """Well-shaped objects that say something impossible.

    `problems` has every fault found, each beginning with the path of the field at fault
    (`pool-a: spec.addresses[1]: ...`), not only the first.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        if not problems:
            raise ValueError("a ConfigError needs a problem")
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
