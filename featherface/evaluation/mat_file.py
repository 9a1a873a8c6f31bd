"""Whether a .mat file holds together: scipy believes sizes and types, so a flipped bit can end the process.

Compressed arrays, as the official files have them, carry a checksum. Of others the structure is looked at:
each element fits into the one around it, and there are as many values as the dimensions say. Nothing is
converted here.

Reference: MathWorks, "MAT-File Format", level 5.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Collection, Iterator

_HEADER_BYTES = 128
# By version and mark at the end of the header.
_BYTE_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_UTF8 = 16
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 17: 2, 18: 4}
_CELLS, _TEXT_OR_NUMBERS, _IS_COMPLEX = 1, {4, *range(6, 16)}, 0x800


def check_mat(data: bytes, names: Collection[str]) -> None:
    """See that arrays of a file can be read by scipy.

    Args:
        data: the file.
        names: of the arrays; others may be of kinds that are not known here.

    Raises:
        ValueError: it is cut or damaged, of another version, or holds what the benchmark's lists do not.
        struct.error: the same.
        zlib.error: the same.
    """
    order = _BYTE_ORDERS.get(data[_HEADER_BYTES - 4 : _HEADER_BYTES])
    if order is None:
        raise ValueError("its header is not that of version 5")
    wanted = [name.encode() for name in names]
    for kind, content in _elements(memoryview(data)[_HEADER_BYTES:], order, is_padded=False):
        if kind == _COMPRESSED:
            zlib.decompress(content)
        elif _name_of(content, order) in wanted:
            _check_matrix(kind, content, order)


def _name_of(matrix: memoryview, order: str) -> bytes:
    """What comes third in an array, after flags and dimensions."""
    third = next(itertools.islice(_elements(matrix, order), 2, None), None)
    return b"" if third is None else bytes(third[1])


def _elements(data: memoryview, order: str, *, is_padded: bool = True) -> Iterator[tuple[int, memoryview]]:
    """Type and content of what lies one after the other; inside of arrays each begins at a multiple of 8."""
    start = 0
    while start < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, start)
        start += 8
        if kind >> 16:  # up to four bytes lie in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, start - 4
        content = data[start : start + size]
        if len(content) < size:
            raise ValueError(f"an element of {size:,} bytes does not fit")
        yield kind, content
        start += size + (-(start + size) % 8 if is_padded else 0)


def _check_matrix(kind: int, data: memoryview, order: str) -> None:
    """See that an array has flags, dimensions and name, then as many cells or values as it should."""
    parts = list(_elements(data, order))
    if kind == _MATRIX and not parts:
        return
    if kind != _MATRIX or [part for part, _ in parts[:3]] != [_UINT32, _INT32, _INT8]:
        raise ValueError("an array does not begin like one")
    flags, dims = (struct.unpack(f"{order}{len(part) // 4}i", part) for _, part in parts[:2])
    if len(flags) != 2 or len(dims) < 2:
        raise ValueError("an array has no such flags or dimensions")
    what, count = flags[0] & 0xFF, math.prod(dims)
    values = parts[3:]
    if what == _CELLS and len(values) == count:
        for inner, matrix in values:
            _check_matrix(inner, matrix, order)
        return
    is_whole = all(_holds(len(part), count, inner) for inner, part in values)
    if what not in _TEXT_OR_NUMBERS or len(values) != 1 + bool(flags[0] & _IS_COMPLEX) or not is_whole:
        raise ValueError(f"an array of {count:,} holds something else")


def _holds(size: int, count: int, kind: int) -> bool:
    """Whether so many bytes are so many values."""
    if kind == _UTF8:
        return count <= size <= 4 * count
    return size == count * _VALUE_BYTES.get(kind, math.inf)
