"""Operating points and calibration, worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from featherface.errors import DataError
from featherface.evaluation.analysis import Analysis, analyze
from featherface.evaluation.calibration import reliability
from featherface.evaluation.operating import best_f1, few_false, operating_points
from featherface.evaluation.widerface import SETTINGS, WiderGroundTruth

SCORES, IS_RIGHT = np.array([0.9, 0.8, 0.6, 0.4]), np.array([True, False, True, True])


def test_points_follow_from_counts() -> None:
    points = {p.threshold: p for p in operating_points(SCORES, IS_RIGHT, num_faces=4, num_images=10)}
    assert len(points) == 1001
    assert (points[0.0].precision, points[0.0].recall) == (0.75, 0.75)
    assert (points[0.5].precision, points[0.5].recall) == (pytest.approx(2 / 3), 0.5)
    assert points[0.5].f1 == pytest.approx(4 / 7)
    assert points[0.5].false_per_image == 0.1
    # A score equal to the threshold is shown.
    assert points[0.9].recall == 0.25
    assert (points[0.901].precision, points[0.901].recall, points[0.901].f1) == (1.0, 0.0, 0.0)


def test_best_point_has_the_highest_threshold_of_the_best_f1() -> None:
    points = operating_points(SCORES, IS_RIGHT, num_faces=4, num_images=10)
    best = best_f1(points)
    assert best is not None
    assert (best.threshold, best.f1) == (0.4, pytest.approx(6 / 8))


def test_few_false_finds_most_within_its_limit() -> None:
    points = operating_points(SCORES, IS_RIGHT, num_faces=4, num_images=5)
    strict, loose = few_false(points), few_false(points, limit=0.2)
    assert strict is not None
    assert (strict.threshold, strict.recall) == (0.9, 0.25)
    assert loose is not None
    assert (loose.threshold, loose.recall) == (0.4, 0.75)


@pytest.mark.parametrize("scores", [np.zeros(0), np.array([0.7])])
def test_nothing_found_recommends_nothing(scores: np.ndarray) -> None:
    points = operating_points(scores, np.zeros(len(scores), bool), num_faces=0, num_images=0)
    assert best_f1(points) is None
    assert few_false(points) is None
    assert all(point.recall == 0 for point in points)


def test_thresholds_reach_scores_that_are_no_probabilities() -> None:
    points = operating_points(np.array([-3.0, 7.0]), np.array([True, True]), num_faces=2, num_images=1)
    assert (points[0].threshold, points[-1].threshold) == (-3.0, 7.0)
    assert (points[0].recall, points[-1].recall) == (1.0, 0.5)
    wild = operating_points(np.array([-1e308, 1e308]), np.array([True, True]), num_faces=2, num_images=1)
    assert np.isfinite([point.threshold for point in wild]).all()


def test_calibration_error_is_the_mean_distance_of_score_and_share() -> None:
    found = reliability(np.array([0.1, 0.3, 0.9, 0.9]), np.array([False, True, True, False]), num_bins=2)
    low, high = found.bins
    assert (low.detections, low.mean_score, low.share_right) == (2, 0.2, 0.5)
    assert (high.detections, high.mean_score, high.share_right) == (2, 0.9, 0.5)
    assert found.expected_error == pytest.approx((2 * 0.3 + 2 * 0.4) / 4)


def test_bins_hold_their_lower_border_and_the_last_one_the_end() -> None:
    found = reliability(np.array([0.0, 0.5, 1.0]), np.array([False, True, True]), num_bins=2)
    assert [each.detections for each in found.bins] == [1, 2]


def test_calibration_without_detections_is_unknown_and_of_other_scores_refused() -> None:
    nothing = reliability(np.zeros(0), np.zeros(0, bool))
    assert nothing.expected_error is None
    assert nothing.bins[0].share_right is None
    with pytest.raises(DataError, match=r"scores in \[0, 1\], got 1.5"):
        reliability(np.array([0.2, 1.5]), np.array([True, True]))
    with pytest.raises(DataError, match="got nan"):
        reliability(np.array([np.nan]), np.array([True]))


def analysis_of(*rows: list[float], num_faces: int = 2) -> Analysis:
    """Of images with faces at x = 0, 100, ... of which the last does not count."""
    ground_truth = WiderGroundTruth(
        names=("0--A/a", "0--A/empty"),
        boxes_xywh=np.array([[100.0 * i, 0, 20, 20] for i in range(num_faces)]).reshape(-1, 4),
        offsets=np.array([0, num_faces, num_faces]),
        is_counted=dict.fromkeys(SETTINGS, np.arange(num_faces) < num_faces - 1),
        total_images=2,
    )
    return analyze({"0--A/a": np.array(rows, float).reshape(-1, 5)}, ground_truth, testing="flip")


def test_analysis_judges_at_the_recommended_threshold_and_leaves_ignored_faces_out() -> None:
    found = analysis_of([0, 0, 20, 20, 0.8], [100, 0, 20, 20, 0.95], [500, 0, 20, 20, 0.3])
    assert (found.num_faces, found.num_images) == (1, 1)
    assert found.recommended is not None
    assert (found.recommended.threshold, found.recommended.f1) == (0.8, 1.0)
    assert found.error_counts == {"missed": 0, "localization": 0, "duplicate": 0, "background": 0}
    # 0.8 was right and 0.3 wrong; the face that does not count says nothing.
    assert found.metrics()["val/calibration_error"] == pytest.approx((0.2 + 0.3) / 2)
    assert found.metrics()["val/calibration_error_shown"] == pytest.approx(0.2)
    assert found.metrics()["val/recommended_threshold"] == 0.8
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (content["testing"], content["setting"]) == ("flip", "hard")


@pytest.mark.parametrize(
    ("rows", "num_faces"),
    [([], 2), ([], 0), ([[0, 0, 20, 20, 0.5]], 0), ([[0, 0, 20, 20, 0.5]] * 3, 2), ([[9, 9, 0, 0, 0.5]], 2)],
    ids=["nothing found", "nothing at all", "no faces", "one score", "box without area"],
)
def test_hostile_predictions_are_analyzed_without_a_nan(rows: list[list[float]], num_faces: int) -> None:
    found = analysis_of(*rows, num_faces=num_faces)
    text = json.dumps([found.to_dict(), found.metrics()], allow_nan=False)  # refuses a NaN
    assert "NaN" not in text


def test_scores_that_are_no_probabilities_have_points_but_no_calibration() -> None:
    found = analysis_of([0, 0, 20, 20, 12.5], [500, 0, 20, 20, -3.0])
    assert found.reliability is None
    assert found.to_dict()["calibration"] is None
    assert found.recommended is not None
    assert found.recommended.f1 == 1.0
    assert "val/calibration_error" not in found.metrics()
