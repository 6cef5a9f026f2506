"""What the controller and the program that makes certificates say to each other."""

from __future__ import annotations

from typing import Final

import msgspec

CA: Final = "ca.crt"
CA_KEY: Final = "ca.key"
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
"""Keys of the Secret."""


class Task(msgspec.Struct, frozen=True):
    names: tuple[str, ...]
    data: dict[str, bytes]
    """base64 in JSON, as in a Secret."""


class Outcome(msgspec.Struct, frozen=True):
    data: dict[str, bytes]
    changed: bool
