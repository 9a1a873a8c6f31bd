"""How sure a contrast of average precisions is, over seeds and over images at once.

A contrast is a weighted sum over configurations: `all - none`, or for a synergy `both - one - other + none`.
Every configuration was trained with the same seeds, and judged on the same images, so it is taken seed by
seed and draw by draw, and what seeds or images have in common cancels.

Two things make it uncertain: other seeds would give other networks, and other images would judge them
otherwise. Each has an interval of its own, Student's for the few seeds and the normal one for the many draws;
their halves are the legs of a right triangle whose long side is half of the whole.

Dimensions: `S` seeds, `R` draws of the images.

Reference:
    Howe, "Approximate Confidence Limits on the Mean of X + Y" (1974); Bonferroni for many claims.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

POWER = 0.8
"""Chance with which the smallest visible effect would have been seen."""


@dataclass(frozen=True)
class Score:
    """A trained network's average precision: on all images, and on each draw of them."""

    value: float
    draws: npt.NDArray[np.float64]
    """(R,) with the same draws for every network."""


@dataclass(frozen=True)
class Estimate:
    """A contrast in points of AP, with an interval."""

    points: float
    low: float
    high: float
    smallest_visible: float
    """An effect of this size would have been told from nothing in 80 % of such experiments."""
    seed_deviation: float
    """Standard deviation over the seeds, in points."""
    num_seeds: int


def estimate(
    scores: Mapping[str, Sequence[Score]],
    weights: Mapping[str, float],
    *,
    num_claims: int = 1,
    confidence: float = 0.95,
) -> Estimate:
    """A contrast with an interval that covers seeds and images, and all claims of a ledger together.

    Args:
        scores: of each configuration, a network a seed, in one order of seeds.
        weights: of each configuration in the contrast.
        num_claims: so many intervals are looked at; each is widened until all hold together.
        confidence: of all of them together, in (0, 1).

    Raises:
        ValueError: fewer than two seeds, or not the same number for each configuration.
    """
    counts = {len(scores[name]) for name in weights}
    if len(counts) != 1 or min(counts) < 2:
        raise ValueError(f"two seeds or more are needed, as many for each cell, got {sorted(counts)}")
    num_seeds = counts.pop()
    by_seed = 100 * sum(
        weight * np.asarray([score.value for score in scores[name]]) for name, weight in weights.items()
    )  # (S,)
    by_draw = 100 * sum(
        weight * np.mean([score.draws for score in scores[name]], axis=0) for name, weight in weights.items()
    )  # (R,)
    mean, deviation = float(np.mean(by_seed)), float(np.std(by_seed, ddof=1))
    of_seeds, of_images = deviation**2 / num_seeds, float(np.var(by_draw))
    tail = (1 - confidence) / num_claims / 2
    reach = _half_width(1 - tail, of_seeds, of_images, num_seeds)
    return Estimate(
        points=mean,
        low=mean - reach,
        high=mean + reach,
        smallest_visible=reach + _half_width(POWER, of_seeds, of_images, num_seeds),
        seed_deviation=deviation,
        num_seeds=num_seeds,
    )


def _half_width(probability: float, of_seeds: float, of_images: float, num_seeds: int) -> float:
    """How far a quantile lies from the mean, for the variances that seeds and images give it."""
    from scipy import stats

    student, normal = stats.t.ppf(probability, num_seeds - 1), stats.norm.ppf(probability)
    return math.hypot(student * math.sqrt(of_seeds), normal * math.sqrt(of_images))
