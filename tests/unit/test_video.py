"""Films frame by frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from featherface import FaceDetector
from featherface.errors import DataError, OptionError
from featherface.inference.video import read_frames

NUM_FRAMES = 9


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Nine grey frames, each lighter than the one before."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    assert writer.isOpened()
    for number in range(NUM_FRAMES):
        writer.write(np.full((64, 96, 3), 20 * number, dtype=np.uint8))
    writer.release()
    return path


def test_every_frame_comes_once_in_order(film: Path) -> None:
    frames = list(read_frames(film))
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * NUM_FRAMES
    assert [frame.mean() for frame in frames] == pytest.approx(
        [20 * number for number in range(NUM_FRAMES)], abs=3
    )


def test_frames_can_be_passed_over(film: Path) -> None:
    assert [frame.mean() for frame in read_frames(film, every=4)] == pytest.approx([0, 80, 160], abs=3)


def test_colors_are_red_first(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    writer.write(np.full((64, 64, 3), (0, 0, 255), dtype=np.uint8))  # OpenCV's order
    writer.release()
    (frame,) = read_frames(path)
    assert frame[32, 32].tolist() == pytest.approx([254, 0, 0], abs=6)


def test_a_detector_gives_a_result_for_each_frame(film: Path) -> None:
    results = list(FaceDetector(num_threads=1).stream(film, every=3))
    assert len(results) == 3
    assert {(faces.width, faces.height, faces.name) for faces in results} == {(96, 64, None)}


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nosuch\.mp4: there is no such file; a camera is given by its number"
    ):
        next(read_frames(tmp_path / "nosuch.mp4"))
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(DataError, match="cannot be opened as a film"):
        next(read_frames(tmp_path / "text.mp4"))
    with pytest.raises(OptionError, match="every must be 1 or more, got 0"):
        next(read_frames(tmp_path / "text.mp4", every=0))
