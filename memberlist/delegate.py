"""Where an application hooks into the protocol."""

from __future__ import annotations

from .events import Node


class Delegate:
    """Every hook does nothing; override what is wanted.

    Hooks run inside the protocol and must return at once.  One that raises, or returns what cannot be sent,
    is logged and counts as if it had not been overridden: an application's mistake must not make its host
    look dead.
    """

    def node_meta(self, limit: int) -> bytes | None:  # noqa: ARG002
        """Metadata to announce, at most `limit` octets; asked at the start and by `Member.update`."""
        return None

    def notify_message(self, payload: bytes) -> None:
        """A user message came in."""

    def broadcasts(self, overhead: int, limit: int) -> list[bytes]:  # noqa: ARG002
        """User messages to piggyback; the sum of length plus `overhead` must stay within `limit` octets."""
        return []

    def local_state(self, join: bool) -> bytes:  # noqa: ARG002
        """Application state for a push/pull, at most 20 MiB; one MiB takes 0.3 s to compress."""
        return b""

    def merge_remote_state(self, state: bytes, join: bool) -> None:
        """The other side's application state; not called when it is empty."""

    def refuse_alive(self, node: Node) -> str | None:  # noqa: ARG002
        """A reason to ignore this alive message, or None.  Asked about all that are news, our own too."""
        return None

    def refuse_merge(self, nodes: tuple[Node, ...]) -> str | None:  # noqa: ARG002
        """A reason to refuse joining these members, or None.  Asked on a join, on both sides."""
        return None

    def ack_payload(self) -> bytes | None:
        """Octets to send with every answer to a ping."""
        return None

    def ping_complete(self, node: Node, rtt: float, payload: bytes | None) -> None:
        """A direct probe of `node` was answered after `rtt` seconds."""
