"""What can be handed to a detector, and how it becomes an RGB array: paths, bytes, Pillow images, arrays."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from PIL import Image

from featherface.errors import DataError, ImageDecodeError
from featherface.headers import SIGNATURE_BYTES, image_plugin
from featherface.imaging import RgbImage, decode_image, read_image
from featherface.inference.folders import FILM_SUFFIXES, TellLeftOut, images_in_folder, log_left_out
from featherface.jpeg_images import TellDamage, log_damage
from featherface.pillow_images import rgb_of_pillow

if TYPE_CHECKING:
    import numpy.typing as npt

SingleSource: TypeAlias = str | Path | bytes | Image.Image | RgbImage
"""One image: a file, an encoded image in memory, a Pillow image, or an array as of `as_rgb`."""
FileStamp: TypeAlias = tuple[int, int]
"""Size and time of the last change (ns): a file that has others is another one."""
_WHITE = 255
# Two letters at least, so that a Windows drive is no address.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BRING = "bring it to 0 to 255 and convert to uint8"
_CONVERT = "convert with .round().clip(0, 255).astype('uint8')"


@dataclass(frozen=True)
class ImageSource:
    """One image that can be decoded whenever its pixels are needed, so that results need not keep them."""

    source: SingleSource | None
    """None for one that a result was to keep no longer."""
    name: str | None
    """The path it came from, or what else messages call it; None for an image in memory."""
    bgr: bool = False
    """An array has blue first, as OpenCV reads pictures."""
    stamp: FileStamp | None = None
    """Of a file, when it was handed in."""

    def read(self, *, tell_damage: TellDamage = log_damage) -> RgbImage:
        """The pixels, (H, W, 3) uint8 RGB.

        Args:
            tell_damage: as of `decode_image`.

        Raises:
            ImageDecodeError: a file, bytes or a Pillow image that cannot be decoded, or nothing is left.
            DataError: an array that is no image.
        """
        if self.source is None:
            raise ImageDecodeError(
                f"{self.name or 'the image'}: was left out of this result by without_image(); detect again"
            )
        if isinstance(self.source, str | Path):
            try:
                return read_image(self.source, tell_damage=tell_damage)
            except ImageDecodeError as error:
                if not (hint := _hint_of_many(self.source, error.__cause__)):
                    raise
                raise ImageDecodeError(f"{error}; {hint}") from error.__cause__
        if isinstance(self.source, bytes):
            return decode_image(self.source, self.name or "<bytes>", tell_damage=tell_damage)
        if isinstance(self.source, Image.Image):
            return rgb_of_pillow(self.source, "the Pillow image")
        return as_rgb(self.source, bgr=self.bgr)

    def read_again(self, image_hw: tuple[int, int]) -> RgbImage:
        """The pixels once more, for what was found in them; their damage was told then.

        Those of an array, which may be the caller's own, are read-only.

        Args:
            image_hw: height and width of what they were.

        Raises:
            ImageDecodeError: as of `read`, or it is another image by now (of an array: one of another size).
        """
        image = self.read(tell_damage=_was_told)
        if image.shape[:2] != image_hw or _stamp(self.source) != self.stamp:
            raise ImageDecodeError(
                f"{self.name or 'the image'}: has changed since its faces were found; detect again"
            )
        if isinstance(self.source, np.ndarray):
            image = image.view()
            image.flags.writeable = False
        return image


def _hint_of_many(source: str | Path, cause: BaseException | None) -> str:
    """What to do with one name of many pictures that was taken for one of a picture; nothing for others."""
    if isinstance(cause, IsADirectoryError):
        return "a folder is given alone, not in a list"
    if isinstance(cause, FileNotFoundError) and glob.has_magic(str(source)):
        return "a glob is given alone, and as text"
    return ""


def _was_told(_damage: str) -> None:
    """When the faces were found."""


def _stamp(source: object) -> FileStamp | None:
    if not isinstance(source, str | Path):
        return None
    try:
        about = Path(source).stat()
    except (OSError, ValueError):  # whoever reads it says what is wrong
        return None
    return about.st_size, about.st_mtime_ns


def describe_source(source: object, *, bgr: bool = False) -> ImageSource:
    """One image with the name that results and messages give it.

    Args:
        source: as of `SingleSource`, or what this function made of one.
        bgr: arrays have blue first; says nothing of files and Pillow images, whose order is known.

    Raises:
        DataError: something that is no image.
    """
    if isinstance(source, ImageSource):
        return source
    if isinstance(source, str | Path):
        check_name(source)
        return ImageSource(source, str(source), stamp=_stamp(source))
    if isinstance(source, bytearray | memoryview):
        return ImageSource(bytes(source), None)
    if not isinstance(source, bytes | Image.Image | np.ndarray):
        raise DataError(
            "an image is a path, bytes, a Pillow image or an array of pixels, got "
            f"{type(source).__module__}.{type(source).__qualname__}"
        )
    return ImageSource(source, None, bgr)


def check_name(source: str | Path) -> None:
    """Refuse names that are none of a file.

    Raises:
        DataError: an empty name, which would be the current folder, or an address on the web.
    """
    if not str(source):
        raise DataError("a file's name is needed, got an empty one; '.' is the folder you are in")
    if isinstance(source, str) and _ADDRESS.match(source):
        raise DataError(f"{source}: addresses are not fetched; download it, then give the file or its bytes")


def files_named_by(source: str | Path, *, tell_left_out: TellLeftOut = log_left_out) -> list[Path] | None:
    """The images of a folder, or the files that a glob matches, sorted; None for anything else.

    A file that a glob reaches on several ways, through a link to a folder above it say, comes once.

    Args:
        source: what was handed in.
        tell_left_out: as of `images_in_folder`.

    Raises:
        DataError: nothing is there, or the folder cannot be looked into.
    """
    check_name(source)
    try:
        if Path(source).is_dir():
            return images_in_folder(Path(source), tell_left_out=tell_left_out)
        is_glob = isinstance(source, str) and glob.has_magic(source) and not Path(source).exists()
    except (OSError, ValueError):  # whoever opens it says what is wrong
        return None
    if not is_glob:
        return None
    matches = [Path(match) for match in glob.glob(str(source), recursive=True)]  # noqa: PTH207 - also absolute
    files = _each_once(match for match in matches if not os.path.isdir(match))  # noqa: PTH112 - never raises
    if not files:
        what = f"it matches {len(matches)} folders and no file" if matches else "it matches nothing"
        hint = (
            "; in a glob a [ of a name is written [[], which glob.escape() does" if "[" in str(source) else ""
        )
        raise DataError(f"{source}: there is no such file or folder, and {what}{hint}")
    return files


def is_film(source: object) -> TypeGuard[str | Path]:
    """Whether one of several sources is a film: by its name, unless its content is a picture's."""
    if not isinstance(source, str | Path) or Path(source).suffix.lower() not in FILM_SUFFIXES:
        return False
    return not _is_picture(Path(source))


def _is_picture(path: Path) -> bool:
    """Whether a file is a picture by what is in it, whatever its name says; it may be anything."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return image_plugin(file.read(SIGNATURE_BYTES)) is not None
    except (OSError, ValueError):
        return False


def _each_once(matches: Iterable[Path]) -> list[Path]:
    """The paths sorted; of several ways to one entry of a folder only the shortest."""
    resolved: Callable[[Path], str] = cache(os.path.realpath)
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(matches, key=lambda match: (len(match.parts), match)):
        found.setdefault((resolved(path.parent), path.name), path)
    return sorted(found.values())


def as_rgb(pixels: npt.NDArray[Any], *, bgr: bool = False) -> RgbImage:
    """An array of pixels as (H, W, 3) uint8 RGB; one that is so already is handed back itself.

    Grey is repeated, transparency laid on white, 16 bits keep their upper 8: as `decode_image` does it.

    Args:
        pixels: (H, W) or (H, W, 1) grey, (H, W, 3) color or (H, W, 4) with alpha last; uint8 or uint16.
        bgr: blue comes first.

    Raises:
        DataError: another shape or type, or no pixels.
    """
    pixels = np.asarray(pixels)  # masks and matrices are arrays with a life of their own
    is_picture = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if not is_picture or pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
        raise DataError(
            "an array of (H, W), (H, W, 3) or (H, W, 4) pixels of uint8 or uint16 is needed, got shape "
            f"{pixels.shape} of {pixels.dtype}{_hint(pixels, is_picture=is_picture)}"
        )
    if pixels.dtype.itemsize == 2:
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


def _hint(pixels: npt.NDArray[Any], *, is_picture: bool) -> str:
    """What to do with an array that is no image: with its type, then with its shape."""
    hints = []
    if pixels.dtype.kind == "f":
        hints.append(_hint_of_floats(pixels))
    elif pixels.dtype.kind == "b":
        hints.append("convert with .astype('uint8') * 255")
    elif pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
        hints.append(_BRING)
    if pixels.ndim == 4:
        hints.append("give a list of images: list(array)")
    elif pixels.ndim == 3 and not is_picture and pixels.shape[0] in (1, 3, 4):
        hints.append("put the channels last: array.transpose(1, 2, 0)")
    return "".join(f"; {hint}" for hint in hints)


def _hint_of_floats(pixels: npt.NDArray[np.floating]) -> str:
    # These two pass over what is no number, and take an array without pixels.
    lowest = np.fmin.reduce(pixels, axis=None, initial=0)
    highest = np.fmax.reduce(pixels, axis=None, initial=0)
    if lowest < 0:  # by a mean and a deviation that only the caller knows
        return _BRING
    return _CONVERT if highest > 1 else f"multiply by 255 and {_CONVERT}"
