"""The table of `featherface detect --csv`: a line a face."""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from featherface.errors import DataError

if TYPE_CHECKING:
    from featherface.inference.results import Faces

_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
COLUMNS = (
    "image", "left", "top", "right", "bottom", "score",
    *(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
)  # fmt: skip
"""Pixels of the picture."""
STANDARD_OUTPUT = Path("-")


class FaceTable:
    """A CSV file in the making: appears complete at `close`, or not at all; an older one stays until then.

    What is no ordinary file is written to at once, and so is standard output, also where a shell sends it
    into a file: that file is not ours to replace.

    Args:
        path: of the file, whose folder exists; `-` is standard output.

    Raises:
        DataError: it cannot be written; so says every method but `discard`.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._num_pictures = path, 0
        self._target = Path(os.path.realpath(path))  # a link stays one
        with self._named_errors():
            standard = _standard_stream(path)
            is_ordinary = standard is None and (path.is_file() or not path.exists())
            self._written = self._target.with_name(f".{secrets.token_hex(8)}.csv") if is_ordinary else path
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            file = os.open(self._written, flags, 0o666) if standard is None else os.dup(standard)
            self._stream = os.fdopen(file, "w", newline="", encoding="utf-8", errors="backslashreplace")
        self._writer = csv.writer(self._stream)
        self._writer.writerow(COLUMNS)

    def add(self, name: str, faces: Faces) -> None:
        """Add the faces of a picture."""
        self._num_pictures += 1
        with self._named_errors():
            self._writer.writerows(_rows(name, faces))

    def close(self) -> None:
        """Give the file its name; without a picture there is none."""
        if not self._num_pictures:
            self.discard()
            return
        try:
            with self._named_errors():
                self._stream.close()
                if self._written != self._path:
                    self._written.replace(self._target)
        except DataError:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave nothing of it."""
        with suppress(OSError):
            self._stream.close()
        if self._written != self._path:
            with suppress(OSError):
                self._written.unlink()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written ({error.strerror or error})") from error


def _standard_stream(path: Path) -> int | None:
    """The descriptor of standard output or error, if that is what the path names."""
    if path == STANDARD_OUTPUT:
        return 1
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
    return None


def _rows(name: str, faces: Faces) -> Iterator[Sequence[object]]:
    for face in faces.to_dict()["faces"]:
        points = [value for point in face["landmarks"] for value in point]
        yield [name, *face["box_xyxy"], face["score"], *points]
