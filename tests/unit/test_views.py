"""Flip and multi-scale testing around dummy detectors."""

from __future__ import annotations

import numpy as np
import pytest

from featherface.errors import OptionError
from featherface.evaluation.views import SINGLE_SCALE, Views, parse_scales, vote
from featherface.structures import Detections

HW = (40, 64)


def bright_box(image: np.ndarray) -> Detections:
    """The box around all bright pixels, its landmarks from left to right eye and mouth; 0.8 sure."""
    rows, columns = (np.flatnonzero((image[..., 0] > 128).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return detections([], [])
    x1, y1, x2, y2 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    points = [[x1, y1], [x2, y1], [(x1 + x2) / 2, y1], [x1, y2], [x2, y2]]
    return Detections(
        np.array([[x1, y1, x2, y2]], np.float32), np.array([0.8], np.float32), np.array([points], np.float32)
    )


def detections(boxes: list[list[float]], scores: list[float]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.zeros((len(boxes), 5, 2), np.float32),
    )


def picture(x: int = 8, y: int = 4, side: int = 16) -> np.ndarray:
    image = np.zeros((*HW, 3), np.uint8)
    image[y : y + side, x : x + side] = 255
    return image


def test_looking_once_is_the_detector_itself() -> None:
    assert SINGLE_SCALE.wrap(bright_box) is bright_box
    assert str(SINGLE_SCALE) == SINGLE_SCALE.slug.replace("-", " ") == "single scale"


@pytest.mark.parametrize(
    ("views", "name", "slug"),
    [
        (Views(flip=True), "flip", "flip"),
        (Views(scales=(0.5, 1, 2)), "scales 0.5, 1, 2", "scales-0.5-1-2"),
        (Views(flip=True, scales=(0.5, 1.0, 2.0)), "flip + scales 0.5, 1, 2", "flip-scales-0.5-1-2"),
        (Views(scales=(2.0,)), "scales 2", "scales-2"),
    ],
)
def test_views_are_named(views: Views, name: str, slug: str) -> None:
    assert str(views) == name
    assert views.slug == slug
    assert not views.is_plain


@pytest.mark.parametrize("views", [Views(flip=True), Views(scales=(0.5, 1, 2)), Views(True, (0.5, 1.0, 2.0))])
def test_detector_that_sees_the_same_in_every_view_answers_as_before(views: Views) -> None:
    once, often = bright_box(picture()), views.wrap(bright_box)(picture())
    np.testing.assert_allclose(often.boxes_xyxy, once.boxes_xyxy, atol=1e-4)
    np.testing.assert_allclose(often.landmarks_xy, once.landmarks_xy, atol=1e-4)
    assert often.scores.tolist() == once.scores.tolist()


def test_face_that_only_the_mirror_image_shows_comes_back_in_its_place() -> None:
    def sees_the_right_half(image: np.ndarray) -> Detections:
        found = bright_box(image)
        return found if len(found) and found.boxes_xyxy[0, 0] >= 32 else detections([], [])

    assert len(sees_the_right_half(picture())) == 0
    found = Views(flip=True).wrap(sees_the_right_half)(picture())
    assert found.boxes_xyxy.tolist() == [[8, 4, 24, 20]]


def test_views_of_odd_sizes_are_scaled_back_by_each_side_s_own_factor() -> None:
    def everything(image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        return detections([[0, 0, width, height], [0, 0, 5, 5]], [0.9, 0.8])

    found = Views(scales=(0.5,), max_faces=1).wrap(everything)(np.zeros((101, 333, 3), np.uint8))
    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 333, 101]], rtol=1e-6)


def test_nothing_found_in_any_view_is_nothing() -> None:
    found = Views(True, (1.0, 2.0)).wrap(bright_box)(np.zeros((*HW, 3), np.uint8))
    assert len(found) == 0
    assert (found.boxes_xyxy.shape, found.landmarks_xy.shape) == ((0, 4), (0, 5, 2))


def test_votes_are_weighted_by_their_scores_and_the_best_score_stays() -> None:
    found = vote(
        detections([[0, 0, 10, 10], [2, 0, 12, 10], [50, 0, 60, 10]], [0.6, 0.2, 0.9]), iou_threshold=0.4
    )
    np.testing.assert_allclose(found.boxes_xyxy, [[50, 0, 60, 10], [0.5, 0, 10.5, 10]], rtol=1e-6)
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])


def test_limit_keeps_the_best_and_the_rest_does_not_vote() -> None:
    boxes = [[0, 0, 10, 10], [50, 0, 60, 10], [51, 0, 61, 10]]
    found = vote(detections(boxes, [0.9, 0.8, 0.7]), iou_threshold=0.4, max_faces=1)
    assert found.boxes_xyxy.tolist() == [boxes[0]]


def test_boxes_without_area_or_score_stay_as_they_are() -> None:
    boxes = [[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]]
    found = vote(detections(boxes, [0.0, 0.0, 0.0]), iou_threshold=0.4)
    assert found.boxes_xyxy.tolist() == boxes
    assert vote(detections([], []), iou_threshold=0.4).scores.shape == (0,)


@pytest.mark.parametrize("scales", [(), (0.0,), (-1.0,), (float("nan"),), (9.0,), (float("inf"),)])
def test_scales_out_of_range_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(OptionError, match="scales must be numbers above 0 and up to 8"):
        Views(scales=scales)


def test_repeated_and_unreadable_scales_are_refused() -> None:
    with pytest.raises(OptionError, match="scales must differ"):
        Views(scales=(1.0, 1.0))
    assert parse_scales("0.5,1, 2") == (0.5, 1.0, 2.0)
    with pytest.raises(OptionError, match=r"scales must be numbers such as 0\.5,1,2, got '1;2'"):
        parse_scales("1;2")
