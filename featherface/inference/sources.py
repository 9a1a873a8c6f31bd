"""What can be handed to a detector, and how it becomes an RGB array: paths, bytes, Pillow images, arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from featherface.errors import DataError
from featherface.imaging import IMAGE_SUFFIXES, RgbImage, decode_image, read_image

if TYPE_CHECKING:
    import numpy.typing as npt

SingleSource: TypeAlias = str | Path | bytes | Image.Image | RgbImage
"""One image: a file, an encoded image in memory, a Pillow image, or an array as of `as_rgb`."""
_WHITE = 255


@dataclass(frozen=True)
class ImageSource:
    """One image that can be decoded whenever its pixels are needed, so that results need not keep them."""

    source: SingleSource
    name: str | None
    """The path it came from; None for an image in memory."""
    bgr: bool = False
    """An array has blue first, as OpenCV reads pictures."""

    def read(self) -> RgbImage:
        """The pixels, (H, W, 3) uint8 RGB.

        Raises:
            ImageDecodeError: a file or bytes that are no image.
            DataError: an array that is no image.
        """
        if isinstance(self.source, str | Path):
            return read_image(self.source)
        if isinstance(self.source, bytes):
            return decode_image(self.source, "<bytes>")
        if isinstance(self.source, Image.Image):
            return _pixels_of_pillow(self.source)
        return as_rgb(self.source, bgr=self.bgr)


def describe_source(source: object, *, bgr: bool = False) -> ImageSource:
    """One image with the name that results and messages give it.

    Args:
        source: as of `SingleSource`.
        bgr: arrays have blue first; says nothing of files and Pillow images, whose order is known.

    Raises:
        DataError: something that is no image.
    """
    if isinstance(source, str | Path):
        return ImageSource(source, str(source))
    if isinstance(source, bytearray | memoryview):
        return ImageSource(bytes(source), None)
    if not isinstance(source, bytes | Image.Image | np.ndarray):
        raise DataError(
            "an image is a path, bytes, a Pillow image or an array of pixels, got "
            f"{type(source).__module__}.{type(source).__qualname__}"
        )
    return ImageSource(source, None, bgr)


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


def as_rgb(pixels: npt.NDArray[Any], *, bgr: bool = False) -> RgbImage:
    """An array of pixels as (H, W, 3) uint8 RGB; one that is so already is handed back itself.

    Grey is repeated, transparency laid on white, 16 bits keep their upper 8: as `decode_image` does it.

    Args:
        pixels: (H, W) or (H, W, 1) grey, (H, W, 3) color or (H, W, 4) with alpha last; uint8 or uint16.
        bgr: blue comes first.

    Raises:
        DataError: another shape or type, or no pixels.
    """
    is_picture = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if not is_picture or pixels.dtype not in (np.uint8, np.uint16):
        hint = "; multiply by 255 and convert" if pixels.dtype.kind == "f" else ""
        raise DataError(
            "an array of (H, W), (H, W, 3) or (H, W, 4) pixels of uint8 or uint16 is needed, got shape "
            f"{pixels.shape} of {pixels.dtype}{hint}"
        )
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    elif pixels.shape[2] == 4:
        opacity = pixels[:, :, 3:].astype(np.uint16)
        mixed = pixels[:, :, :3] * opacity + _WHITE * (_WHITE - opacity)
        pixels = ((mixed + _WHITE // 2) // _WHITE).astype(np.uint8)
    return check_rgb(pixels[:, :, ::-1] if bgr else pixels)


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
