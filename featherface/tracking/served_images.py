"""What a client of the served model sends, made into images: files in base64, or pixels.

Everything here comes from strangers. So a text is never taken for a path, and what cannot be used is refused
in a line that names its place in the batch. Detecting is not done here.
"""

from __future__ import annotations

import base64
import reprlib
from typing import Any

import numpy as np
import numpy.typing as npt

from featherface.errors import DataError
from featherface.imaging import RgbImage, decode_image

MAX_SERVED_PIXELS = 50_000_000
"""Larger images are refused: some kilobytes can decode to all that `headers.MAX_PIXELS` allows, and a server
holds several images at once."""
_DATA_URL = "data:"
_WANTED = "base64 of an image file, or (H, W, 3) RGB pixels from 0 to 255, is needed"


def list_images(given: npt.NDArray[Any]) -> list[Any]:
    """The images of a request, undecoded, in its order.

    Args:
        given: one image or several: texts, bytes, arrays or nested lists. Three dimensions are one image.
    """
    is_one_image = given.ndim in (0, 3)
    return list(given.reshape(1) if given.ndim == 0 else given[None] if is_one_image else given)


def read_served_image(item: object, name: str) -> RgbImage:
    """An image of a request as (H, W, 3) uint8 RGB.

    Args:
        item: one of `list_images`.
        name: what messages call it.

    Raises:
        DataError: no image, a broken one, or one of more than `MAX_SERVED_PIXELS`.
    """
    if isinstance(item, np.ndarray) and item.ndim == 0:  # MLflow wraps what it finds in `instances`
        item = item.item()
    if isinstance(item, str):
        item = _decode_base64(item, name)
    if isinstance(item, bytes):
        return decode_image(item, name, max_pixels=MAX_SERVED_PIXELS)
    return _read_pixels(item, name)


def _decode_base64(text: str, name: str) -> bytes:
    # What a browser's canvas and FileReader give: data:image/png;base64,...
    encoded = text.partition(",")[2] if text.startswith(_DATA_URL) else text
    try:
        # Encoders break lines. Anything else that is not base64 is a mistake, and b64decode would skip it.
        return base64.b64decode("".join(encoded.split()), validate=True)
    except ValueError as error:
        raise DataError(
            f"{name}: {_WANTED}, got a text that is not base64: {reprlib.repr(text)} ({error})"
        ) from error


def _read_pixels(item: object, name: str) -> RgbImage:
    is_untyped = isinstance(item, np.ndarray) and item.dtype == object
    try:
        # From a list numpy tells whole numbers from others; a cast would cut 0.5 to 0 without a word.
        pixels = np.asarray(item.tolist() if is_untyped else item)  # type: ignore[attr-defined]
    except ValueError as error:
        raise DataError(f"{name}: {_WANTED}, got lists of different lengths") from error
    if pixels.ndim == 0:
        raise DataError(f"{name}: {_WANTED}, got {reprlib.repr(item)}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0 or pixels.dtype.kind not in "iu":
        raise DataError(f"{name}: {_WANTED}, got an array of shape {pixels.shape} and type {pixels.dtype}")
    if pixels.min() < 0 or pixels.max() > 255:
        raise DataError(f"{name}: {_WANTED}, got numbers from {pixels.min()} to {pixels.max()}")
    return pixels.astype(np.uint8, copy=False)
