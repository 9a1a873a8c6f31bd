"""The ICC profile of a source, for copies of its pixels: phones write colors that mean others without it."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image

from featherface.errors import ImageDecodeError
from featherface.headers import SIGNATURE_BYTES, image_plugin
from featherface.pillow_images import name_broken, open_with_pillow

# Of pictures that become RGB without a change of color.
_RGB_MODES = ("RGB", "RGBA", "RGBX", "P")
# In a PNG Pillow takes a longer one for an attack.
_MAX_BYTES = 2**20


def read_rgb_profile(source: object) -> bytes | None:
    """The ICC profile of a picture with RGB pixels.

    Args:
        source: as of `ImageSource`; of a file the header alone is read. An array has no profile.

    Returns:
        None where there is none, it is of other colors or of more than 1 MB, or the source is broken.
    """
    if isinstance(source, Image.Image):
        return _rgb_profile(source)
    # A picture whose header is broken may be one all the same, without a profile.
    with suppress(ImageDecodeError), name_broken("the profile"), _opened(source) as file:
        plugin = image_plugin(file.read(SIGNATURE_BYTES))
        file.seek(0)
        return None if plugin is None else _rgb_profile(open_with_pillow(file, plugin))
    return None


def _opened(source: object) -> IO[bytes]:
    if isinstance(source, str | Path) and Path(source).is_file():  # a pipe would wait for its writer
        return Path(source).open("rb")
    return BytesIO(source if isinstance(source, bytes) else b"")


def _rgb_profile(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    if image.mode not in _RGB_MODES or not isinstance(profile, bytes) or len(profile) > _MAX_BYTES:
        return None
    # ICC.1:2022, 7.2: bytes 16 to 19 are the color space of the pixels.
    return profile if profile[16:20] == b"RGB " else None
