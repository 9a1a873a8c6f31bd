"""What the bytes of a file say of themselves before anything is decoded: its format, and a JPEG's size.

Decoders trust what a file promises; here it is checked that the promise can be kept. Nothing here decodes.
"""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from typing import NamedTuple

from featherface.errors import ImageDecodeError

MAX_PIXELS = 200_000_000
"""Larger images are refused before they are decoded: they are mostly attacks or mistakes."""

# Signatures at the start of the file, and the Pillow plugin that reads such files.
_IMAGES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), plugin)
    for pattern, plugin in (
        (rb"\xff\xd8\xff", "Jpeg"),
        (rb"\x89PNG\r\n\x1a\n", "Png"),
        (rb"RIFF....WEBP", "WebP"),
        (rb"BM", "Bmp"),
        (rb"GIF8[79]a", "Gif"),
        (rb"II[*+]\x00|MM\x00\*", "Tiff"),
    )
)
# Files of boxes (ISO/IEC 14496-12) name their kinds in the first box, `ftyp`; films are such files, too.
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
SIGNATURE_BYTES = 64
"""From so many bytes on `image_plugin` knows what a file is."""
_FILM = "a film: name it .mp4, .avi or what it is, or use stream()"
# What people hand in instead, and what they can do; the first that fits.
_OTHERS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), meaning)
    for pattern, meaning in (
        (rb"....ftyp", _FILM),
        (rb"RIFF....AVI ", _FILM),
        (rb"\x1aE\xdf\xa3", _FILM),
        (rb"\x00\x00\x01[\xb3\xba]", _FILM),
        (rb"%PDF", "a PDF document: save its pages as pictures"),
        (rb"(?i:\s*<!doctype html|\s*<html)", "a web page, not the picture on it"),
        (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg|<svg)", "an SVG drawing: save it as PNG"),
        (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture: save it as JPEG"),
        (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "a JPEG XL picture: save it as JPEG"),
        (rb"MM\x00\+", "a BigTIFF of big-endian numbers: save it as TIFF or PNG"),  # Pillow misreads it
        (rb"PK\x03\x04", "a zip archive: unpack it"),
        (rb"version https://git-lfs", "a pointer of Git LFS: fetch the file itself"),
    )
)
_SHOWN_BYTES = 8
_TIFF_SAMPLE_FORMAT, _TIFF_FLOAT = 339, 3
_BIG_TIFF = b"II+\x00"
# So many has any other TIFF room for. Pillow would read a gigabyte of them for minutes.
_MAX_TIFF_TAGS = 0xFFFF
# Cameras and programs write ten scans. Each scan is a walk over all pixels, however few bytes it has, so a
# small file of thousands would keep a decoder busy for minutes.
_MAX_JPEG_SCANS = 100
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
_EXIF = b"Exif\x00\x00"
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)


class JpegHeader(NamedTuple):
    """What stands in front of a JPEG's pixels."""

    width: int
    height: int
    num_channels: int
    exif: bytes
    """The first EXIF block, with its signature; empty if there is none."""


def image_plugin(data: bytes) -> str | None:
    """The name of the Pillow plugin for these bytes; None if they are none of the formats that are read."""
    return next((plugin for pattern, plugin in _IMAGES if pattern.match(data)), _plugin_by_brands(data))


def _plugin_by_brands(data: bytes) -> str | None:
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), SIGNATURE_BYTES)
    major, others = data[8:12], {data[start : start + 4] for start in range(16, end, 4)}
    # `mif1` says picture and not how it is coded, so AVIF is asked first; films may list it among the others.
    if major in _AVIF_BRANDS or (major in _HEIF_BRANDS and others & _AVIF_BRANDS):
        return "Avif"
    return "Heif" if major in _HEIF_BRANDS else None


def has_float_samples(data: bytes) -> bool:
    """Whether a TIFF's first picture is of floating-point numbers, of which Pillow knows the grey ones alone.

    Raises:
        ValueError: a BigTIFF of more tags than any other TIFF can have.

    Reference:
        TIFF 6.0, sections 2 and 19; BigTIFF has the same tags, with 64 bits for what is counted and placed.
    """
    order = "<" if data.startswith(b"II") else ">"
    is_big = data.startswith(_BIG_TIFF)
    word, num_tags_word, start_at = ("Q", "Q", 8) if is_big else ("I", "H", 4)
    entry, room = struct.Struct(f"{order}HH{word}{word}"), struct.calcsize(f"={word}")
    with suppress(struct.error, OverflowError):  # whoever decodes it says how it is broken
        (start,) = struct.unpack_from(f"{order}{word}", data, start_at)
        (num_tags,) = struct.unpack_from(f"{order}{num_tags_word}", data, start)
        if num_tags > _MAX_TIFF_TAGS:
            raise ValueError(f"{num_tags} tags")
        first = start + struct.calcsize(f"={num_tags_word}")
        for position in range(first, first + entry.size * num_tags, entry.size):
            tag, _, count, offset = entry.unpack_from(data, position)
            if tag == _TIFF_SAMPLE_FORMAT:  # two or four of its numbers have room in the tag itself
                kind_at = position + entry.size - room if 2 * count <= room else offset
                (kind,) = struct.unpack_from(f"{order}H", data, kind_at)
                return bool(kind == _TIFF_FLOAT)
    return False


def describe_foreign(data: bytes) -> str:
    """What bytes that are no picture are, and what to do with them if we know it."""
    if not data:
        return "the file is empty"
    meaning = next((meaning for pattern, meaning in _OTHERS if pattern.match(data[:1024])), None)
    return f"it is {meaning}" if meaning else f"it starts with {data[:_SHOWN_BYTES]!r}"


def refuse_too_large(width: int, height: int, name: str, *, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse sizes of which no image may be.

    Raises:
        ImageDecodeError: more than `max_pixels`, or none.
    """
    if width * height > max_pixels:
        raise ImageDecodeError(
            f"{name}: has {width}x{height} pixels, the limit is {max_pixels / 10**6:g} megapixels"
        )
    if width * height == 0:
        raise ImageDecodeError(f"{name}: has no pixels ({width}x{height})")


def inspect_jpeg(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> JpegHeader:
    """The header of a JPEG that is complete: decoders fill the rest of a cut one with grey.

    Raises:
        ImageDecodeError: too large, no end of image, more pixels than its bytes can hold, or many scans.
    """
    size: tuple[int, int, int] | None = None
    is_huffman, exif = False, b""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        # SOF0..15 but for DHT, JPG and DAC, which share the range.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, num_channels = struct.unpack_from(">HHB", data, position + 5)
            size, is_huffman = (width, height, num_channels), marker in _HUFFMAN_FRAMES
        elif marker == _APP1 and not exif and data.startswith(_EXIF, position + 4):
            exif = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == _START_OF_SCAN:
            break
    # In entropy-coded data 0xff is always followed by 0 or a restart, so the first such pair is the real end.
    # An EXIF thumbnail with an end of its own lies before `position`, pictures appended by phones after it.
    if size is not None:
        refuse_too_large(size[0], size[1], name, max_pixels=max_pixels)
    if size is None or data.find(b"\xff\xd9", position) < 0:
        raise ImageDecodeError(f"{name}: is a truncated JPEG ({len(data)} bytes without an end of image)")
    # A bit at least for each block of 8 x 8 pixels, in whichever channel is not thinned out along its width;
    # along its height that one may be thinned out to a quarter.
    least_bytes = -(-size[0] // 8) * -(-size[1] // 8) // 32
    if is_huffman and len(data) - position < least_bytes:
        raise ImageDecodeError(
            f"{name}: is a truncated JPEG ({len(data)} bytes cannot hold {size[0]}x{size[1]} pixels)"
        )
    # The exact walk is slow and needed for bombs only: films that phones append hold the pair by chance.
    if (
        data.count(b"\xff\xda", position) >= _MAX_JPEG_SCANS
        and _count_scans(data, position) > _MAX_JPEG_SCANS
    ):
        raise ImageDecodeError(f"{name}: is a JPEG of more than {_MAX_JPEG_SCANS} scans; save it again")
    return JpegHeader(*size, exif)


def _count_scans(data: bytes, position: int) -> int:
    """Scans from the one whose data begin at `position` to the end of the image."""
    num_scans = 1
    while (found := _MARKER.search(data, position)) is not None:
        marker = found[1][0]
        if marker == _END_OF_IMAGE:
            break
        num_scans += marker == _START_OF_SCAN
        position = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))
    return num_scans
