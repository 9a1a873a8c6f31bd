"""What a folder holds, by names alone: the images to read, and what is left out, told in a line."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeAlias

from featherface.errors import DataError
from featherface.imaging import HEIC_SUFFIXES, IMAGE_SUFFIXES

FILM_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".wmv", ".flv"),
)
"""Names under which the command line takes a file for a film."""
_FOREIGN_SUFFIXES = (
    *(suffix for suffix in HEIC_SUFFIXES if suffix not in IMAGE_SUFFIXES),
    *(".jxl", ".jp2", ".j2k", ".jpf", ".jpx"),
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef"),
    *(".srw", ".x3f", ".rwl", ".3fr", ".iiq", ".gpr", ".psd"),
    *(".pbm", ".pgm", ".ppm", ".pnm"),
)
"""Pictures that may show faces, in formats that are not read."""
_SHOWN_FILMS = 3
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftOut:
    """Pictures and films of a folder that are not looked at; as text the line that says so."""

    folder: str
    films: tuple[str, ...] = ()
    """Names below the folder."""
    foreign: tuple[str, ...] = ()
    """The same, of pictures in formats that are not read."""

    def __str__(self) -> str:
        return f"{self.folder}: left out {self.what}"

    @property
    def what(self) -> str:
        """How many of which kind, and what to do."""
        kinds = []
        if self.films:
            shown = ", ".join((*self.films[:_SHOWN_FILMS], *(["..."] if self.films[_SHOWN_FILMS:] else [])))
            kinds.append(f"{_count(self.films, 'film')} ({shown}: give featherface detect films by name)")
        if self.foreign:
            found = {_suffix(name) for name in self.foreign}
            extra = "; pi-heif reads HEIC" if found.intersection(HEIC_SUFFIXES) else ""
            one = len(self.foreign) == 1
            formats, them = ("of a format that is", "it") if one else ("of formats that are", "them")
            advice = f"{', '.join(sorted(found))}: convert {them}{extra}"
            kinds.append(f"{_count(self.foreign, 'picture')} {formats} not read ({advice})")
        return ", ".join(kinds)


TellLeftOut: TypeAlias = Callable[[LeftOut], None]
"""Is told what a folder holds beside its images, if there is something."""


def log_left_out(left_out: LeftOut) -> None:
    """Where nobody asks for it: a warning of this module's logger, which Python prints on stderr."""
    _LOGGER.warning("%s", left_out)


def left_out_of(folder: str, names: Iterable[str]) -> LeftOut | None:
    """The films and foreign pictures among the names of a folder's files; None if there are none.

    A foreign picture beside which lies an image of the same name is not left out: it is the same shot, as raw
    file and JPEG or converted.
    """
    ordered = sorted(names)
    looked_at = {_without_suffix(name) for name in ordered if _suffix(name) in IMAGE_SUFFIXES}
    films = tuple(name for name in ordered if _suffix(name) in FILM_SUFFIXES)
    foreign = tuple(
        name
        for name in ordered
        if _suffix(name) in _FOREIGN_SUFFIXES and _without_suffix(name) not in looked_at
    )
    return LeftOut(folder, films, foreign) if films or foreign else None


def images_in_folder(folder: Path, *, tell_left_out: TellLeftOut = log_left_out) -> list[Path]:
    """Every image below a folder, sorted by path; hidden files and folders are passed over.

    Names are what counts: links that lead nowhere, subfolders that cannot be looked into and the like are
    listed, and refused by whoever reads them. Folders that are links are not entered.

    Args:
        folder: to look into.
        tell_left_out: called once if it holds pictures of other formats, or films; by default that is logged.

    Raises:
        DataError: there is none, or the folder cannot be looked into.
    """
    found: list[Path] = []
    all_names: list[str] = []

    def list_closed(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise DataError(f"{folder}: cannot be looked into ({error.strerror})") from error
        found.append(Path(error.filename))

    for inside, subfolders, names in os.walk(folder, onerror=list_closed):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                path = Path(inside, name)
                all_names.append(str(path.relative_to(folder)))
                if _suffix(name) in IMAGE_SUFFIXES:
                    found.append(path)
    left_out = left_out_of(str(folder), all_names)
    if not found:
        but = f", but {left_out.what}" if left_out else ""
        raise DataError(f"{folder}: has no images in it (looked for {', '.join(IMAGE_SUFFIXES)}){but}")
    if left_out:
        tell_left_out(left_out)
    return sorted(found)


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()


def _without_suffix(name: str) -> PurePath:
    return PurePath(name).with_suffix("")


def _count(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"
