"""Operating points: what a detector finds and imagines at each score threshold, and the one to choose.

Dimensions: `N` detections, `T` thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

STEPS = 1000
"""Fine, as the scores of many detectors crowd near 1, where few mistakes are made."""
FEW_FALSE_PER_IMAGE = 0.1


@dataclass(frozen=True)
class OperatingPoint:
    """What a user gets who shows the detections from one score on."""

    threshold: float
    precision: float
    """In [0, 1]; 1 where nothing is detected: then nothing is wrong."""
    recall: float
    """In [0, 1]; 0 if there is nothing to find."""
    f1: float
    """Harmonic mean of the two, in [0, 1]."""
    false_per_image: float

    def to_dict(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


def operating_points(
    scores: FloatArray, is_right: npt.NDArray[np.bool_], *, num_faces: int, num_images: int
) -> tuple[OperatingPoint, ...]:
    """Points at 1,001 thresholds from 0 to 1, or over the range of the scores where they leave it.

    Args:
        scores: (N,) of the detections that are right or wrong.
        is_right: (N,) those that are right.
        num_faces: how many are to be found.
        num_images: that were looked at.
    """
    low, high = min(0.0, scores.min(initial=0.0)), max(1.0, scores.max(initial=1.0))
    share = np.arange(STEPS + 1) / STEPS
    thresholds = low * (1 - share) + high * share  # never their difference: of wild scores it is infinite
    num_right = count_at_least(thresholds, scores[is_right])
    num_shown = count_at_least(thresholds, scores)
    precision = np.divide(num_right, num_shown, out=np.ones(STEPS + 1), where=num_shown > 0)
    recall = num_right / max(num_faces, 1)
    f1 = 2 * num_right / np.maximum(num_shown + num_faces, 1)
    false_per_image = (num_shown - num_right) / max(num_images, 1)
    columns = np.stack([thresholds, precision, recall, f1, false_per_image], axis=1)
    return tuple(OperatingPoint(*row) for row in columns.tolist())


def best_f1(points: Sequence[OperatingPoint]) -> OperatingPoint | None:
    """The point of the highest F1, of equals the one with the highest threshold; None if nothing is found."""
    best = max(points, key=lambda point: (point.f1, point.threshold))
    return best if best.f1 > 0 else None


def few_false(points: Sequence[OperatingPoint], limit: float = FEW_FALSE_PER_IMAGE) -> OperatingPoint | None:
    """The point that finds most with at most so many false detections an image; None if it finds nothing."""
    allowed = [point for point in points if point.false_per_image <= limit and point.recall > 0]
    return max(allowed, key=lambda point: (point.recall, point.threshold), default=None)


def count_at_least(thresholds: FloatArray, scores: FloatArray) -> FloatArray:
    """(T,): how many scores reach each threshold."""
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")).astype(np.float64)
