"""Frames of films and cameras as RGB arrays, one at a time, and films of such frames; OpenCV does both."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

import cv2
import numpy as np

from featherface.errors import DataError
from featherface.headers import describe_foreign, refuse_too_large
from featherface.imaging import RgbImage
from featherface.inference.isomedia import inspect_boxes
from featherface.inference.matroska import missing_bytes
from featherface.inference.options import whole_number
from featherface.inference.sources import check_name

_MAX_CAMERA = 2**31 - 1
_MAX_RATE = 1000
_MIN_RATE = 0.01
_MAX_TIME_BASE = 65_535
# Containers that say how many frames there are; others say how long they last, which may be an estimate.
_ISO_MEDIA, _AVI = re.compile(rb"....ftyp", re.DOTALL), re.compile(rb"RIFF....AVI ", re.DOTALL)
_PLAYLISTS = (b"ffconcat", b"#EXTM3U")
# Players begin at a key frame and drop a few others; what is cut or damaged lacks far more.
_LEAST_PART = 0.9
_START_BYTES = 4096


def frames_per_second(path: Path) -> float:
    """How fast a film runs; 25 where it does not say.

    Raises:
        DataError: there is no such file, or it is no film.
    """
    with _opened(path) as capture:
        rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate <= _MAX_RATE else 25.0


class FilmWriter:
    """A film in the making: appears complete at `close`, or not at all.

    Args:
        path: of an .mp4 file; its folder exists.
        rate: frames a second, above 0 and up to 1000; the film has it with the decimals that the codec takes.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, path: Path, rate: float) -> None:
        check_film_name(path)
        self._path, self._rate = path, _codec_rate(rate)
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._num_frames = 0

    def write(self, frame: RgbImage) -> None:
        """Add a frame; all have the size of the first."""
        if self._writer is None:
            size_wh = (frame.shape[1], frame.shape[0])
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(_as_no_address(self._partial), codec, self._rate, size_wh)
            if not self._writer.isOpened():
                raise DataError(f"{self._path}: a film of {size_wh[0]}x{size_wh[1]} cannot be written here")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self._num_frames += 1

    def close(self) -> None:
        """Give the film its name; without a frame there is none.

        Raises:
            DataError: it is not whole, as when the disk is full, or cannot have this name; nothing is left.
        """
        if self._writer is None:
            return
        self._writer.release()
        try:
            self._refuse_unfinished()
            self._partial.replace(self._path)
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written ({error.strerror or error})") from error
        finally:
            self._partial.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing of it."""
        if self._writer is not None:
            self._writer.release()
            self._partial.unlink(missing_ok=True)

    def _refuse_unfinished(self) -> None:
        """OpenCV says of no frame whether it was written."""
        with self._partial.open("rb") as file:
            film = inspect_boxes(file)
        num_kept = 0
        if film.has_index and not film.missing_bytes:
            with _opened(self._partial) as capture:
                num_kept = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if num_kept != self._num_frames:
            raise DataError(
                f"{self._path}: not all {self._num_frames} frames could be written; make room on the disk"
            )


def _codec_rate(rate: float) -> float:
    """The nearest rate that MPEG-4 can have: a fraction of 16 bits, of thousandths, hundredths or tenths."""
    decimals = next((digits for digits in (3, 2) if round(rate * 10**digits) <= _MAX_TIME_BASE), 1)
    return max(round(rate, decimals), _MIN_RATE)


def read_frames(source: str | Path | int, *, every: int = 1) -> Iterator[RgbImage]:
    """The frames of a film or a camera, (H, W, 3) uint8 RGB; only one is held at a time.

    Args:
        source: a file, or the number of a camera.
        every: only each so many-th frame, beginning with the first.

    Raises:
        DataError: there is no such file or camera, it is no film, it has no frame that can be read, or, after
            its last frame, it ends before it should: it was cut or is damaged.
        OptionError: `every` is no whole number, or below 1.
    """
    every, source = whole_number("every", every, 1), _camera_or_path(source)
    with _opened(source) as capture:
        num_frames, is_empty = 0, True
        # grab() without retrieve() skips a frame without making a picture of it.
        while capture.grab():
            if num_frames % every == 0:
                is_good, frame = capture.retrieve()
                if is_good:
                    is_empty = False
                    yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            num_frames += 1
        announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    if not isinstance(source, int):
        _refuse_cut(source, num_frames, announced)
    if is_empty:
        raise DataError(f"{_name(source)}: has no frame that can be read")


def _refuse_cut(path: Path, num_frames: int, announced: float) -> None:
    is_counted, missing = _counted_and_missing(path)
    if is_counted and num_frames < _LEAST_PART * announced:
        raise DataError(
            f"{path}: ends after {num_frames} of {announced:.0f} frames: it was cut or is damaged"
        )
    if missing:
        raise DataError(f"{path}: ends after {num_frames} frames, {missing} bytes too early: it was cut")


def _counted_and_missing(path: Path) -> tuple[bool, int]:
    """Whether a film says how many frames it shows, and how many of its bytes are not there."""
    with _naming(path), path.open("rb") as file:
        start = file.read(_START_BYTES)
        if _ISO_MEDIA.match(start):
            film = inspect_boxes(file)
            return film.shows_all_frames, film.missing_bytes
        return bool(_AVI.match(start)), missing_bytes(file)


def _camera_or_path(source: object) -> Path | int:
    if isinstance(source, str | Path):
        check_name(source)
        return Path(source)
    if not isinstance(source, Integral) or isinstance(source, bool):
        got = " ".join(reprlib.repr(source).split())  # pixels and encoded images are long, and of many lines
        raise DataError(f"a film is a path, and a camera is a number, got {got}")
    # OpenCV dies of numbers below 0.
    if not 0 <= int(source) <= _MAX_CAMERA:
        raise DataError(f"camera {source}: cameras are counted from 0 on")
    return int(source)


def _name(source: Path | int) -> str:
    return f"camera {source}" if isinstance(source, int) else str(source)


@contextmanager
def _opened(source: Path | int) -> Iterator[cv2.VideoCapture]:
    name = _name(source)
    if isinstance(source, int):
        capture = cv2.VideoCapture(source)
    else:
        check_film_name(source)
        _check_film(source)
        capture = cv2.VideoCapture(_as_no_address(source))
    try:
        if not capture.isOpened():
            raise DataError(f"{name}: cannot be opened as a film or camera by OpenCV")
        width, height = (capture.get(what) for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        refuse_too_large(max(1, int(width)), max(1, int(height)), name)  # some cameras say 0
        yield capture
    finally:
        capture.release()


def _as_no_address(path: Path) -> str:
    """FFmpeg takes what stands before a colon for a protocol, unless there is a slash before."""
    return str(path.absolute())


def check_film_name(path: Path) -> None:
    """Refuse a name of which OpenCV dies.

    Raises:
        DataError: it is not valid UTF-8.
    """
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: OpenCV needs names of films in UTF-8; rename it") from error


def _check_film(path: Path) -> None:
    # A named pipe would keep OpenCV waiting for ever.
    try:
        is_file, exists = path.is_file(), path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if exists and not is_file:
        raise DataError(f"{path}: is no file; a film is one, and a camera is given by its number")
    if not exists:
        raise DataError(f"{path}: there is no such file; a camera is given by its number")
    with _naming(path), path.open("rb") as file:
        start = file.read(_START_BYTES)
    # FFmpeg would open whatever other files a list names.
    if start.startswith(_PLAYLISTS):
        raise DataError(f"{path}: is a list of films, not a film; give the films")
    # FFmpeg would look for a picture in it.
    if start.startswith(b"%PDF"):
        raise DataError(f"{path}: is no film ({describe_foreign(start)})")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what the system says into our error."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
