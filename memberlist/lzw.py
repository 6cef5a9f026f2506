"""LZW as Go's compress/lzw writes it: least significant bit first, 8-bit literals, 9 to 12 bits a code.

This is GIF's flavour; TIFF's widens one code earlier.  `compress` gives the very octets Go gives.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    return _pack(_codes(data))


def compress_below(size: int, data: bytes) -> bytes | None:
    """Like `compress`, but None, and sooner, when the result has `size` octets or more."""
    codes = _codes(data)
    bits = sum((stop - start) * width for start, stop, width in _runs(len(codes)))
    return _pack(codes) if bits <= 8 * (size - 1) else None


def _codes(data: bytes) -> list[int]:
    """What stands for `data`, from the opening clear to the end."""
    codes = [_CLEAR]
    if data:
        table: dict[int, int] = {}
        find, emit = table.get, codes.append
        code, highest = data[0], _END
        for octet in data[1:]:
            extended = code << 8 | octet
            known = find(extended)
            if known is not None:
                code = known
                continue
            emit(code)
            code = octet
            highest += 1
            if highest == _LAST_CODE:
                emit(_CLEAR)
                highest = _END
                table.clear()
            else:
                table[extended] = highest
        emit(code)
        if highest + 1 == _LAST_CODE:
            emit(_CLEAR)
    codes.append(_END)
    return codes


def _runs(count: int) -> Iterator[tuple[int, int, int]]:
    """Where codes of one width start and stop, and the width: it grows as the table does, up to a clear."""
    start, stop = 0, 1  # the opening clear
    yield start, stop, _MIN_WIDTH
    while stop < count:
        for width in range(_MIN_WIDTH, _MAX_WIDTH + 1):
            start = stop
            stop = min(start + (1 << width - 1) - (width == _MIN_WIDTH), count)
            yield start, stop, width


def _pack(codes: list[int]) -> bytes:
    """Least significant bit first."""
    output = bytearray()
    pending = pending_bits = 0
    for start, stop, width in _runs(len(codes)):
        whole = stop - (stop - start) % 8
        octets, mask = width, (1 << 8 * width) - 1
        for at in range(start, whole, 8):  # eight codes are as many octets as a code has bits
            a, b, c, d, e, f, g, h = codes[at : at + 8]
            eight = h << width | g
            eight = (eight << width | f) << width | e
            eight = ((eight << width | d) << width | c) << width | b
            pending |= (eight << width | a) << pending_bits
            output += (pending & mask).to_bytes(octets, "little")
            pending >>= 8 * octets
        for code in codes[whole:stop]:
            pending |= code << pending_bits
            pending_bits += width
        ready = pending_bits // 8
        output += (pending & (1 << 8 * ready) - 1).to_bytes(ready, "little")
        pending >>= 8 * ready
        pending_bits -= 8 * ready
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
