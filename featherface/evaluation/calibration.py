"""Whether a score means what it says: of the detections of a score, how many are right?

Right is what the benchmark calls right, so a second detection of a face is not. Where detections of a score
are right as often as the score says, a threshold can be chosen by thinking instead of by trying.

Dimensions: `N` detections.

Reference:
    Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599, section 2: the reliability diagram
    and the expected calibration error, here of detections, where precision takes the place of accuracy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherface.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Detections of about one score."""

    low: float
    high: float
    detections: int
    mean_score: float | None
    """None where there is no detection, like the next."""
    share_right: float | None

    def to_dict(self) -> dict[str, float | None]:
        """The numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class Reliability:
    """Scores beside what came true."""

    bins: tuple[Bin, ...]
    """Of equal width over [0, 1]; each holds its lower border, the last one both."""
    expected_error: float | None
    """Mean distance of score and share of right ones, weighted by detections; None without detections."""


def reliability(
    scores: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_], *, num_bins: int = NUM_BINS
) -> Reliability:
    """Compare scores with what came true.

    Args:
        scores: (N,) in [0, 1], of the detections that are right or wrong.
        is_right: (N,) those that are right.
        num_bins: of equal width.

    Raises:
        DataError: scores outside [0, 1], which are no probabilities.
    """
    if not ((scores >= 0) & (scores <= 1)).all():  # NaN fails as well
        worst = scores[~((scores >= 0) & (scores <= 1))][0]
        raise DataError(f"calibration is about scores in [0, 1], got {worst}")
    bin_idx = np.minimum((scores * num_bins).astype(np.int64), num_bins - 1)
    detections = np.bincount(bin_idx, minlength=num_bins)
    num_right = np.bincount(bin_idx, weights=is_right, minlength=num_bins)
    total_score = np.bincount(bin_idx, weights=scores, minlength=num_bins)
    bins = tuple(
        Bin(
            low=number / num_bins,
            high=(number + 1) / num_bins,
            detections=int(count),
            mean_score=float(total_score[number] / count) if count else None,
            share_right=float(num_right[number] / count) if count else None,
        )
        for number, count in enumerate(detections)
    )
    error = float(np.abs(num_right - total_score).sum() / len(scores)) if len(scores) else None
    return Reliability(bins, error)
