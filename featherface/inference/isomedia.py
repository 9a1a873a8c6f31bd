"""What the boxes of an MP4 or QuickTime film say of its length; no decoding."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

# Frames are lost if one of these is cut; programs append others, or bytes that are none.
_ESSENTIAL = (b"mdat", b"moof", b"moov")
_MEDIA_TIME_OF_A_PAUSE = -1
# An edit list is in the film's units and a track in its own: rounding makes them differ a little.
_WHOLE_PART = 0.99
_MAX_EDITS_BYTES = 1_000_000
_HEADER_BYTES = 36


class IsoFilm(NamedTuple):
    """What a file says without being decoded."""

    missing_bytes: int
    """How many bytes of it lie beyond its end."""
    has_index: bool
    """Whether it has the box `moov`, without which nothing of it can be played."""
    shows_all_frames: bool
    """Whether it shows all frames that it counts: none are in fragments, which it does not count, and no edit
    list shows less than a whole track, as after trimming without coding again."""


class _Box(NamedTuple):
    kind: bytes
    start: int
    """Of its content."""
    end: int


def inspect_boxes(file: BinaryIO) -> IsoFilm:
    """Read the structure of an MP4 or QuickTime file; boxes that make no sense end it.

    Args:
        file: opened for reading, at any position.

    Raises:
        OSError: it cannot be read.

    Reference:
        ISO/IEC 14496-12, sections 4.2 (boxes), 8.2 (moov), 8.4 (mdia), 8.6.6 (elst) and 8.8 (fragments).
    """
    file_size = file.seek(0, os.SEEK_END)
    index: _Box | None = None
    last: _Box | None = None
    for last in _boxes(file, 0, file_size):
        if last.kind == b"moov":
            index = index or last
    return IsoFilm(
        missing_bytes=max(0, last.end - file_size) if last and last.kind in _ESSENTIAL else 0,
        has_index=index is not None,
        shows_all_frames=index is not None and _shows_all_frames(file, index),
    )


def _shows_all_frames(file: BinaryIO, index: _Box) -> bool:
    if _find(file, index, b"mvex"):  # fragments follow
        return False
    film_scale, _ = _scale_and_duration(file, _find(file, index, b"mvhd"))
    tracks = (box for box in _boxes(file, index.start, index.end) if box.kind == b"trak")
    return not any(_is_trimmed(file, track, film_scale) for track in tracks)


def _is_trimmed(file: BinaryIO, track: _Box, film_scale: int) -> bool:
    handler = _read(file, _find(file, track, b"mdia", b"hdlr"), _HEADER_BYTES)
    if handler[8:12] != b"vide":
        return False
    scale, duration = _scale_and_duration(file, _find(file, track, b"mdia", b"mdhd"))
    shown = _shown(file, _find(file, track, b"edts", b"elst"))
    # An edit of length 0 lasts to the end.
    return shown > 0 and shown * scale < _WHOLE_PART * duration * film_scale


def _shown(file: BinaryIO, edits: _Box | None) -> int:
    """How long all edits last, in the film's units; 0 if there is none."""
    data = _read(file, edits, _MAX_EDITS_BYTES)
    entry = struct.Struct(">Qqi" if data[:1] == b"\x01" else ">Iii")
    entries = data[8 : 8 + (len(data) - 8) // entry.size * entry.size] if len(data) > 8 else b""
    return sum(
        duration for duration, start, _ in entry.iter_unpack(entries) if start != _MEDIA_TIME_OF_A_PAUSE
    )


def _scale_and_duration(file: BinaryIO, header: _Box | None) -> tuple[int, int]:
    """Units a second and length in units of an `mvhd` or `mdhd`; zeros where it is cut."""
    data = _read(file, header, _HEADER_BYTES)
    fields = struct.Struct(">4xQQIQ" if data[:1] == b"\x01" else ">4xIIII")
    if len(data) < fields.size:
        return 0, 0
    _, _, scale, duration = fields.unpack_from(data)
    return scale, duration


def _read(file: BinaryIO, box: _Box | None, max_bytes: int) -> bytes:
    if box is None:
        return b""
    file.seek(box.start)
    return file.read(min(max_bytes, box.end - box.start))


def _find(file: BinaryIO, box: _Box, *kinds: bytes) -> _Box | None:
    """The first box of a kind in a box, of another kind in that, and so on."""
    found: _Box | None = box
    for kind in kinds:
        if found is not None:
            found = next(
                (inner for inner in _boxes(file, found.start, found.end) if inner.kind == kind), None
            )
    return found


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    """The boxes between two positions; the last one may reach beyond."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        size, content = int.from_bytes(header[:4], "big"), start + 8
        if size == 1:
            size, content = int.from_bytes(header[8:16], "big"), start + 16
        box = _Box(header[4:8], content, end if size == 0 else start + size)
        if box.end < content:
            return
        yield box
        start = box.end
