"""What the structure of a Matroska or WebM film says of its length; no decoding."""

import os
from typing import BinaryIO, NamedTuple

_HEADER, _SEGMENT, _CLUSTER = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
_START_BYTES = 4096
_LONGEST_HEAD = 12
"""An identifier of four bytes and a length of eight."""
_MAX_ELEMENTS = 2_000_000
"""Of a stream: five hours of 60 pictures and 50 pieces of sound a second; the rest is not looked at."""


def missing_bytes(file: BinaryIO) -> int:
    """How many bytes of a film lie beyond the end of its file.

    A Matroska file is a header and one segment, each an identifier, a length and the content. A film that was
    written as it came (a browser's recording) does not know its length; the parts that the segment consists
    of do, so one that ends within a part was cut. 0 where nothing is missing, as far as the file says (a
    stream that was cut between two parts), and for all other files.

    Args:
        file: opened for reading, at any position.

    Raises:
        OSError: it cannot be read.

    Reference:
        EBML, RFC 8794, sections 4 and 6; Matroska, RFC 9559, sections 5.1 and 10.
    """
    file_size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(_START_BYTES)
    if not start.startswith(_HEADER):
        return 0
    header = _read_size(start, len(_HEADER))
    if header is None or header.value is None:
        return 0
    segment = header.end + header.value
    length = _read_size(start, segment + len(_SEGMENT))
    if start[segment : segment + len(_SEGMENT)] != _SEGMENT or length is None:
        return 0
    if length.value is None:
        return _missing_in_stream(file, length.end, file_size)
    return max(0, length.end + length.value - file_size)


def _missing_in_stream(file: BinaryIO, offset: int, file_size: int) -> int:
    """How much of the last part of a segment is missing; what makes no sense ends the search."""
    for _ in range(_MAX_ELEMENTS):
        if offset >= file_size:
            return offset - file_size
        file.seek(offset)
        head = file.read(_LONGEST_HEAD)
        id_width = 9 - head[0].bit_length()
        if id_width > 4:
            return 0
        length = _read_size(head, id_width)
        if length is None:  # the head itself is cut, or its length is none
            return 1 if len(head) < _LONGEST_HEAD else 0
        if length.value is None and head[:id_width] != _CLUSTER:
            return 0
        offset += length.end + (length.value or 0)  # what a cluster without a length holds comes next
    return 0


class _Length(NamedTuple):
    value: int | None
    """In bytes; None where it is not known, which all ones say."""
    end: int
    """Where the content begins."""


def _read_size(data: bytes, offset: int) -> _Length | None:
    """A length of 1 to 8 bytes, None if it is cut or none; the zeros before the first 1 say which."""
    first = data[offset : offset + 1]
    width = 9 - first[0].bit_length() if first else 9
    if width > 8 or offset + width > len(data):
        return None
    ones = (1 << (7 * width)) - 1
    value = int.from_bytes(data[offset : offset + width]) & ones
    return _Length(None if value == ones else value, offset + width)
