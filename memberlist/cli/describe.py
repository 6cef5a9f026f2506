"""Messages for people and for programs: Go's field names, octets as hexadecimal."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from memberlist import codec
from memberlist.layout import Layout
from memberlist.messages import (
    Ack,
    Alive,
    Dead,
    Error,
    IndirectPing,
    Nack,
    PacketMessage,
    Ping,
    PushPull,
    StreamMessage,
    Suspect,
    User,
)

Description: TypeAlias = dict[str, Any]
"""What `json.dumps` takes."""

_LAYOUTS: Final[Mapping[type, tuple[str, Layout[Any]]]] = {
    Ping: ("ping", codec.PING),
    IndirectPing: ("indirectPing", codec.INDIRECT_PING),
    Ack: ("ackResp", codec.ACK),
    Nack: ("nackResp", codec.NACK),
    Suspect: ("suspect", codec.SUSPECT),
    Alive: ("alive", codec.ALIVE),
    Dead: ("dead", codec.DEAD),
    Error: ("err", codec.ERROR),
}
_ADDRESSES: Final = ("Addr", "SourceAddr", "Target")
_STATES: Final = ("alive", "suspect", "dead", "left")
_PLAIN: Final = re.compile(r"[\w.:/@+-]+", re.ASCII)


def describe(message: PacketMessage | StreamMessage, *, on_stream: bool = False) -> Description:
    """The message as a JSON object; `on_stream`, user messages have the header they have there."""
    match message:
        case User(payload):
            header = {"header": {"UserMsgLen": len(payload)}} if on_stream else {}
            return {"type": "user", **header, "payload": payload.hex()}
        case PushPull(join, nodes, user_state):
            return {
                "type": "pushPull",
                "header": {"Join": join, "Nodes": len(nodes), "UserStateLen": len(user_state)},
                "nodes": [_fields(codec.NODE_STATE, node) for node in nodes],
                "user_state": user_state.hex(),
            }
    name, layout = _LAYOUTS[type(message)]
    return {"type": name, **_fields(layout, message)}


def _fields(layout: Layout[Any], message: object) -> Description:
    fields = layout.describe(message)
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


def render(description: Description) -> str:
    """A description on one line, with addresses, versions and states as people write them."""
    words = [description["type"]]
    words += _render_fields({**description, **description.get("header", {})})
    for node in description.get("nodes", ()):
        words += ["{", *_render_fields(node), "}"]
    return " ".join(words)


def _render_fields(fields: Description) -> list[str]:
    skipped = ("type", "header", "nodes")
    return [f"{name}={_render_value(name, value)}" for name, value in fields.items() if name not in skipped]


def _render_value(name: str, value: object) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if name in _ADDRESSES and isinstance(value, str) and len(value) in (8, 32):
        return str(ipaddress.ip_address(bytes.fromhex(value)))
    if name == "Vsn" and isinstance(value, str) and len(value) >= 12:
        versions = bytes.fromhex(value)
        return "protocol:{}-{}:{},delegate:{}-{}:{}".format(*versions[:6])
    if name == "State" and isinstance(value, int) and 0 <= value < len(_STATES):
        return _STATES[value]
    text = str(value)
    # A hostile name could hold what moves a terminal's cursor.
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
