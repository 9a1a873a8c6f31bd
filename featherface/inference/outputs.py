"""Pictures and films that a run writes: marked, cut out, blurred."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from featherface.errors import DataError, ImageDecodeError, OptionError
from featherface.imaging import RgbImage, write_image
from featherface.inference.results import Faces
from featherface.inference.video import FilmWriter

FileId: TypeAlias = tuple[int, int]
"""Device and inode: the same under each of a file's names."""
# What the system says of one name; of anything else it says, the next file would die as well.
_ONE_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EISDIR, errno.EINVAL, errno.EILSEQ)


class _FolderError(DataError):
    """A folder of outputs that cannot be made."""


@dataclass(frozen=True)
class Outputs:
    """Where the pictures of a run go; None: nowhere. Folders are made when the first one comes.

    Raises:
        OptionError: one folder for two of them.
    """

    marked: Path | None = None
    """Pictures and films with their faces marked, under their names, numbered where two share one."""
    crops: Path | None = None
    """Each face as a picture of its own, `<file>-1` the surest, of a film `<file>-<frame>-1`."""
    blurred: Path | None = None
    """Pictures and films with all faces made unrecognizable."""

    def __post_init__(self) -> None:
        asked = [folder for folder in (self.marked, self.crops, self.blurred) if folder is not None]
        resolved = [os.path.realpath(folder) for folder in asked]
        for folder, where in zip(asked, resolved, strict=True):
            if resolved.count(where) > 1:
                raise OptionError(
                    f"{folder}: marked, cut out and blurred pictures share names: give each its own folder"
                )

    def write_picture(self, name: str, faces: Faces, *, sources: Set[FileId] = frozenset()) -> None:
        """Write what is asked for of one picture.

        Args:
            name: of the copies.
            faces: of the picture.
            sources: as of `write_crops`.

        Raises:
            DataError: a folder cannot be written to, or no file can have such a name.
        """
        if self.marked is not None:
            faces.save(_made(self.marked) / name)
        self.write_crops(name, faces, sources=sources)
        if self.blurred is not None:
            write_image(_made(self.blurred) / name, faces.blur(), icc_profile=faces.icc_profile)

    def write_crops(self, name: str, faces: Faces, *, sources: Set[FileId] = frozenset()) -> None:
        """Write the faces alone.

        Args:
            name: of the picture; the faces are numbered after it.
            faces: of the picture.
            sources: files that must not be replaced.

        Raises:
            DataError: the folder cannot be written to, no file can have such a name, or a source has it.
        """
        if self.crops is None:
            return
        profile = faces.icc_profile
        for number, crop in enumerate(faces.crop(), start=1):
            target = _made(self.crops) / f"{Path(name).stem}-{number}{Path(name).suffix}"
            if file_id(target) in sources:
                raise DataError(
                    f"{target}: is one of the sources, and a face of {name} would replace it; "
                    "give the faces another folder"
                )
            write_image(target, crop, icc_profile=profile)


class FilmCopies:
    """What is asked for of one film: the films appear whole at `close`, or not at all.

    Args:
        outputs: where to.
        name: of the films; faces are named after it and their frame.
        rate: frames a second.
        sources: as of `Outputs.write_crops`.
    """

    def __init__(self, outputs: Outputs, name: str, rate: float, sources: Set[FileId]) -> None:
        self._outputs, self._name, self._rate, self._sources = outputs, name, rate, sources
        self._films: dict[Callable[[Faces], RgbImage], FilmWriter] = {}

    def write(self, frame: int, faces: Faces) -> None:
        """Add what is asked for of one frame.

        Raises:
            DataError: as of `Outputs.write_crops`, or a film cannot be written.
        """
        # With the first frame: a film that has none makes no folder.
        self._films = self._films or {
            draw: FilmWriter(_made(folder) / self._name, self._rate)
            for draw, folder in ((Faces.plot, self._outputs.marked), (Faces.blur, self._outputs.blurred))
            if folder is not None
        }
        self._outputs.write_crops(f"{Path(self._name).stem}-{frame}.jpg", faces, sources=self._sources)
        for draw, film in self._films.items():
            film.write(draw(faces))

    def close(self) -> None:
        """Give the films their names.

        Raises:
            DataError: as of `FilmWriter.close`.
        """
        for film in self._films.values():
            film.close()

    def discard(self) -> None:
        """Leave nothing of the films that have no name yet."""
        for film in self._films.values():
            film.discard()


def error_of_one_file(error: DataError) -> DataError:
    """An error of writing, if the next file may fare better.

    Raises:
        DataError: the error itself, if not: the folder cannot be written to, or the disk is full.
    """
    cause = error.__cause__
    is_of_disk = isinstance(cause, OSError) and cause.errno not in _ONE_NAME_ERRORS
    if isinstance(error, _FolderError) or (is_of_disk and not isinstance(error, ImageDecodeError)):
        raise error
    return error


def file_id(path: Path) -> FileId | None:
    """Which file this is; None if there is none."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return None
    return about.st_dev, about.st_ino


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _FolderError(f"{folder}: cannot be made ({error.strerror or error})") from error
    return folder
