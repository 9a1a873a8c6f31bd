"""Frames of films and cameras as RGB arrays, one at a time, and films of such frames; OpenCV does both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from featherface.errors import DataError, OptionError
from featherface.imaging import RgbImage

_MAX_RATE = 1000


FILM_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
"""Names under which the command line takes a file for a film."""


def frames_per_second(path: Path) -> float:
    """How fast a film runs; 25 where it does not say."""
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return rate if 0 < rate <= _MAX_RATE else 25.0


class FilmWriter:
    """A film in the making: appears complete at `close`, or not at all.

    Args:
        path: of an .mp4 file; its folder exists.
        rate: frames a second.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: RgbImage) -> None:
        """Add a frame; all have the size of the first."""
        if self._writer is None:
            size_wh = (frame.shape[1], frame.shape[0])
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._partial), codec, self._rate, size_wh)
            if not self._writer.isOpened():
                raise DataError(f"{self._path}: a film of {size_wh[0]}x{size_wh[1]} cannot be written here")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Give the film its name; without a frame there is none."""
        if self._writer is not None:
            self._writer.release()
            self._partial.replace(self._path)

    def discard(self) -> None:
        """Leave nothing of it."""
        if self._writer is not None:
            self._writer.release()
            self._partial.unlink(missing_ok=True)


def read_frames(source: str | Path | int, *, every: int = 1) -> Iterator[RgbImage]:
    """The frames of a film or a camera, (H, W, 3) uint8 RGB; only one is held at a time.

    Args:
        source: a file, or the number of a camera.
        every: only each so many-th frame, beginning with the first.

    Raises:
        DataError: there is no such file or camera, or it is no film.
        OptionError: `every` is below 1.
    """
    if every < 1:
        raise OptionError(f"every must be 1 or more, got {every}")
    if isinstance(source, str | Path) and not Path(source).is_file():
        raise DataError(f"{source}: there is no such file; a camera is given by its number")
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        if not capture.isOpened():
            what = f"camera {source}" if isinstance(source, int) else source
            raise DataError(f"{what}: cannot be opened as a film or camera by OpenCV")
        yield from _frames(capture, every)
    finally:
        capture.release()


def _frames(capture: cv2.VideoCapture, every: int) -> Iterator[RgbImage]:
    number = 0
    # grab() without retrieve() skips a frame without making a picture of it.
    while capture.grab():
        if number % every == 0:
            is_good, frame = capture.retrieve()
            if is_good:
                yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        number += 1
