"""Many files through one detector: sources expanded, broken ones noted and passed over, pictures written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from featherface.errors import DataError, OptionError
from featherface.headers import image_plugin
from featherface.imaging import RgbImage, write_image
from featherface.inference.detector import FaceDetector
from featherface.inference.results import Faces
from featherface.inference.sources import files_named_by
from featherface.inference.video import FILM_SUFFIXES, FilmWriter, frames_per_second

_BAR_FROM_FILES = 5
_SIGNATURE_BYTES = 16


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
    """The files that files, folders (their images) and globs name, in order, each once.

    Raises:
        DataError: one of them names nothing.
    """
    found: dict[Path, None] = {}
    for source in sources:
        files = files_named_by(source)
        if files is None:
            _check_exists(Path(source))
            files = [Path(source)]
        found |= dict.fromkeys(files)
    return list(found)


def _check_exists(path: Path) -> None:
    try:
        path.lstat()  # a link that leads nowhere exists: reading it says why it is no picture
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file or folder") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be looked at ({error.strerror or error})") from error


@dataclass(frozen=True)
class Outputs:
    """Where the pictures of a run go; None: nowhere. Folders are made when the first one comes."""

    marked: Path | None = None
    """Pictures and films with their faces marked, under their names, numbered where two share one."""
    crops: Path | None = None
    """Each face as a picture of its own, `<file>-1` the surest."""
    blurred: Path | None = None
    """Pictures and films with all faces made unrecognizable."""

    def write_picture(self, name: str, faces: Faces) -> None:
        """Write what is asked for of one picture.

        Raises:
            DataError: a folder cannot be written to.
        """
        if self.marked is not None:
            faces.save(_made(self.marked) / name)
        self.write_crops(name, faces)
        if self.blurred is not None:
            write_image(_made(self.blurred) / name, faces.blur())

    def write_crops(self, name: str, faces: Faces) -> None:
        """Write the faces alone."""
        if self.crops is None:
            return
        for number, crop in enumerate(faces.crop(), start=1):
            write_image(_made(self.crops) / f"{Path(name).stem}-{number}{Path(name).suffix}", crop)


def detect_files(
    detector: FaceDetector, paths: Sequence[Path], *, outputs: Outputs | None = None, every: int = 1
) -> Iterator[tuple[str, Faces | DataError]]:
    """Detect the faces of each picture, and of each frame of a film; a broken file is handed on as its error.

    Args:
        detector: finds the faces.
        paths: pictures and films.
        outputs: pictures to write.
        every: only each so many-th frame of a film.

    Returns:
        Names (`<path>`, of a frame `<path>#<its number>`) with results.
    """
    outputs, taken = outputs or Outputs(), set[str]()
    for path in tqdm(
        paths, desc="detect", unit="file", disable=None if len(paths) >= _BAR_FROM_FILES else True
    ):
        name = _free_name(path, taken)
        if path.suffix.lower() in FILM_SUFFIXES and not _is_picture(path):
            yield from _detect_film(detector, path, name, outputs, every)
            continue
        try:
            faces = detector(path)
        except DataError as error:
            yield str(path), error
            continue
        outputs.write_picture(name, faces)
        yield str(path), faces


def _detect_film(
    detector: FaceDetector, path: Path, name: str, outputs: Outputs, every: int
) -> Iterator[tuple[str, Faces | DataError]]:
    try:
        rate = frames_per_second(path) / every
    except DataError as error:
        yield str(path), error
        return
    frames = tqdm(detector.stream(path, every=every), desc=path.name, unit="frame", disable=None)
    films: dict[Callable[[Faces], RgbImage], FilmWriter] = {}
    try:
        for number, faces in enumerate(_until_error(frames, path)):
            if isinstance(faces, DataError):
                yield str(path), faces
                break
            # With the first frame: a film that has none makes no folder.
            films = films or {
                draw: FilmWriter(_made(folder) / name, rate)
                for draw, folder in ((Faces.plot, outputs.marked), (Faces.blur, outputs.blurred))
                if folder is not None
            }
            outputs.write_crops(f"{Path(name).stem}-{number * every}.jpg", faces)
            for draw, film in films.items():
                film.write(draw(faces))
            yield f"{path}#{number * every}", faces
    except BaseException:
        for film in films.values():
            film.discard()
        raise
    for film in films.values():
        film.close()


def _until_error(frames: Iterable[Faces], path: Path) -> Iterator[Faces | DataError]:
    """The results of a film's frames; the error that ends them, or that there was none, comes last."""
    is_empty = True
    try:
        for faces in frames:
            is_empty = False
            yield faces
    except DataError as error:
        yield error
        return
    if is_empty:
        yield DataError(f"{path}: is a film without a frame that can be read")


def _is_picture(path: Path) -> bool:
    """Whether a file is a picture by what is in it, whatever its name says; it may be anything."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return image_plugin(file.read(_SIGNATURE_BYTES)) is not None
    except OSError:
        return False


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror or error})") from error
    return folder


def _free_name(path: Path, taken: set[str]) -> str:
    # What we cannot encode becomes a PNG (a .gif) or an MP4 (a .mov).
    given = path.suffix.lower()
    suffix = ".mp4" if given in FILM_SUFFIXES else ".png"
    suffix = given if given in {".jpg", ".jpeg", ".png", ".webp"} else suffix
    name, number = f"{path.stem}{suffix}", 1
    while name in taken:
        number += 1
        name = f"{path.stem}-{number}{suffix}"
    taken.add(name)
    return name
