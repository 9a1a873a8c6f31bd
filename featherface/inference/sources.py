"""What can be handed to a detector, and how it becomes an RGB array: paths, bytes, Pillow images, arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps

from featherface.errors import DataError
from featherface.imaging import IMAGE_SUFFIXES, RgbImage, decode_image, read_image

SingleSource: TypeAlias = str | Path | bytes | Image.Image | RgbImage
"""One image: a file, an encoded image in memory, a Pillow image, or an (H, W, 3) uint8 RGB array."""


@dataclass(frozen=True)
class ImageSource:
    """One image that can be decoded whenever its pixels are needed, so that results need not keep them."""

    source: SingleSource
    name: str | None
    """The path it came from; None for an image in memory."""

    def read(self) -> RgbImage:
        """The pixels, (H, W, 3) uint8 RGB.

        Raises:
            ImageDecodeError: a file or bytes that are no image.
            DataError: an array of another shape or type.
        """
        if isinstance(self.source, str | Path):
            return read_image(self.source)
        if isinstance(self.source, bytes):
            return decode_image(self.source, "<bytes>")
        if isinstance(self.source, Image.Image):
            return _pixels_of_pillow(self.source)
        return check_rgb(self.source)


def describe_source(source: object) -> ImageSource:
    """One image with the name that results and messages give it.

    Raises:
        DataError: something that is no image.
    """
    if isinstance(source, str | Path):
        return ImageSource(source, str(source))
    if isinstance(source, bytearray | memoryview):
        return ImageSource(bytes(source), None)
    if not isinstance(source, bytes | Image.Image | np.ndarray):
        raise DataError(
            "an image is a path, bytes, a Pillow image or an (H, W, 3) uint8 RGB array, got "
            f"{type(source).__module__}.{type(source).__qualname__}"
        )
    return ImageSource(source, None)


def images_in_folder(folder: Path) -> list[Path]:
    """Every image below a folder, sorted by path; hidden files and folders are passed over.

    Raises:
        DataError: there is none.
    """
    images = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not images:
        raise DataError(f"{folder}: has no images in it (looked for {', '.join(IMAGE_SUFFIXES)})")
    return images


def check_rgb(image: RgbImage) -> RgbImage:
    """The array itself, if it is an image of this project.

    Raises:
        DataError: another shape or type, or no pixels.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"an (H, W, 3) uint8 RGB array is needed, got shape {image.shape} of {image.dtype}")
    if image.size == 0:
        raise DataError(f"an image needs at least one pixel, got shape {image.shape}")
    return image


def _pixels_of_pillow(image: Image.Image) -> RgbImage:
    """RGB pixels as `decode_image` would give them: upright, transparency on white, 16 bits cut to 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("a Pillow image with floating-point pixels has no 8-bit meaning; convert it first")
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return check_rgb(np.repeat(grey[:, :, None], 3, axis=2))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return check_rgb(np.array(image.convert("RGB")))
