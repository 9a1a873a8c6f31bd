"""Many files through one detector: sources expanded, broken files noted and passed over, pictures written."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from featherface.errors import DataError, ImageDecodeError, OptionError
from featherface.imaging import write_image
from featherface.inference.detector import FaceDetector
from featherface.inference.results import Faces
from featherface.inference.sources import images_in_folder

_BAR_FROM_FILES = 5


def parse_image_size(text: str) -> int | Literal["original"]:
    """`original`, or a number of pixels.

    Raises:
        OptionError: neither.
    """
    if text == "original":
        return "original"
    if not text.isdecimal():
        raise OptionError(f"image size: a number of pixels or 'original' is needed, got {text!r}")
    return int(text)


def expand_sources(sources: Iterable[str]) -> list[Path]:
    """The image files that files, folders and globs name, in order, each once.

    Raises:
        DataError: one of them names nothing.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found |= dict.fromkeys(images_in_folder(path))
        elif path.exists():
            found[path] = None
        else:
            matches = sorted(Path(match) for match in glob.glob(source, recursive=True))  # noqa: PTH207 - also absolute
            if not matches:
                raise DataError(f"{source}: there is no such file or folder, and it matches nothing")
            found |= dict.fromkeys(match for match in matches if match.is_file())
    return list(found)


def detect_files(
    detector: FaceDetector,
    paths: Sequence[Path],
    *,
    save_dir: Path | None = None,
    crops_dir: Path | None = None,
    blurred_dir: Path | None = None,
) -> Iterator[tuple[Path, Faces | ImageDecodeError]]:
    """Detect the faces of each file in turn; one that is no image is handed on as its error.

    Args:
        detector: finds the faces.
        paths: image files.
        save_dir: where the pictures with their faces marked go, under the files' names (numbered where two
            share one).
        crops_dir: where each face goes as a picture of its own, `<file>-1` the surest.
        blurred_dir: where the pictures go with all faces made unrecognizable.
    """
    taken: set[str] = set()
    for folder in (save_dir, crops_dir, blurred_dir):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    for path in tqdm(
        paths, desc="detect", unit="image", disable=None if len(paths) >= _BAR_FROM_FILES else True
    ):
        try:
            faces = detector(path)
        except ImageDecodeError as error:
            yield path, error
            continue
        name = _free_name(path, taken)
        if save_dir is not None:
            faces.save(save_dir / name)
        if crops_dir is not None:
            for number, crop in enumerate(faces.crop(), start=1):
                write_image(crops_dir / f"{Path(name).stem}-{number}{Path(name).suffix}", crop)
        if blurred_dir is not None:
            write_image(blurred_dir / name, faces.blur())
        yield path, faces


def _free_name(path: Path, taken: set[str]) -> str:
    # What we cannot encode (a .gif) becomes a PNG.
    suffix = path.suffix.lower() if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"} else ".png"
    name, number = f"{path.stem}{suffix}", 1
    while name in taken:
        number += 1
        name = f"{path.stem}-{number}{suffix}"
    taken.add(name)
    return name
