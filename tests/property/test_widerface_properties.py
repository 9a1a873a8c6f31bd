"""The vectorized protocol against the slow one, and what must hold whatever is detected."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_widerface import slow_average_precision

from featherface.evaluation.widerface import SETTINGS, WiderGroundTruth, average_precision, restrict

QUICK = settings(max_examples=40, deadline=None)


def make_case(seed: int) -> tuple[dict[str, np.ndarray], WiderGroundTruth]:
    """A few crowded images: jittered hits, duplicates, strays, images without faces or without detections."""
    rng = np.random.default_rng(seed)
    names = tuple(f"{event}--E/img.{i}" for event in range(2) for i in range(3))
    counts = rng.integers(0, 7, len(names))
    faces = np.concatenate(
        [rng.integers(0, 40, (counts.sum(), 2)), rng.integers(0, 25, (counts.sum(), 2))], 1
    )
    offsets = np.concatenate([[0], np.cumsum(counts)])
    predictions = {}
    for i, name in enumerate(names):
        own = faces[offsets[i] : offsets[i + 1]].astype(float)
        chosen = own[rng.integers(0, len(own), rng.integers(0, 10))] if len(own) else np.empty((0, 4))
        jittered = chosen + rng.choice([0, 0, 1, -2, 0.5], chosen.shape)
        strays = rng.uniform(0, 60, (rng.integers(0, 4), 4))
        boxes = np.concatenate([jittered, strays])
        # Scores with ties, as a quantized network gives.
        predictions[name] = np.column_stack([boxes, rng.integers(-3, 30, len(boxes)) / 7])
    ground_truth = WiderGroundTruth(
        names=names,
        boxes_xywh=faces.astype(float),
        offsets=offsets.astype(np.int64),
        is_counted={
            setting: rng.random(len(faces)) < share
            for setting, share in zip(SETTINGS, (0.3, 0.6, 0.9), strict=True)
        },
        total_images=len(names),
    )
    return predictions, ground_truth


def slow(
    predictions: dict[str, np.ndarray], ground_truth: WiderGroundTruth, setting: str, iou: float
) -> float:
    faces, counted = {}, {}
    for i, name in enumerate(ground_truth.names):
        part = slice(ground_truth.offsets[i], ground_truth.offsets[i + 1])
        faces[name] = ground_truth.boxes_xywh[part]
        counted[name] = set(np.flatnonzero(ground_truth.is_counted[setting][part]).tolist())
    return slow_average_precision(predictions, faces, counted, iou)


def has_distinct_scores(predictions: dict[str, np.ndarray]) -> bool:
    return len(set(np.concatenate([rows[:, 4] for rows in predictions.values()]).tolist())) > 1


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("first_seed", range(0, 60, 10))
def test_vectorized_protocol_equals_the_slow_one(first_seed: int, iou_threshold: float) -> None:
    for seed in range(first_seed, first_seed + 10):
        predictions, ground_truth = make_case(seed)
        if not has_distinct_scores(predictions):
            continue
        result = average_precision(predictions, ground_truth, iou_threshold)
        for setting in SETTINGS:
            expected = slow(predictions, ground_truth, setting, iou_threshold)
            assert getattr(result, setting) == pytest.approx(expected, abs=1e-12), (seed, setting)


@QUICK
@given(st.integers(1000, 10**6))
def test_ap_lies_between_0_and_1_and_the_mean_is_the_mean(seed: int) -> None:
    result = average_precision(*make_case(seed))
    aps = [result.easy, result.medium, result.hard]
    assert all(0 <= ap <= 1 for ap in aps)
    assert result.mean == pytest.approx(sum(aps) / 3)
    for curve in result.curves.values():
        assert np.all(np.diff(curve.recall) >= 0)
        assert curve.recall[-1] <= 1
        assert curve.precision.min() >= 0
        assert curve.precision.max() <= 1


@QUICK
@given(st.integers(1000, 10**6))
def test_order_of_detections_and_of_images_does_not_matter(seed: int) -> None:
    predictions, ground_truth = make_case(seed)
    rng = np.random.default_rng(seed)
    shuffled = {name: rng.permutation(rows) for name, rows in sorted(predictions.items(), reverse=True)}
    assert (
        average_precision(shuffled, ground_truth).to_dict()
        == average_precision(predictions, ground_truth).to_dict()
    )


@QUICK
@given(st.integers(1000, 10**6))
def test_rising_affine_change_of_the_scores_changes_nothing(seed: int) -> None:
    predictions, ground_truth = make_case(seed)
    # Powers of two are exact, so not even a tie at a threshold can tip.
    scaled = {name: rows * [1, 1, 1, 1, 4.0] for name, rows in predictions.items()}
    assert (
        average_precision(scaled, ground_truth).to_dict()
        == average_precision(predictions, ground_truth).to_dict()
    )


@QUICK
@given(st.integers(1000, 10**6), st.data())
def test_duplicating_a_detection_never_raises_ap(seed: int, data: st.DataObject) -> None:
    predictions, ground_truth = make_case(seed)
    name = data.draw(st.sampled_from([name for name, rows in predictions.items() if len(rows)] or [None]))
    if name is None:
        return
    row_idx = data.draw(st.integers(0, len(predictions[name]) - 1))
    doubled = predictions | {
        name: np.concatenate([predictions[name], predictions[name][row_idx : row_idx + 1]])
    }
    before, after = average_precision(predictions, ground_truth), average_precision(doubled, ground_truth)
    assert all(getattr(after, setting) <= getattr(before, setting) + 1e-12 for setting in SETTINGS)


@QUICK
@given(st.integers(1000, 10**6))
def test_restricted_ground_truth_judges_like_the_part_alone(seed: int) -> None:
    predictions, ground_truth = make_case(seed)
    names = ground_truth.names[::2]
    part = restrict(ground_truth, names)
    assert part.names == names
    assert part.total_images == len(ground_truth.names)
    faces, chosen = (np.split(each.boxes_xywh, each.offsets[1:-1]) for each in (ground_truth, part))
    for before, after in zip(faces[::2], chosen, strict=True):
        np.testing.assert_array_equal(after, before)
    own = {name: predictions[name] for name in names}
    alone = average_precision(own, part)
    with_others = average_precision(predictions, part)  # the others' scores must not stretch ours
    assert [alone.easy, alone.medium, alone.hard] == [with_others.easy, with_others.medium, with_others.hard]
