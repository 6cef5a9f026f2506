"""What can go wrong with a request, one class per way a caller may want to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec


class ApiError(Exception):
    """The API said no, or could not be asked."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else f"{reason}: {message}")
        self.status = status
        """HTTP status; 0 when there was no answer."""
        self.reason = reason
        """Kubernetes' reason, such as `NotFound`; "Unavailable" when there was no answer."""
        self.message = message


class NotFound(ApiError):
    """404: no such object, or no such kind."""


class AlreadyExists(ApiError):
    """409 on create."""


class Conflict(ApiError):
    """409 otherwise: the object changed since it was read.  Read it again, then decide again."""


class Gone(ApiError):
    """410: that resourceVersion or continue token is too old.  List again."""


class Forbidden(ApiError):
    """401 or 403."""


class Invalid(ApiError):
    """422: the object breaks a rule of its schema."""


class TooManyRequests(ApiError):
    """429, or 503 with a time to come back."""

    retry_after: float = 1.0
    """Seconds."""


class Unavailable(ApiError):
    """No answer, or one from a proxy in between: try again later."""


class _DetailsWire(msgspec.Struct, frozen=True, rename="camel"):
    retry_after_seconds: float | None = None


class StatusWire(msgspec.Struct, frozen=True):
    """metav1.Status, the body of every refusal."""

    reason: str | None = None
    message: str | None = None
    code: int | None = None
    details: _DetailsWire | None = None


_STATUS: Final = msgspec.json.Decoder(StatusWire)
_MAX_MESSAGE: Final = 4096
_MAX_RETRY_AFTER: Final = 300.0
_KINDS: Final[Mapping[int, type[ApiError]]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def unavailable(why: str) -> Unavailable:
    return Unavailable(0, "Unavailable", why)


def api_error(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The error an HTTP answer stands for.  `body` and `retry_after` (a header) may be anything."""
    try:
        return status_error(_STATUS.decode(body), status, retry_after)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = body[:_MAX_MESSAGE].decode("utf-8", "replace").strip() or "no explanation"
        return status_error(StatusWire(message=text), status, retry_after)


def status_error(found: StatusWire, status: int = 0, retry_after: str | None = None) -> ApiError:
    """The error a Status stands for; `status` is used where it does not say its own code."""
    status = status or found.code or 500
    reason = found.reason or f"HTTP {status}"
    message = (found.message or "no explanation")[:_MAX_MESSAGE]
    if status == 409:
        return (AlreadyExists if found.reason == "AlreadyExists" else Conflict)(status, reason, message)
    wait = _wait(retry_after, found)
    if status == 429 or (status == 503 and wait is not None):
        error = TooManyRequests(status, reason, message)
        error.retry_after = 1.0 if wait is None else wait
        return error
    return _KINDS.get(status, ApiError)(status, reason, message)


def _wait(header: str | None, found: StatusWire) -> float | None:
    if header is not None and header.isascii() and header.isdigit() and len(header) < 6:
        return min(float(header), _MAX_RETRY_AFTER)
    if found.details is not None and found.details.retry_after_seconds:
        return min(max(found.details.retry_after_seconds, 0.0), _MAX_RETRY_AFTER)
    return None
