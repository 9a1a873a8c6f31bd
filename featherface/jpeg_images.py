"""JPEG bytes as RGB arrays, upright; damage is told.

By simplejpeg, whose libjpeg-turbo gives OpenCV's very pixels, and which hands on what OpenCV and Pillow keep
to themselves: that data are missing, and grey was filled in. It is imported inside the functions: a bare
training machine does without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from featherface.headers import JpegHeader
from featherface.pillow_images import exif_orientation

TellDamage: TypeAlias = Callable[[str], None]
"""Is told in a line what a picture lost."""

_LOGGER = logging.getLogger(__name__)


def log_damage(message: str) -> None:
    """Where nobody asks for it: a warning of this module's logger, which Python prints on stderr."""
    _LOGGER.warning("%s", message)


def decode_jpeg(
    data: bytes, header: JpegHeader, name: str, *, tell_damage: TellDamage = log_damage
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a grey or color JPEG, turned as its EXIF orientation says.

    Damaged data are decoded as far as they can be: many cameras' files break the rules a little, and every
    viewer shows them.

    Args:
        data: the whole file.
        header: what it says of itself.
        name: what messages call it.
        tell_damage: called once if data are damaged.

    Raises:
        ValueError: nothing can be decoded.
    """
    import simplejpeg

    try:
        image = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError as damage:
        image = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=False)
        tell_damage(f"{name}: is a damaged JPEG ({damage}); faces in what is lost cannot be found")
    upright: npt.NDArray[np.uint8] = _turn(image, exif_orientation(header.exif))
    return upright


def _turn(image: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Undo an orientation from 1 to 8; others mean nothing.

    Reference:
        CIPA DC-008 (Exif 2.32), tag 0x0112: where the first row and the first column of the data belong.
    """
    if not 2 <= orientation <= 8:
        return image
    if orientation >= 5:  # rows are columns
        image = image.transpose(1, 0, 2)
    # After that: which of the axes run backwards.
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(image[::rows, ::columns])
