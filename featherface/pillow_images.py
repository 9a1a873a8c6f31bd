"""Pillow's images, and what Pillow decodes, as RGB arrays: upright, on white, eight bits.

Its plugins are called by name: `Image.open` would try all of them, one of which runs Ghostscript, and warns
from 89 megapixels on through process-wide state. Pillow is imported inside the functions: a bare training
machine does without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

import cv2
import numpy as np

from featherface.errors import ImageDecodeError
from featherface.headers import MAX_PIXELS, has_float_samples, refuse_too_large

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image
    from PIL.ImageFile import ImageFile

# Pillow's parsers leak many kinds of errors on broken bytes; each means the same to the caller.
_BROKEN: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, LookupError, EOFError, TypeError)
_BROKEN += (struct.error, cv2.error, OverflowError, RuntimeError)
_MAX_16_BIT = 0xFFFF
_FLOATS = "has floating-point pixels; convert it to 8 bits first"
_STRIP_PIXELS = 4_000_000
_EXIF_ORIENTATION = 0x0112
_XMP = ("xmp", "XML:com.adobe.xmp")
_TIFF_TILE_WH = (322, 323)
_TIFF_TILE_PIXELS = 2048 * 2048
_WARNINGS_LOCK = threading.Lock()
READS_HEIC = importlib.util.find_spec("pi_heif") is not None
"""Whether the decoder of HEIC, an extra, is installed."""


@contextmanager
def name_broken(name: str) -> Iterator[None]:
    """Turn what decoders raise on broken bytes into one error that names the image.

    Raises:
        ImageDecodeError: whatever it was.
    """
    try:
        yield
    except ImageDecodeError:
        raise
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageDecodeError(f"{name}: is a broken image ({reason})") from error
    except Exception as error:
        if type(error).__name__ != "DecompressionBombError":  # Pillow's, which may not be installed
            raise
        raise ImageDecodeError(f"{name}: has too many pixels ({error})") from error


def decode_with_pillow(
    data: bytes, plugin: str, name: str, *, max_pixels: int = MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an encoded image, by the Pillow plugin of that name.

    Raises:
        ImageDecodeError: as of `rgb_of_pillow`.
    """
    if plugin == "Heif" and not READS_HEIC:
        raise ImageDecodeError(
            f"{name}: is an HEIC picture, which `pip install pi-heif` makes readable; or save it as JPEG"
        )
    if plugin == "WebP" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ImageDecodeError(f"{name}: is a truncated WebP ({len(data)} bytes)")
    with name_broken(name):
        if plugin == "Tiff" and has_float_samples(data):
            raise ImageDecodeError(f"{name}: {_FLOATS}")
    with name_broken(name):
        image = open_with_pillow(BytesIO(data), plugin)
    if plugin == "Tiff":
        _refuse_large_tiles(image, name)
    return rgb_of_pillow(image, name, max_pixels=max_pixels)


def open_with_pillow(file: IO[bytes], plugin: str) -> ImageFile:
    """An encoded image of which only the header is read, by the Pillow plugin of that name."""
    module = importlib.import_module("pi_heif" if plugin == "Heif" else f"PIL.{plugin}ImagePlugin")
    with _without_warnings():
        image: ImageFile = getattr(module, f"{plugin}ImageFile")(file)
    return image


def encode_with_profile(
    image: npt.NDArray[np.uint8], suffix: str, *, quality: int, icc_profile: bytes
) -> bytes | None:
    """An RGB image as a JPEG, WebP or PNG with a color profile; None if it cannot be one.

    Args:
        image: (H, W, 3) uint8 RGB.
        suffix: of the file's name, lower case.
        quality: of JPEG and WebP, in [1, 100].
        icc_profile: of RGB pixels.
    """
    from PIL import Image

    image_format = {".png": "PNG", ".webp": "WEBP"}.get(suffix, "JPEG")
    buffer = BytesIO()
    with suppress(OSError, ValueError):  # too large for the format
        # Level 1 of PNG is as fast as OpenCV, which writes what has no profile.
        Image.fromarray(image).save(
            buffer, image_format, quality=quality, compress_level=1, icc_profile=icc_profile
        )
        return buffer.getvalue()
    return None


def rgb_of_pillow(image: Image.Image, name: str, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a Pillow image, which itself stays as it is.

    Args:
        image: may be a file that is not loaded yet.
        name: what error messages call it.
        max_pixels: images of more are refused before they are loaded.

    Raises:
        ImageDecodeError: truncated, broken or closed, too large, or pixels that have no 8-bit meaning.
    """
    with name_broken(name):
        refuse_too_large(image.width, image.height, name, max_pixels=max_pixels)
        # Of metadata that nobody reads. Only where needed: threads that decode would wait for each other.
        may_warn = image.format in ("TIFF", "GIF") or "exif" in image.info
        with _without_warnings() if may_warn else nullcontext():
            image.load()
            image = _upright(_as_adobe_means(image))
        return _to_rgb(image, name)


def exif_orientation(exif: bytes) -> int:
    """How an EXIF block says that a picture is to be turned; 1, upright, if there is none or a broken one."""
    if not exif:
        return 1
    from PIL import Image

    tags = Image.Exif()
    with suppress(Exception), _without_warnings():
        tags.load(exif)
        return int(tags.get(_EXIF_ORIENTATION, 1))
    return 1


def _as_adobe_means(image: Image.Image) -> Image.Image:
    """Pillow reads every CMYK JPEG as Adobe writes them, inverted; the others turned back."""
    if image.format != "JPEG" or image.mode != "CMYK" or "adobe" in image.info:
        return image
    from PIL import ImageChops

    return ImageChops.invert(image)


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    # A broken EXIF block does not make the pixels unreadable. Asked first, as Pillow copies what is upright.
    with suppress(Exception):
        if _by_exif_alone(image).get(_EXIF_ORIENTATION, 1) != 1:
            return ImageOps.exif_transpose(image)
    return image


def _by_exif_alone(image: Image.Image) -> Image.Exif:
    """Without what Pillow takes from XMP where EXIF says nothing: JPEG files are read without XMP."""
    if not any(key in image.info for key in _XMP):
        return image.getexif()
    from PIL import Image

    bare = Image.new("1", (1, 1))
    bare.info = {key: value for key, value in image.info.items() if key not in _XMP}
    return bare.getexif()


def _to_rgb(image: Image.Image, name: str) -> npt.NDArray[np.uint8]:
    if image.mode == "F":
        raise ImageDecodeError(f"{name}: {_FLOATS}")
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    # In strips: as a whole each of the steps would hold another 300 to 800 MB of a hundred megapixels.
    strip_rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, strip_rows):
        bottom = min(top + strip_rows, image.height)
        strip = image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = _grey(strip, name) if image.mode.startswith("I") else _on_white(strip)
    return pixels


def _grey(strip: Image.Image, name: str) -> npt.NDArray[Any]:
    # Pillow's own conversion of 16 bits would clip at 255 instead of scaling.
    grey = np.asarray(strip)
    if grey.min() < 0 or grey.max() > _MAX_16_BIT:
        raise ImageDecodeError(f"{name}: has grey values beyond 16 bits; convert it to 8 bits first")
    return (grey >> 8)[:, :, None]  # (H, W, 1)


def _on_white(strip: Image.Image) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if strip.has_transparency_data:
        # Of grey multiplied by its alpha Pillow knows one way only.
        strip = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
        strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
    return np.asarray(strip.convert("RGB"))


def _refuse_large_tiles(image: Any, name: str) -> None:
    """A tile is decoded as a whole, however little of it the picture shows."""
    width, height = (int(image.tag_v2.get(tag, 0)) for tag in _TIFF_TILE_WH)
    if width * height > 4 * max(image.width * image.height, _TIFF_TILE_PIXELS):
        raise ImageDecodeError(
            f"{name}: is a broken image (tiles of {width}x{height} pixels for a picture of "
            f"{image.width}x{image.height})"
        )


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence Pillow for one thread at a time: filters are the process's."""
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
