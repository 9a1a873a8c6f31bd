"""How sure an average precision is: intervals from resampled images, paired if two detectors are compared.

The images are drawn anew with replacement, and both detectors are judged on the same draw, so that images
that are easy or hard for both do not blur their difference. Scores keep the stretching of the whole set: it
is part of the detector's output here, not of the sample.

The counts behind precision and recall are sums over images. So an image is judged once, and a draw is a row
of weights: a thousand draws are one product of matrices.

Dimensions: `I` images, `T` thresholds, `R` draws.

Reference:
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3: the percentile interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherface.evaluation.widerface import (
    NUM_THRESHOLDS,
    SETTINGS,
    THRESHOLDS,
    Judgement,
    WiderGroundTruth,
    judge,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    Predictions = Mapping[str, npt.NDArray[np.floating]]

MEAN = "mean"
"""Of the three settings, beside them in all results here."""
# Draws judged at once: with a thousand thresholds their counts take 4 MB a setting.
_BLOCK = 250


@dataclass(frozen=True)
class Interval:
    """A number measured on all images, and where it lies with the given confidence."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.2f} ({100 * self.low:.2f} to {100 * self.high:.2f})"


def ap_intervals(
    predictions: Predictions,
    ground_truth: WiderGroundTruth,
    *,
    num_draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Average precision of each setting and their mean, in [0, 1], with intervals over images.

    Args:
        predictions: as of `widerface.average_precision`, like the next.
        ground_truth: see there.
        num_draws: of the images; the bounds are quantiles of so many values.
        confidence: in (0, 1).
        seed: of the draws: the same images and seed give the same draws for every detector.

    Raises:
        DataError: as of `widerface.average_precision`.
        ValueError: `num_draws` or `confidence` is out of range.
    """
    values, draws = ap_draws(predictions, ground_truth, num_draws=num_draws, seed=seed)
    return _intervals(values, draws, confidence)


def ap_differences(
    predictions: Predictions,
    others: Predictions,
    ground_truth: WiderGroundTruth,
    *,
    num_draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """How much higher the first detector's average precision is than the other's; paired over images.

    Args:
        predictions: of the one detector.
        others: of the other, for the same images.
        ground_truth: of both.
        num_draws: as of `ap_intervals`, like the next.
        confidence: see there.
        seed: see there.

    Raises:
        DataError: as of `widerface.average_precision`.
        ValueError: `num_draws` or `confidence` is out of range.
    """
    values, draws = ap_draws(predictions, ground_truth, num_draws=num_draws, seed=seed)
    other_values, other_draws = ap_draws(others, ground_truth, num_draws=num_draws, seed=seed)
    return _intervals(
        {name: value - other_values[name] for name, value in values.items()},
        {name: each - other_draws[name] for name, each in draws.items()},
        confidence,
    )


def ap_draws(
    predictions: Predictions, ground_truth: WiderGroundTruth, *, num_draws: int = 1000, seed: int = 0
) -> tuple[dict[str, float], dict[str, FloatArray]]:
    """AP of each setting and their mean, on all images and (R,) on each draw of them.

    Args:
        predictions: as of `ap_intervals`, like the others.
        ground_truth: see there.
        num_draws: see there.
        seed: see there.

    Raises:
        DataError: as of `widerface.average_precision`.
        ValueError: `num_draws` is out of range.
    """
    if num_draws < 1:
        raise ValueError(f"num_draws must be 1 or more, got {num_draws}")
    judgement = judge(predictions, ground_truth)
    num_images = len(ground_truth.names)
    whole, draws = {}, {}
    for setting in SETTINGS:
        counts = _count_by_image(judgement, ground_truth, setting)
        whole[setting] = float(_average_precision(np.ones((1, num_images)), *counts)[0])
        draws[setting] = np.concatenate(
            [_average_precision(weights, *counts) for weights in _draw_images(num_images, num_draws, seed)]
        )
    whole[MEAN] = float(np.mean([whole[setting] for setting in SETTINGS]))
    draws[MEAN] = np.mean([draws[setting] for setting in SETTINGS], axis=0)
    return whole, draws


def _count_by_image(
    judgement: Judgement, ground_truth: WiderGroundTruth, setting: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(I, T) faces found and (I, T) detections judged at each threshold, and (I,) faces that count."""
    is_counted = ground_truth.is_counted[setting]
    face_image_idx = np.repeat(np.arange(len(ground_truth.names)), np.diff(ground_truth.offsets))
    num_images = len(ground_truth.names)
    is_judged = judgement.is_judged(is_counted)
    found = _reaching(judgement.best_score[is_counted], face_image_idx[is_counted], num_images)
    judged = _reaching(judgement.scores[is_judged], judgement.image_idx[is_judged], num_images)
    faces = np.bincount(face_image_idx[is_counted], minlength=num_images).astype(np.float64)
    return found, judged, faces


def _reaching(scores: FloatArray, image_idx: npt.NDArray[np.int64], num_images: int) -> FloatArray:
    """(I, T): how many scores of each image reach each threshold."""
    rank = np.searchsorted(THRESHOLDS[::-1], scores, side="right")  # how many thresholds a score reaches
    counts = np.zeros((num_images, NUM_THRESHOLDS + 1))
    np.add.at(counts, (image_idx, NUM_THRESHOLDS - rank), 1)
    return counts.cumsum(axis=1)[:, :NUM_THRESHOLDS]


def _draw_images(num_images: int, num_draws: int, seed: int) -> Iterator[FloatArray]:
    """(up to `_BLOCK`, I) how often each image is in each draw."""
    generator = np.random.default_rng(seed)
    chances = np.full(num_images, 1 / num_images)
    for start in range(0, num_draws, _BLOCK):
        size = min(_BLOCK, num_draws - start)
        yield generator.multinomial(num_images, chances, size=size).astype(np.float64)


def _average_precision(
    weights: FloatArray, found: FloatArray, judged: FloatArray, faces: FloatArray
) -> FloatArray:
    """(R,) area under the monotone envelope of precision over recall, as `widerface` has it."""
    num_found, num_judged = weights @ found, weights @ judged  # (R, T)
    precision = np.divide(num_found, num_judged, out=np.ones_like(num_found), where=num_judged > 0)
    recall = num_found / np.maximum(weights @ faces, 1)[:, None]
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((np.diff(recall, axis=1, prepend=0.0) * envelope).sum(axis=1))


def _intervals(
    values: Mapping[str, float], draws: Mapping[str, FloatArray], confidence: float
) -> dict[str, Interval]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    return {
        name: Interval(value, *map(float, np.quantile(draws[name], (tail, 1 - tail))))
        for name, value in values.items()
    }
