"""Request bodies: octets to values, and nothing worse than a 4xx."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from crier.lab.api import protobuf
from crier.lab.api.errors import ApiError, bad_request

MAX_BODY: Final = 3 * 1024 * 1024
"""Octets; the real server's limit."""

MAX_DEPTH: Final = 200
"""Levels of nesting; what is deeper would exhaust the stack of whoever walks it."""

_YAML_TYPES: Final = frozenset({"application/yaml", "application/apply-patch+yaml", "application/x-yaml"})


def too_large() -> ApiError:
    return ApiError(413, f"Request entity too large: limit is {MAX_BODY}")


def decode(data: bytes, content_type: str) -> Any:
    """The value of a JSON body, or of a YAML one where the content type allows it.

    Raises:
        ApiError: 400, malformed; 413, too large; 415, a type we do not read.
    """
    if len(data) > MAX_BODY:
        raise too_large()
    if content_type == protobuf.CONTENT_TYPE:
        return protobuf.decode(data)
    if content_type not in _YAML_TYPES and not content_type.endswith("json") and content_type:
        raise ApiError(
            415,
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        if content_type not in _YAML_TYPES:
            raise bad_request(f"the body is not JSON: {error}") from None
        value = _yaml(data)
    if not _is_shallow(value, MAX_DEPTH):
        raise bad_request(f"the body is nested deeper than {MAX_DEPTH} levels")
    return value


def _yaml(data: bytes) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """JSON's types only, and no aliases: a few of them can stand for gigabytes."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases are not accepted")
            return super().compose_node(parent, index)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        value = yaml.load(data, Loader)  # noqa: S506 - a SafeLoader
        return msgspec.json.decode(msgspec.json.encode(value))
    except (
        yaml.YAMLError,
        msgspec.MsgspecError,
        RecursionError,
        TypeError,
        ValueError,
        OverflowError,
    ) as error:
        raise bad_request(f"the body is not YAML: {' '.join(str(error).split())}") from None


def _is_shallow(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        following: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                following.extend(item.values())
            elif isinstance(item, list):
                following.extend(item)
        if not following:
            return True
        layer = following
    return False
