"""Frames of films and cameras as RGB arrays, one at a time; OpenCV reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from featherface.errors import DataError, OptionError
from featherface.imaging import RgbImage


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
