"""LZW as Go's compress/lzw writes it: least significant bit first, 8-bit literals, 9 to 12 bits a code.

This is GIF's flavour; TIFF's widens one code earlier.  `compress` gives the very octets Go gives.
"""

from __future__ import annotations

from typing import Final

from memberlist.errors import DecodeError

_CLEAR: Final = 256
_END: Final = 257
_MIN_WIDTH: Final = 9
_MAX_WIDTH: Final = 12
_LAST_CODE: Final = (1 << _MAX_WIDTH) - 1
_LITERALS: Final = tuple(bytes((octet,)) for octet in range(256))


def compress(data: bytes) -> bytes:
    """Never fails; the result of hard input is up to half as large again."""
    output = bytearray()
    width, highest, overflow = _MIN_WIDTH, _END, 1 << _MIN_WIDTH
    pending, pending_bits = _CLEAR, width  # codes not yet written; a stream opens with a clear
    if not data:
        return (_CLEAR | _END << width).to_bytes(3, "little")
    table: dict[int, int] = {}
    code = data[0]
    for octet in data[1:]:
        extended = code << 8 | octet
        known = table.get(extended)
        if known is not None:
            code = known
            continue
        pending |= code << pending_bits
        pending_bits += width
        if pending_bits >= 64:
            output += (pending & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")
            pending >>= 64
            pending_bits -= 64
        code = octet
        highest += 1
        if highest == overflow:
            width += 1
            overflow <<= 1
        if highest == _LAST_CODE:
            pending |= _CLEAR << pending_bits
            pending_bits += width
            width, highest, overflow = _MIN_WIDTH, _END, 1 << _MIN_WIDTH
            table.clear()
        else:
            table[extended] = highest
    pending |= code << pending_bits
    pending_bits += width
    highest += 1
    if highest == overflow:
        width += 1
    if highest == _LAST_CODE:
        pending |= _CLEAR << pending_bits
        pending_bits += width
        width = _MIN_WIDTH
    pending |= _END << pending_bits
    pending_bits += width
    output += pending.to_bytes((pending_bits + 7) // 8, "little")
    return bytes(output)


def decompress(data: bytes, limit: int) -> bytes:
    """The text, at most `limit` octets of it; what follows the end code is ignored.

    Raises DecodeError for a code that is not in the table, a stream without end, a text over `limit`.
    """
    output: list[bytes] = []
    size = 0
    table: list[bytes] = [*_LITERALS, b"", b""]  # grows as codes are defined; the two are clear and end
    width, highest, overflow = _MIN_WIDTH, _END, 1 << _MIN_WIDTH
    mask = overflow - 1
    last: bytes | None = None
    bits = bit_count = 0
    for octet in data:
        bits |= octet << bit_count
        bit_count += 8
        if bit_count < width:
            continue
        code = bits & mask
        bits >>= width
        bit_count -= width
        if code == _CLEAR:
            width, highest, overflow = _MIN_WIDTH, _END, 1 << _MIN_WIDTH
            mask = overflow - 1
            del table[_END + 1 :]
            last = None
            continue
        if code == _END:
            return b"".join(output)
        if code < len(table):
            entry = table[code]
        elif code == highest and last is not None:
            entry = last + last[:1]
        else:
            raise DecodeError(f"LZW code {code} is not defined yet")
        size += len(entry)
        if size > limit:
            raise DecodeError(f"inflates to more than {limit} octets")
        output.append(entry)
        if last is not None:
            table.append(last + entry[:1])
        last = entry
        highest += 1
        if highest >= overflow:
            if width == _MAX_WIDTH:  # the table is full: codes are read, none is added, until a clear
                last = None
                highest -= 1
            else:
                width += 1
                overflow <<= 1
                mask = overflow - 1
    raise DecodeError("LZW stream ends without its end code")
