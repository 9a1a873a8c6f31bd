"""Intervals of average precision over images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from featherface.evaluation import bootstrap
from featherface.evaluation.bootstrap import MEAN, ap_differences, ap_draws, ap_intervals
from featherface.evaluation.ground_truth import SETTINGS, WiderGroundTruth
from featherface.evaluation.widerface import average_precision

Predictions = dict[str, npt.NDArray[np.float64]]


def ground_truth_of(faces: list[int], *, seed: int = 0) -> WiderGroundTruth:
    """Images with so many faces of 20 px in a row each, of which the settings count different ones."""
    generator = np.random.default_rng(seed)
    total = sum(faces)
    boxes = np.concatenate(
        [np.stack([40.0 * np.arange(n), np.zeros(n), np.full(n, 20), np.full(n, 20)], axis=1) for n in faces]
    )
    return WiderGroundTruth(
        names=tuple(f"event/{index}" for index in range(len(faces))),
        boxes_xywh=boxes,
        offsets=np.concatenate([[0], np.cumsum(faces)]),
        is_counted={setting: generator.random(total) < 0.8 for setting in SETTINGS},
        total_images=len(faces),
    )


def predictions_for(truth: WiderGroundTruth, *, seed: int, chance: float = 0.7) -> Predictions:
    """Each face is found with the given chance; as many boxes beside all faces."""
    generator = np.random.default_rng(seed)
    predictions = {}
    for index, name in enumerate(truth.names):
        boxes = truth.boxes_xywh[truth.offsets[index] : truth.offsets[index + 1]]
        found = boxes[generator.random(len(boxes)) < chance] + [1, 1, 0, 0]
        wrong = np.asarray([[5000.0 + 50 * k, 0, 20, 20] for k in range(generator.integers(0, 3))])
        all_boxes = np.concatenate([found, wrong.reshape(-1, 4)])
        scores = np.concatenate([generator.beta(4, 2, len(found)), generator.beta(2, 4, len(wrong))])
        predictions[name] = np.column_stack([all_boxes, scores])
    return predictions


def test_values_are_those_of_the_protocol() -> None:
    truth = ground_truth_of([3, 1, 0, 7, 2])
    predictions = predictions_for(truth, seed=1)
    expected = average_precision(predictions, truth)
    intervals = ap_intervals(predictions, truth, num_draws=50)
    assert set(intervals) == {*SETTINGS, MEAN}
    for setting, interval in intervals.items():
        assert interval.value == pytest.approx(getattr(expected, setting), abs=1e-12)
        assert 0 <= interval.low <= interval.high <= 1


def test_a_draw_is_the_protocol_on_the_images_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = ground_truth_of([3, 1, 7])
    predictions = predictions_for(truth, seed=2)
    times = [2, 1, 3]  # each at least once: the protocol stretches scores over the images that are there
    rows = [index for index, count in enumerate(times) for _ in range(count)]
    parts = [slice(truth.offsets[index], truth.offsets[index + 1]) for index in rows]
    repeated = WiderGroundTruth(
        names=tuple(f"event/copy{position}" for position in range(len(rows))),
        boxes_xywh=np.concatenate([truth.boxes_xywh[part] for part in parts]),
        offsets=np.concatenate([[0], np.cumsum([part.stop - part.start for part in parts])]),
        is_counted={
            setting: np.concatenate([truth.is_counted[setting][part] for part in parts])
            for setting in SETTINGS
        },
        total_images=len(rows),
    )
    expected = average_precision(
        {name: predictions[truth.names[index]] for name, index in zip(repeated.names, rows, strict=True)},
        repeated,
    )
    monkeypatch.setattr(bootstrap, "_draw_images", lambda *_: [np.asarray([times], dtype=np.float64)])
    for setting, interval in ap_intervals(predictions, truth).items():
        assert interval.low == interval.high == pytest.approx(getattr(expected, setting), abs=1e-12)


def test_the_surest_of_all_detections_and_the_least_sure_one_count() -> None:
    # Their stretched scores are 1 and 0, on the border of the thresholds.
    truth = replace(ground_truth_of([1, 1]), is_counted=dict.fromkeys(SETTINGS, np.ones(2, dtype=np.bool_)))
    predictions = {
        name: np.asarray([[0.0, 0, 20, 20, score]])
        for name, score in zip(truth.names, (0.9, 0.1), strict=True)
    }
    assert ap_draws(predictions, truth, num_draws=1)[0] == dict.fromkeys((*SETTINGS, MEAN), 1.0)


def test_an_interval_leaves_out_as_many_draws_on_either_side() -> None:
    truth = ground_truth_of([3, 1, 7, 2, 5])
    predictions = predictions_for(truth, seed=2)
    _, draws = ap_draws(predictions, truth, num_draws=300)
    for name, interval in ap_intervals(predictions, truth, num_draws=300, confidence=0.8).items():
        assert len(draws[name]) == 300
        assert (interval.low, interval.high) == pytest.approx(np.quantile(draws[name], (0.1, 0.9)))
    # Of the same images: a draw that is hard in one setting is mostly hard in the others.
    np.testing.assert_array_equal(draws[MEAN], np.mean([draws[setting] for setting in SETTINGS], axis=0))


def test_a_detector_differs_from_itself_by_nothing() -> None:
    truth = ground_truth_of([3, 1, 7, 2])
    predictions = predictions_for(truth, seed=3)
    for interval in ap_differences(predictions, predictions, truth, num_draws=100).values():
        assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_a_paired_interval_is_narrower_than_what_two_intervals_would_say() -> None:
    truth = ground_truth_of([int(n) for n in np.random.default_rng(5).integers(0, 12, 60)])
    worse = predictions_for(truth, seed=4, chance=0.6)
    better = {
        name: rows if index % 6 else predictions_for(truth, seed=9, chance=1.0)[name]
        for index, (name, rows) in enumerate(worse.items())
    }
    difference = ap_differences(better, worse, truth)[MEAN]
    one, other = (ap_intervals(each, truth)[MEAN] for each in (better, worse))
    assert difference.value == pytest.approx(one.value - other.value)
    assert difference.low > 0
    assert difference.high - difference.low < one.high - one.low


def test_intervals_cover_what_many_images_would_give() -> None:
    many = ground_truth_of([2] * 4000)
    truth = average_precision(predictions_for(many, seed=11), many).mean
    few = ground_truth_of([2] * 80, seed=7)
    covered = 0
    for trial in range(40):
        interval = ap_intervals(predictions_for(few, seed=100 + trial), few, num_draws=200)[MEAN]
        covered += interval.low <= truth <= interval.high
    # 95 % of 40 are 38; the seeds are fixed, so this is one draw of such a number.
    assert covered >= 33


def test_the_same_seed_gives_the_same_interval_and_nonsense_is_refused() -> None:
    truth = ground_truth_of([3, 1, 7, 2])
    predictions = predictions_for(truth, seed=3)
    assert ap_intervals(predictions, truth) == ap_intervals(predictions, truth)
    assert ap_intervals(predictions, truth) != ap_intervals(predictions, truth, seed=1)
    with pytest.raises(ValueError, match="num_draws must be 1 or more, got 0"):
        ap_intervals(predictions, truth, num_draws=0)
    for confidence in (0, 1, 95):
        with pytest.raises(ValueError, match=f"confidence must be between 0 and 1, got {confidence}"):
            ap_intervals(predictions, truth, num_draws=1, confidence=confidence)
