"""What must hold of error types, operating points, calibration and views whatever is detected."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_widerface_properties import make_case

from featherface.evaluation.analysis import analyze
from featherface.evaluation.calibration import reliability
from featherface.evaluation.error_types import ERROR_TYPES, classify, gather, mended_precision
from featherface.evaluation.operating import operating_points
from featherface.evaluation.views import vote
from featherface.evaluation.widerface import average_precision
from featherface.structures import Detections

QUICK = settings(max_examples=40, deadline=None)
SEEDS = st.integers(1000, 10**6)


@QUICK
@given(SEEDS, st.floats(-1, 5))
def test_each_detection_has_exactly_one_verdict_and_each_face_is_found_or_missed(
    seed: int, threshold: float
) -> None:
    evidence = gather(*make_case(seed), "hard")
    verdicts = classify(evidence, threshold)
    kinds = (
        verdicts.is_right,
        verdicts.is_duplicate,
        verdicts.is_misplaced,
        verdicts.is_background,
        verdicts.is_left_out,
    )
    assert np.all(np.sum(kinds, axis=0) == 1)
    assert verdicts.is_right.sum() + verdicts.is_missed.sum() == evidence.is_counted.sum()
    assert not (verdicts.is_missed & ~evidence.is_counted).any()


@QUICK
@given(SEEDS, st.sets(st.sampled_from(ERROR_TYPES)))
def test_mending_never_harms_and_mending_all_is_perfect(seed: int, types: set[str]) -> None:
    evidence = gather(*make_case(seed), "hard")
    verdicts = classify(evidence)
    before = mended_precision(evidence, verdicts, ())
    assert before == average_precision(*make_case(seed)).hard
    assert before - 1e-12 <= mended_precision(evidence, verdicts, types) <= 1 + 1e-12
    if evidence.is_counted.any():
        assert abs(mended_precision(evidence, verdicts, ERROR_TYPES) - 1) < 1e-12


@QUICK
@given(SEEDS)
def test_operating_points_agree_with_the_official_curve(seed: int) -> None:
    predictions, ground_truth = make_case(seed)
    found = analyze(predictions, ground_truth)
    for point in found.points[::50]:
        verdicts = classify(found.evidence, point.threshold)
        errors = verdicts.counts()
        num_wrong = errors["localization"] + errors["duplicate"] + errors["background"]
        num_right = verdicts.is_right.sum()
        assert found.num_faces == 0 or abs(point.recall * found.num_faces - num_right) < 1e-9
        assert abs(point.false_per_image * found.num_images - num_wrong) < 1e-9
        assert all(0 <= value <= 1 for value in (point.precision, point.recall, point.f1))
    recalls, false = ([getattr(p, name) for p in found.points] for name in ("recall", "false_per_image"))
    assert np.all(np.diff(recalls) <= 0)
    assert np.all(np.diff(false) <= 0)


@QUICK
@given(hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(0, 1)), st.integers(1, 20), st.data())
def test_bins_hold_every_detection_once_and_the_error_is_a_share(
    scores: np.ndarray, num_bins: int, data: st.DataObject
) -> None:
    is_right = data.draw(hnp.arrays(np.bool_, len(scores)))
    found = reliability(scores, is_right, num_bins=num_bins)
    assert sum(each.detections for each in found.bins) == len(scores)
    assert found.expected_error is None if not len(scores) else 0 <= found.expected_error <= 1
    for each in found.bins:
        if each.mean_score is not None:
            assert each.low - 1e-9 <= each.mean_score <= each.high + 1e-9


@QUICK
@given(SEEDS, st.integers(0, 30))
def test_voting_keeps_the_best_score_and_stays_within_the_boxes_that_voted(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 30, (count, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    found = vote(
        Detections(boxes, rng.random(count).astype(np.float32), np.zeros((count, 5, 2), np.float32)),
        iou_threshold=0.4,
    )
    assert len(found) <= count
    assert np.all(np.diff(found.scores) <= 0)
    if count:
        assert np.all(found.boxes_xyxy >= boxes.min(axis=0) - 1e-4)
        assert np.all(found.boxes_xyxy <= boxes.max(axis=0) + 1e-4)


@QUICK
@given(SEEDS)
def test_scores_as_the_detector_gave_them_need_no_order(seed: int) -> None:
    predictions, ground_truth = make_case(seed)
    rng = np.random.default_rng(seed)
    shuffled = {name: rng.permutation(rows) for name, rows in predictions.items()}
    first, second = analyze(predictions, ground_truth), analyze(shuffled, ground_truth)
    assert first.error_counts == second.error_counts
    assert first.points == second.points


@QUICK
@given(SEEDS)
def test_thresholds_are_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, rng.choice([0.1, 10]), rng.integers(0, 20))
    points = operating_points(scores, rng.random(len(scores)) < 0.5, num_faces=20, num_images=3)
    assert np.all(np.diff([point.threshold for point in points]) > 0)
