"""From files to network input and back: the one preprocessing of training, evaluation and deployment.

An image is an (H, W, 3) uint8 RGB array everywhere; only `to_network_input` makes the BGR floats of networks.
Coordinates are continuous pixels: (0, 0) is the outer corner of the first pixel, so scaling an image by `s`
scales its boxes by `s`. Detection runs without torch, so nothing here imports it.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from featherface.errors import DataError, ImageDecodeError
from featherface.files import read_regular_file
from featherface.headers import MAX_PIXELS, describe_foreign, image_plugin, inspect_jpeg
from featherface.jpeg_images import TellDamage, decode_jpeg, log_damage
from featherface.pillow_images import READS_HEIC, decode_with_pillow, encode_with_profile, name_broken

RgbImage = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, red first."""
FloatArray = npt.NDArray[np.float32]

MEAN_BGR = (104.0, 117.0, 123.0)
"""What is subtracted from each channel: the published network was trained so, and so are the students."""
MEAN_RGB = (123, 117, 104)
"""The color of padding: zero after the subtraction."""
STRIDE_MULTIPLE = 32
"""Sides of the network input are multiples of the coarsest stride."""
MAX_FILE_BYTES = 1_000_000_000
"""Larger files are refused before they are read: so much holds `MAX_PIXELS` without any compression."""
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"),
    *(HEIC_SUFFIXES if READS_HEIC else ()),
)
"""Names that `read_image` is worth trying on, lower case; what a file is, is told by its content."""

_HINT_OF_PIPES = "; hand over the bytes instead, which featherface detect - reads from standard input"
_ENCODERS = (".jpg", ".jpeg", ".webp", ".png")


@dataclass(frozen=True)
class Letterboxed:
    """An image as the network sees it, and the way back to the pixels of its source."""

    image: RgbImage
    """(H, W, 3) with H and W multiples of `STRIDE_MULTIPLE`; padding at the right and the bottom."""
    scale_xy: tuple[float, float]
    """Input pixels over source pixels, per axis: sizes are whole pixels, so the two differ a little."""
    pad_right_bottom_px: tuple[int, int]
    """Width of the padded column and height of the padded row; nothing is padded at the left and the top."""
    source_hw: tuple[int, int]


def read_image(path: Path | str, *, tell_damage: TellDamage = log_damage) -> RgbImage:
    """Decode an image file to (H, W, 3) uint8 RGB, turned as its EXIF orientation says.

    Args:
        path: of the file.
        tell_damage: as of `decode_image`.

    Raises:
        ImageDecodeError: the file cannot be read, is no image, is cut short or has more than `MAX_PIXELS`.
    """
    try:
        data = read_regular_file(Path(path), max_bytes=MAX_FILE_BYTES, hint=_HINT_OF_PIPES)
    except OSError as error:
        raise ImageDecodeError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # a name with a zero byte, or with half a character
        raise ImageDecodeError(f"{str(path)!r}: cannot be read (no name that a file can have)") from error
    return decode_image(data, str(path), tell_damage=tell_damage)


def decode_image(
    data: bytes, name: str, *, max_pixels: int = MAX_PIXELS, tell_damage: TellDamage = log_damage
) -> RgbImage:
    """Decode JPEG, PNG, WebP, AVIF, BMP, GIF, TIFF or HEIC bytes to (H, W, 3) uint8 RGB.

    Of several pictures in a file the first, of HEIC the one that it names. Grey is repeated on three
    channels, transparency is laid on white, 16 bits keep their upper 8, CMYK is converted, the EXIF
    orientation is applied. A cut file is refused: decoders would fill the rest with grey. A JPEG that lost
    data in the middle is decoded, and told of.

    Args:
        data: the whole file.
        name: what error messages call it.
        max_pixels: images of more are refused before their pixels take memory.
        tell_damage: called with a line if data were lost; by default it is logged as a warning.

    Raises:
        ImageDecodeError: no image, truncated, too large, or pixels that have no 8-bit meaning.
    """
    plugin = image_plugin(data)
    if plugin is None:
        raise ImageDecodeError(
            f"{name}: is no JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF or TIFF image ({describe_foreign(data)})"
        )
    with name_broken(name):
        if plugin == "Jpeg":
            header = inspect_jpeg(data, name, max_pixels=max_pixels)
            if header.num_channels in (1, 3):
                return decode_jpeg(data, header, name, tell_damage=tell_damage)
        return decode_with_pillow(data, plugin, name, max_pixels=max_pixels)


def write_image(
    path: Path | str, image: RgbImage, *, quality: int = 92, icc_profile: bytes | None = None
) -> None:
    """Write RGB pixels as JPEG, WebP or PNG, by the suffix; the file appears complete or not at all.

    Args:
        path: ends with .jpg, .jpeg, .webp or .png; its folder exists.
        image: (H, W, 3) uint8 RGB.
        quality: of JPEG and WebP, in [1, 100].
        icc_profile: what the colors mean, in the file too; None: it says nothing.

    Raises:
        DataError: another suffix, a name that no file can have, or a folder that cannot be written to.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _ENCODERS:
        raise DataError(f"{path}: images are written as {', '.join(_ENCODERS)}, not as '{path.suffix}'")
    encoded = (
        _encode(image, suffix, quality)
        if icc_profile is None
        else encode_with_profile(image, suffix, quality=quality, icc_profile=icc_profile)
    )
    if encoded is None:
        raise DataError(f"{path}: an image of shape {image.shape} cannot be encoded as {suffix}")
    # Without the file's name, which may be as long as a name can be.
    temporary = path.with_name(f".{secrets.token_hex(8)}{suffix}")
    try:
        temporary.write_bytes(encoded)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
    except ValueError as error:  # a name with a zero byte, or with half a character
        raise DataError(f"{str(path)!r}: cannot be written (no name that a file can have)") from error
    finally:
        with suppress(OSError, ValueError):
            temporary.unlink()


def resize_long_side(image: RgbImage, long_side_px: int) -> tuple[RgbImage, tuple[float, float]]:
    """The image with its longer side made `long_side_px`, and the scale of x and of y (new over old)."""
    height, width = image.shape[:2]
    new_height, new_width = _scaled_hw((height, width), long_side_px)
    if (new_width, new_height) == (width, height):
        return image, (1.0, 1.0)
    # Averaging keeps small faces when shrinking; it would make blocks when enlarging.
    interpolation = cv2.INTER_AREA if long_side_px < max(height, width) else cv2.INTER_LINEAR
    resized = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    return _as_rgb(resized), (new_width / width, new_height / height)


def input_hw(source_hw: tuple[int, int], size_px: int | None) -> tuple[int, int]:
    """Height and width of the network input that `letterbox` makes of an image, without making it.

    Args:
        source_hw: height and width of the image.
        size_px: as of `letterbox`.
    """
    height, width = source_hw if size_px is None else _scaled_hw(source_hw, size_px)
    return _padded(height), _padded(width)


def letterbox(image: RgbImage, size_px: int | None = None) -> Letterboxed:
    """Scale an image and pad it to sides that the network accepts, without changing its aspect.

    Args:
        image: (H, W, 3) uint8 RGB.
        size_px: the longer side after scaling, before padding; None keeps the original size.
    """
    if size_px is not None and size_px < 1:
        raise ValueError(f"size_px must be at least 1, got {size_px}")
    source_hw = (image.shape[0], image.shape[1])
    resized, scale_xy = (image, (1.0, 1.0)) if size_px is None else resize_long_side(image, size_px)
    height, width = resized.shape[:2]
    padded_height, padded_width = input_hw(source_hw, size_px)
    right, bottom = padded_width - width, padded_height - height
    if right or bottom:
        bordered = cv2.copyMakeBorder(resized, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=MEAN_RGB)
        resized = _as_rgb(bordered)
    return Letterboxed(resized, scale_xy, (right, bottom), source_hw)


def unletterbox_boxes(boxes_xyxy: FloatArray, letterboxed: Letterboxed) -> FloatArray:
    """Map (N, 4) boxes from input to source pixels, cut to the source image; an empty set stays empty."""
    height, width = letterboxed.source_hw
    source = boxes_xyxy / np.asarray(letterboxed.scale_xy * 2, dtype=np.float32)
    limits = np.asarray((width, height) * 2, dtype=np.float32)
    return np.clip(source, 0, limits).astype(np.float32, copy=False)


def unletterbox_landmarks(landmarks_xy: FloatArray, letterboxed: Letterboxed) -> FloatArray:
    """Map (N, 5, 2) landmarks from input pixels to source pixels; points of a cut face may lie outside."""
    scale_xy: FloatArray = np.asarray(letterboxed.scale_xy, dtype=np.float32)
    return landmarks_xy / scale_xy


def to_network_input(image: RgbImage, *, out: FloatArray | None = None) -> FloatArray:
    """(3, H, W) float32 network input of an RGB image: BGR minus `MEAN_BGR`.

    Args:
        image: (H, W, 3) uint8 RGB.
        out: (3, H, W) float32 to write to, a slice of a batch say; None makes a new array.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an (H, W, 3) uint8 image is needed, got {image.shape} {image.dtype}")
    if out is None:
        out = np.empty((3, *image.shape[:2]), dtype=np.float32)
    # Planes first: subtracting from strided channels takes twice as long.
    for plane, mean, target in zip(reversed(cv2.split(image)), MEAN_BGR, out, strict=True):
        np.subtract(plane, np.float32(mean), out=target)
    return out


def _encode(image: RgbImage, suffix: str, quality: int) -> bytes | None:
    quality_flag = cv2.IMWRITE_WEBP_QUALITY if suffix == ".webp" else cv2.IMWRITE_JPEG_QUALITY
    flags = [] if suffix == ".png" else [quality_flag, quality]
    encoded_well, encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    return encoded.tobytes() if encoded_well else None


def _scaled_hw(source_hw: tuple[int, int], long_side_px: int) -> tuple[int, int]:
    scale = long_side_px / max(source_hw)
    return max(1, round(source_hw[0] * scale)), max(1, round(source_hw[1] * scale))


def _padded(side_px: int) -> int:
    return -(-side_px // STRIDE_MULTIPLE) * STRIDE_MULTIPLE


def _as_rgb(image: cv2.typing.MatLike) -> RgbImage:
    return np.asarray(image, dtype=np.uint8)
