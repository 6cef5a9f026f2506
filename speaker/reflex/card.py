"""What our members' metadata says: the hardware addresses we announce from, and where we cannot announce.

Speakers in Go send no metadata and do not look at ours.  Whatever comes in is hostile until decoded.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

MAX_CARD: Final = 512
"""Octets of a member's metadata (memberlist's MetaMaxSize)."""
MAX_MACS: Final = 16
MAX_UNABLE: Final = 64

_MAGIC: Final = b"\xc1crier\x01"
"""0xC1 begins no msgpack value, so no other program's metadata is taken for ours."""


class BadCard(Exception):
    """The only thing `decode` raises."""


class Card(msgspec.Struct, frozen=True, array_like=True):
    macs: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(min_length=6, max_length=6)], ...],
        msgspec.Meta(max_length=MAX_MACS),
    ] = ()
    """Of the interfaces that qualify, those of the oldest when there are more."""
    unable: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)], ...], msgspec.Meta(max_length=MAX_UNABLE)
    ] = ()
    """`Vip.restriction`s under which not one interface works now."""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Card)


def encode(card: Card) -> bytes:
    """At most `MAX_CARD` octets, as long as the card keeps within its bounds."""
    return _MAGIC + _encoder.encode(card)


def decode(meta: bytes | None) -> Card:
    """A member's card; an empty one when it sends nothing or something that is not ours.  Raises BadCard."""
    if not meta or not meta.startswith(_MAGIC):
        return Card()
    if len(meta) > MAX_CARD:
        raise BadCard(f"{len(meta)} octets, at most {MAX_CARD} allowed")
    try:
        return _decoder.decode(meta[len(_MAGIC) :])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise BadCard(str(problem)) from None
