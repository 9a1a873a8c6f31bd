"""Files that were made to crash, fill or stop whoever reads them; a few bytes each, whatever they promise."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from heic_files import FOUR_CORNERS
from PIL import Image

_PIECE = 2**20


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A part of a PNG with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def black_png(width: int, height: int, *, depth: int = 8, color_type: int = 2) -> bytes:
    """A complete PNG of zeros, a thousandth of its pixels long."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]
    packed = _packed_zeros(height * (1 + -(-width * channels * depth // 8)))
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    parts = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", packed), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _packed_zeros(count: int) -> bytes:
    """What zlib could make of so many zeros, at once: one packed piece over and over."""
    packer, ending = (zlib.compressobj(9, zlib.DEFLATED, -15) for _ in range(2))
    piece = packer.compress(bytes(_PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = ending.compress(bytes(count % _PIECE)) + ending.flush()
    adler = struct.pack(">I", ((count % 65521) << 16) | 1)
    return b"\x78\x9c" + piece * (count // _PIECE) + rest + adler


def jpeg_that_says(width: int, height: int, *, num_scans: int = 1) -> bytes:
    """A JPEG of 64 x 64 pixels that promises others, its last scan repeated."""
    data = bytearray(encode(Image.new("RGB", (64, 64)), "JPEG", progressive=True))
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    scan = bytes(data[data.rindex(b"\xff\xda") : -2])
    return bytes(data[:-2]) + scan * (num_scans - 1) + b"\xff\xd9"


def gif_that_says(screen_wh: tuple[int, int], frame_wh: tuple[int, int]) -> bytes:
    """A GIF of one frame without pixels."""
    screen = struct.pack("<HHBBB", *screen_wh, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, *frame_wh, 0) + b"\x02\x02L\x01\x00;"


def heic_that_says(width: int, height: int) -> bytes:
    """A HEIC of 128 x 64 pixels that promises others."""
    return _with_extent(FOUR_CORNERS, width, height)


def avif_that_says(width: int, height: int) -> bytes:
    """An AVIF of 64 x 64 pixels that promises others."""
    return _with_extent(encode(Image.new("RGB", (64, 64)), "AVIF"), width, height)


def _with_extent(data: bytes, width: int, height: int) -> bytes:
    box = data.index(b"ispe") + 8
    return data[:box] + struct.pack(">II", width, height) + data[box + 8 :]


def webp_that_says(width: int, height: int) -> bytes:
    """An animated WebP without a frame."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + sides + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def big_tiff(tags: list[tuple[int, int, int, int]], after: bytes = b"") -> bytes:
    """A BigTIFF of tags (number, type, count, value), and what follows them, from 32 + 20 a tag on."""
    entries = b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(tags)) + entries + bytes(8) + after


def rgb_big_tiff(image: Image.Image, *, is_packed: bool = True, pixels_at: int = 32 + 20 * 9) -> bytes:
    """RGB pixels in one strip, deflated as programs for maps and slides do it."""
    strip = zlib.compress(image.tobytes()) if is_packed else image.tobytes()
    depths, packing = 8 | 8 << 16 | 8 << 32, 8 if is_packed else 1
    tags = [(256, 4, 1, image.width), (257, 4, 1, image.height), (258, 3, 3, depths), (259, 3, 1, packing)]
    tags += [(262, 3, 1, 2), (273, 16, 1, pixels_at), (277, 3, 1, 3), (278, 4, 1, image.height)]
    return big_tiff([*tags, (279, 16, 1, len(strip))], strip)


def tiff_that_says(
    width: int, height: int, *, tile_wh: tuple[int, int] | None = None, is_big: bool = False
) -> bytes:
    """A TIFF whose pixels, in one strip or tile, are its own first bytes."""
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1)]
    if tile_wh is None:
        tags += [(273, 8), (278, height), (279, 10)]
    else:
        tags += [(322, tile_wh[0]), (323, tile_wh[1]), (324, 8), (325, 100)]
    if is_big:
        return big_tiff([(tag, 4, 1, value) for tag, value in tags])
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def bombs() -> dict[str, tuple[bytes, str]]:
    """Small files that would become huge, by name, with what the refusal must say."""
    bmp = bytearray(encode(Image.new("RGB", (4, 4)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, -60_000)
    return {
        "png-50000.png": (black_png(50_000, 50_000, depth=1, color_type=0), "has 50000x50000 pixels"),
        "jpeg-65000.jpg": (jpeg_that_says(65_000, 65_000), "has 65000x65000 pixels, the limit is 200 mega"),
        "jpeg-14000.jpg": (jpeg_that_says(14_000, 14_000), "bytes cannot hold 14000x14000 pixels"),
        "scans.jpg": (jpeg_that_says(64, 64, num_scans=5000), "a JPEG of more than 100 scans; save it again"),
        "screen.gif": (gif_that_says((65_535, 65_535), (1, 1)), "has 65535x65535 pixels"),
        "frame.gif": (gif_that_says((1, 1), (65_535, 65_535)), "has too many pixels"),
        "says-20000.heic": (heic_that_says(20_000, 20_000), "has 20000x20000 pixels"),
        "says-14000.heic": (heic_that_says(14_000, 14_000), "is a broken image"),
        "says.avif": (avif_that_says(65_000, 65_000), "is a broken image"),
        "canvas.webp": (webp_that_says(2**24, 255), "has too many pixels"),
        "strip.tif": (tiff_that_says(50_000, 50_000), "has 50000x50000 pixels"),
        "tile.tif": (tiff_that_says(10, 10, tile_wh=(40_000, 40_000)), "tiles of 40000x40000 pixels"),
        "big-strip.tif": (tiff_that_says(50_000, 50_000, is_big=True), "has 50000x50000 pixels"),
        "big-tile.tif": (
            tiff_that_says(10, 10, tile_wh=(40_000, 40_000), is_big=True),
            "tiles of 40000x40000 pixels",
        ),
        "tags.tif": (b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 70_000), "is a broken image (70000 tags)"),
        "upside-down.bmp": (bytes(bmp), "has 60000x60000 pixels"),
    }


def broken(photograph: Image.Image) -> dict[str, tuple[bytes, str]]:
    """Files that are no pictures or no whole ones, by name, with what the refusal must say."""
    halves = {
        f"half.{image_format.lower()}": (data[: len(data) // 2], "is a (truncated|broken)")
        for image_format in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP")
        for data in [encode(photograph, image_format)]
    }
    floats = encode(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF")
    deep = encode(Image.fromarray(np.full((4, 4), 2**30, np.int32)), "TIFF")
    return halves | {
        "empty.jpg": (b"", "the file is empty"),
        "zeros.jpg": (bytes(5000), "it starts with"),
        "text.jpg": (b"hello", "it starts with b'hello'"),
        "drawing.png": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "an SVG drawing: save it as PNG"),
        "document.jpg": (b"%PDF-1.7\n", "a PDF document: save its pages as pictures"),
        "page.jpg": (b"\n<!DOCTYPE html><html>", "a web page, not the picture on it"),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0", "is a broken image"),
        "half.heic": (FOUR_CORNERS[: len(FOUR_CORNERS) // 2], "is a broken image"),
        "film.jpg": (b"\0\0\0\x1cftypisom\0\0\2\0", r"a film: name it \.mp4"),
        "film.webp": (b"RIFF\x40\0\0\0AVI LIST", r"a film: name it \.mp4"),
        "nan.tif": (floats, "has floating-point pixels"),
        "deep.tif": (deep, "has grey values beyond 16 bits"),
        "big-nan.tif": (big_tiff([(256, 4, 1, 1), (339, 3, 3, 0x300030003)]), "has floating-point pixels"),
        "far.tif": (rgb_big_tiff(photograph, is_packed=False, pixels_at=2**63), "is a broken image"),
        "big-endian.tif": (b"MM\0+" + bytes(20), "a BigTIFF of big-endian numbers: save it as TIFF or PNG"),
    }
