"""Many files through one detector: sources expanded, broken ones noted and passed over, pictures written."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from featherface.errors import DataError, OptionError
from featherface.headers import image_plugin
from featherface.imaging import HEIC_SUFFIXES
from featherface.inference.detector import FaceDetector
from featherface.inference.folders import LeftOut, TellLeftOut, left_out_of, log_left_out
from featherface.inference.outputs import FileId, FilmCopies, Outputs, error_of_one_file, file_id
from featherface.inference.results import Faces
from featherface.inference.sources import ImageSource, files_named_by, is_film
from featherface.inference.video import frames_per_second

_BAR_FROM_FILES = 5
_MAX_DIGITS = 9
_STANDARD_INPUT, _STANDARD_STEM = Path("/dev/stdin"), "stdin"
# What we cannot encode becomes a PNG (a .gif).
_COPY_SUFFIXES = {
    **{suffix: suffix for suffix in (".jpg", ".jpeg", ".png", ".webp")},
    **dict.fromkeys((".jpe", ".jfif", ".avif", *HEIC_SUFFIXES), ".jpg"),
}
_COPIES_BY_PLUGIN: dict[str | None, str] = {"Jpeg": ".jpg", "Avif": ".jpg", "Heif": ".jpg", "WebP": ".webp"}


def parse_image_size(text: str) -> int | Literal["original"]:
    """`original`, or a number of pixels.

    Raises:
        OptionError: neither, or a number beyond all pictures.
    """
    if text == "original":
        return "original"
    if not text.isdecimal():
        raise OptionError(f"image size: a number of pixels or 'original' is needed, got {text!r}")
    if len(text) > _MAX_DIGITS:  # Python itself refuses to read thousands of them
        raise OptionError(
            f"image size: a number of pixels or 'original' is needed, got one of {len(text)} digits"
        )
    return int(text)


def expand_sources(sources: Iterable[str], *, tell_left_out: TellLeftOut = log_left_out) -> list[Path]:
    """The files that files, folders (their images) and globs name, in order, each once.

    Args:
        sources: as given.
        tell_left_out: called once a folder if it holds pictures or films that nothing of `sources` names.

    Raises:
        DataError: one of them names nothing.
    """
    found: dict[Path, None] = {}
    left_out: list[LeftOut] = []
    for source in sources:
        files = files_named_by(source, tell_left_out=left_out.append)
        if files is None:
            _check_exists(Path(source))
            files = [Path(source)]
        found |= dict.fromkeys(files)
    for each in dict.fromkeys(left_out):
        still = (name for name in (*each.films, *each.foreign) if Path(each.folder, name) not in found)
        if (left := left_out_of(each.folder, still)) is not None:
            tell_left_out(left)
    return list(found)


def _check_exists(path: Path) -> None:
    try:
        path.lstat()  # a link that leads nowhere exists: reading it says why it is no picture
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file or folder") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be looked at ({error.strerror or error})") from error


@dataclass(frozen=True)
class _Job:
    """A file or picture to look at."""

    source: Path | ImageSource
    copy_name: str
    """No other job has it. Empty where there are no copies."""
    is_film: bool

    @property
    def name(self) -> str:
        """In results."""
        return str(self.source.name if isinstance(self.source, ImageSource) else self.source)


def detect_files(
    detector: FaceDetector,
    sources: Sequence[Path | ImageSource],
    *,
    outputs: Outputs | None = None,
    every: int = 1,
) -> Generator[tuple[str, Faces | DataError]]:
    """Detect the faces of each picture, and of each frame of a film; a broken file is handed on as its error.

    So is a file whose copies alone cannot be written; close the generator to leave no half of a film.

    Args:
        detector: finds the faces.
        sources: pictures and films; what is no path is the picture that came on standard input.
        outputs: pictures to write.
        every: only each so many-th frame of a film.

    Returns:
        Names (`<path>`, or the name that a source has; of a frame `<path>#<its number>`) with results.

    Raises:
        OptionError: before anything is looked at: a copy would replace one of `sources`.
        DataError: while it goes on: a folder cannot be written to, or the disk is full.
    """
    outputs = outputs or Outputs()
    are_films = [is_film(source) for source in sources]
    if outputs == Outputs():
        jobs = [_Job(source, "", is_film) for source, is_film in zip(sources, are_films, strict=True)]
        return _detect_jobs(detector, jobs, outputs, frozenset(), every)
    names = _names_of_copies(sources, are_films, cuts_out=outputs.crops is not None)
    jobs = [_Job(*job) for job in zip(sources, names, are_films, strict=True)]
    # What standard input was sent from may be a file.
    files = (source if isinstance(source, Path) else _STANDARD_INPUT for source in sources)
    kept = {found for file in files if (found := file_id(file)) is not None}
    for folder in (outputs.marked, outputs.blurred):
        for target in (folder / job.copy_name for job in jobs if folder is not None):
            if file_id(target) in kept:
                raise OptionError(
                    f"{target}: is one of the sources and would be replaced; give another folder"
                )
    return _detect_jobs(detector, jobs, outputs, kept, every)


def _detect_jobs(
    detector: FaceDetector, jobs: Sequence[_Job], outputs: Outputs, sources: Set[FileId], every: int
) -> Generator[tuple[str, Faces | DataError]]:
    for job in tqdm(jobs, desc="detect", unit="file", disable=None if len(jobs) >= _BAR_FROM_FILES else True):
        if job.is_film:
            yield from _detect_film(detector, job, outputs, sources, every)
            continue
        try:
            faces = detector(job.source)
        except DataError as error:
            yield job.name, error
            continue
        try:
            outputs.write_picture(job.copy_name, faces, sources=sources)
        except DataError as error:
            yield job.name, error_of_one_file(error)
            continue
        yield job.name, faces


def _detect_film(
    detector: FaceDetector, job: _Job, outputs: Outputs, sources: Set[FileId], every: int
) -> Iterator[tuple[str, Faces | DataError]]:
    path = Path(job.name)
    try:
        copies = FilmCopies(outputs, job.copy_name, frames_per_second(path) / every, sources)
    except DataError as error:
        yield str(path), error
        return
    # leave: at its end the bar stays if it is the only one; below another it would be left upon that one.
    frames = tqdm(detector.stream(path, every=every), desc=path.name, unit="frame", leave=None, disable=None)
    try:
        for number, faces in enumerate(_until_error(frames)):
            if isinstance(faces, DataError):
                yield str(path), faces
                break
            copies.write(number * every, faces)
            yield str(faces.name), faces
        copies.close()
    except DataError as error:
        copies.discard()
        yield str(path), error_of_one_file(error)
    except BaseException:
        copies.discard()
        raise


def _until_error(frames: Iterable[Faces]) -> Iterator[Faces | DataError]:
    """The results of a film's frames; the error that ends them comes last."""
    try:
        yield from frames
    except DataError as error:
        yield error


def _names_of_copies(
    sources: Sequence[Path | ImageSource], are_films: Sequence[bool], *, cuts_out: bool
) -> list[str]:
    """Names for the copies of the sources, no two alike; if faces are cut out, theirs neither."""
    names, taken = [""] * len(sources), set[str]()
    # Where the search for a free name goes on: names are only ever taken, so what was taken before still is.
    last_numbers: dict[tuple[str, str], int] = {}
    # Pictures first, in any order: faces of frame 3 of a.mp4 and of a picture a-3.jpg are both a-3-1.jpg.
    for index in sorted(range(len(sources)), key=are_films.__getitem__):
        stem, suffix = _stem_and_suffix(sources[index], is_film=are_films[index])
        number = last_numbers.get((stem, suffix), 1)
        name = _numbered(stem, number, suffix)
        while name in taken:
            number += 1
            name = _numbered(stem, number, suffix)
        last_numbers[stem, suffix] = number
        names[index] = name
        taken.add(name)
        if cuts_out:
            taken.add(re.sub(r"-[0-9]+\.jpg$", ".mp4", name))
    return names


def _stem_and_suffix(source: Path | ImageSource, *, is_film: bool) -> tuple[str, str]:
    if isinstance(source, ImageSource):
        plugin = image_plugin(source.source) if isinstance(source.source, bytes) else None
        return _STANDARD_STEM, _COPIES_BY_PLUGIN.get(plugin, ".png")
    # A film becomes an MP4 (a .mov).
    return source.stem, ".mp4" if is_film else _COPY_SUFFIXES.get(source.suffix.lower(), ".png")


def _numbered(stem: str, number: int, suffix: str) -> str:
    return f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}"
