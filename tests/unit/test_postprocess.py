"""From network outputs to faces, against values worked out by hand."""

import numpy as np
import pytest

from featherface import geometry
from featherface.inference import model_info
from featherface.inference.overlap import box_area, box_iou
from featherface.inference.postprocess import (
    decode_boxes,
    decode_landmarks,
    face_scores,
    merge_close_ups,
    non_maximum_suppression,
    postprocess,
)
from featherface.structures import Detections

PRIORS = np.array([[10, 10, 20, 20], [50, 50, 20, 20], [90, 10, 20, 20]], dtype=np.float32)


def outputs_of(margins: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three priors with the given logit margins, boxes on the priors and landmarks in their centers."""
    cls_logits = np.array([[0.0, margin] for margin in margins], dtype=np.float32)
    return cls_logits, np.zeros((3, 4), dtype=np.float32), np.zeros((3, 10), dtype=np.float32)


def run(margins: list[float], **changes: float) -> Detections:
    options = {"score_threshold": 0.5, "iou_threshold": 0.4, "max_faces": 10} | changes
    return postprocess(*outputs_of(margins), PRIORS, **options)


def test_variances_are_those_of_training() -> None:
    assert model_info.VARIANCES == geometry.VARIANCES


def test_zero_deltas_give_the_priors_best_first() -> None:
    found = run([1.0, -1.0, 3.0])
    np.testing.assert_array_equal(found.boxes_xyxy, [[80, 0, 100, 20], [0, 0, 20, 20]])
    # Odds e ** 3 and e ** 1, with one vote at a height of 20: times (1 / 2.7) ** 0.75 * (32 / 20) ** 0.4.
    np.testing.assert_allclose(found.scores, [0.9200526, 0.6089886], rtol=1e-6)
    np.testing.assert_array_equal(found.landmarks_xy[0], [[90, 10]] * 5)
    assert found.boxes_xyxy.dtype == found.scores.dtype == found.landmarks_xy.dtype == np.float32


def test_no_face_is_an_empty_result_of_the_right_shapes() -> None:
    found = run([-9.0, -9.0, -9.0])
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.landmarks_xy.shape == (0, 5, 2)


def test_faces_that_many_priors_see_are_found_although_none_is_sure() -> None:
    cls_logits, box_deltas, landmark_deltas = (np.repeat(each[:1], 8, axis=0) for each in outputs_of([0] * 3))
    cls_logits[:, 1] = np.log(0.4 / 0.6)
    options = {"score_threshold": 0.5, "iou_threshold": 0.4, "max_faces": 10}
    found = postprocess(cls_logits, box_deltas, landmark_deltas, np.repeat(PRIORS[:1], 8, axis=0), **options)
    odds = 0.4 / 0.6 * (8 / 2.7) ** 0.75 * (32 / 20) ** 0.4
    np.testing.assert_allclose(found.scores, [odds / (1 + odds)], rtol=1e-5)


def test_of_two_faces_of_one_width_the_higher_one_is_less_sure() -> None:
    cls_logits, box_deltas, landmark_deltas = outputs_of([0.0] * 3)
    box_deltas[1, 3] = 5 * np.log(2)  # twice as high
    options = {"score_threshold": 0.1, "iou_threshold": 0.4, "max_faces": 10}
    found = postprocess(cls_logits, box_deltas, landmark_deltas, PRIORS, **options)
    np.testing.assert_array_equal(found.boxes_xyxy[:, 0], [0, 80, 40])
    odds = found.scores / (1 - found.scores)
    np.testing.assert_allclose(odds[2] / odds[0], 0.5**0.4, rtol=1e-5)


def detections(*boxes_and_scores: tuple[float, ...]) -> Detections:
    rows = np.array(boxes_and_scores, dtype=np.float32)
    return Detections(rows[:, :4], rows[:, 4], np.repeat(rows[:, None, :2], 5, axis=1))


def test_a_close_up_takes_the_place_of_what_lies_inside_it() -> None:
    # Half inside, inside, elsewhere; in pixels of a picture of 200 px.
    found = detections((0, 0, 20, 20, 0.5), (20, 5, 40, 25, 0.9), (100, 100, 120, 120, 0.7))
    # A quarter of the picture wide; and one so small that the first look is to be asked about it.
    again = detections((10, 0, 60, 30, 0.6), (150, 150, 160, 160, 0.95))
    merged = merge_close_ups(found, again, long_side_px=200, max_faces=10)
    np.testing.assert_array_equal(merged.boxes_xyxy[:, 0], [100, 10, 0])
    np.testing.assert_array_equal(merged.landmarks_xy[:, 0, 0], [100, 10, 0])
    np.testing.assert_array_equal(merged.scores, np.array([0.7, 0.6, 0.5], dtype=np.float32))
    assert len(merge_close_ups(found, again, long_side_px=200, max_faces=2)) == 2


def test_whoever_asks_for_hardly_likely_faces_gets_them() -> None:
    np.testing.assert_array_equal(run([-5.0, -9.0, -5.0], score_threshold=0.001).boxes_xyxy[:, 0], [0, 80])


def test_only_the_best_max_faces_are_returned() -> None:
    found = run([1.0, 3.0, 2.0], max_faces=2)
    np.testing.assert_array_equal(found.boxes_xyxy[:, 0], [40, 80])


def test_a_score_equal_to_the_threshold_is_not_above_it() -> None:
    found = run([1.0, 3.0, 2.0])
    assert len(run([1.0, 3.0, 2.0], score_threshold=float(found.scores[1]))) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_priors_without_finite_numbers_are_dropped(bad: float) -> None:
    for position in range(3):
        outputs = outputs_of([1.0, 2.0, 3.0])
        outputs[position][1, 1 if position == 0 else 0] = bad
        found = postprocess(*outputs, PRIORS, score_threshold=0.5, iou_threshold=0.4, max_faces=10)
        # A logit of +inf is a sure face, not a missing number.
        expected = 3 if (position == 0 and bad == np.inf) else 2
        assert len(found) == expected
        for array in (found.boxes_xyxy, found.scores, found.landmarks_xy):
            assert np.isfinite(array).all()


def test_scores_are_the_softmax_even_of_huge_logits() -> None:
    logits = np.array([[0, 0], [2, 1], [500, -500], [-500, 500]], dtype=np.float32)
    np.testing.assert_allclose(face_scores(logits), [0.5, 0.26894143, 0.0, 1.0], rtol=1e-6)


def test_boxes_and_landmarks_are_decoded_with_their_variances() -> None:
    deltas = np.array([[1.0, -1.0, 5 * np.log(2), 0.0]], dtype=np.float32)
    # Center moves by 0.1 sides, the width doubles: e ** (0.2 * 5 * log 2).
    np.testing.assert_allclose(decode_boxes(deltas, PRIORS[:1]), [[-8, -2, 32, 18]], atol=1e-5)
    landmark_deltas = np.arange(10, dtype=np.float32)[None]
    expected = [[[10 + 2 * x, 10 + 2 * (x + 1)] for x in (0, 2, 4, 6, 8)]]
    np.testing.assert_allclose(decode_landmarks(landmark_deltas, PRIORS[:1]), expected, atol=1e-5)


def test_a_wild_delta_gives_a_huge_box_not_infinity() -> None:
    assert np.isfinite(decode_boxes(np.full((1, 4), 1e4, dtype=np.float32), PRIORS[:1])).all()


def test_iou_of_half_overlapping_boxes_is_one_third() -> None:
    a, b = np.array([[0, 0, 2, 1]], dtype=np.float32), np.array([[1, 0, 3, 1]], dtype=np.float32)
    np.testing.assert_allclose(box_iou(a, b), [[1 / 3]], rtol=1e-6)


def test_iou_of_a_box_of_no_area_is_zero_not_nan() -> None:
    flat = np.array([[1, 1, 1, 5]], dtype=np.float32)
    assert box_iou(flat, flat)[0, 0] == 0
    assert box_area(np.array([[9, 9, 1, 1], [1, 1, 3, 2]], dtype=np.float32)).tolist() == [0, 2]


def test_suppression_keeps_the_better_of_two_that_overlap() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]], dtype=np.float32)
    scores = np.array([0.6, 0.9, 0.7], dtype=np.float32)
    kept = non_maximum_suppression(boxes, scores, iou_threshold=0.4)
    np.testing.assert_array_equal(kept, [1, 2])


def test_a_removed_box_removes_nobody() -> None:
    # 0 overlaps 1 and 1 overlaps 2, but 0 and 2 overlap by a quarter only.
    boxes = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], dtype=np.float32)
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    np.testing.assert_array_equal(non_maximum_suppression(boxes, scores, iou_threshold=0.4), [0, 2])


def test_equal_scores_keep_their_order() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10]], dtype=np.float32)
    kept = non_maximum_suppression(boxes, np.full(3, 0.5, dtype=np.float32), iou_threshold=0.4)
    np.testing.assert_array_equal(kept, [0, 2])


def test_suppression_of_nothing_is_nothing() -> None:
    kept = non_maximum_suppression(
        np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=np.float32), iou_threshold=0.4
    )
    assert kept.shape == (0,)
