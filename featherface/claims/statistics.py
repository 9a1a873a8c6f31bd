"""How sure a contrast of average precisions is, over seeds and over images at once.

A contrast is a weighted sum over configurations: `all - none`, or for a synergy `both - one - other + none`.
Every configuration was trained with the same seeds, and judged on the same images, so it is taken seed by
seed and draw by draw, and what seeds or images have in common cancels.

Two things make it uncertain: other seeds would give other networks, and other images would judge them
otherwise. Each has an interval of its own, Student's for the few seeds and the normal one for the many draws;
their halves are the legs of a right triangle whose long side is half of the whole.

How much seeds scatter is estimated from all cells of the ledger together, as in one randomized block design:
three seeds of two cells alone leave two degrees of freedom, and intervals too wide to say anything. It is
taken for granted that cells scatter alike, as trainings of one length on the same photographs should; where
two of them scatter a quarter more than the others, an interval of 95 % covers their difference in 93 %.

Dimensions: `C` cells, `S` seeds, `R` draws of the images.

Reference:
    Howe, "Approximate Confidence Limits on the Mean of X + Y" (1974); Bonferroni for many claims; for the
    pooled variance Fisher, "The Design of Experiments" (1935), chapter IV.
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
NUM_DRAWS = 1000
"""Of the images, for every network the same."""


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
    """Standard deviation of the contrast over the seeds, in points, pooled over all cells."""
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
        scores: of each configuration of the experiment, a network a seed, in one order of seeds.
        weights: of each configuration in the contrast; they add up to 0.
        num_claims: so many intervals are looked at; each is widened until all hold together.
        confidence: of all of them together, in (0, 1).

    Raises:
        ValueError: fewer than two seeds or cells, or not as many seeds for each configuration.
    """
    counts = {len(runs) for runs in scores.values()}
    if len(counts) != 1 or min(counts) < 2 or len(scores) < 2:
        raise ValueError(
            f"two cells or more are needed, and two seeds or more, as many for each cell, got {len(scores)} "
            f"cells of {sorted(counts)} seeds"
        )
    num_seeds = counts.pop()
    values = {name: 100 * np.asarray([score.value for score in runs]) for name, runs in scores.items()}
    variance, freedom = _scatter_of_seeds(np.stack(list(values.values())))
    by_draw = 100 * sum(
        weight * np.mean([score.draws for score in scores[name]], axis=0) for name, weight in weights.items()
    )  # (R,)
    mean = float(sum(weight * np.mean(values[name]) for name, weight in weights.items()))
    of_a_seed = variance * sum(weight**2 for weight in weights.values())
    of_seeds, of_images = of_a_seed / num_seeds, float(np.var(by_draw))
    tail = (1 - confidence) / num_claims / 2
    reach = _half_width(1 - tail, of_seeds, of_images, freedom)
    return Estimate(
        points=mean,
        low=mean - reach,
        high=mean + reach,
        smallest_visible=reach + _half_width(POWER, of_seeds, of_images, freedom),
        seed_deviation=math.sqrt(of_a_seed),
        num_seeds=num_seeds,
    )


def estimate_over_images(
    score: Score, against: Score | None = None, *, num_claims: int = 1, confidence: float = 0.95
) -> Estimate:
    """One network's AP in points, or what it is ahead of another one; other images only would change it.

    Args:
        score: of the network.
        against: of the other one, on the same draws of the same images.
        num_claims: as of `estimate`.
        confidence: as of `estimate`.
    """
    draws = score.draws if against is None else score.draws - against.draws
    of_images = 100**2 * float(np.var(draws))
    reach = _half_width(1 - (1 - confidence) / num_claims / 2, 0.0, of_images, 1)
    points = 100 * (score.value - (0.0 if against is None else against.value))
    return Estimate(
        points=points,
        low=points - reach,
        high=points + reach,
        smallest_visible=reach + _half_width(POWER, 0.0, of_images, 1),
        seed_deviation=0.0,
        num_seeds=1,
    )


def _scatter_of_seeds(values: npt.NDArray[np.float64]) -> tuple[float, int]:
    """Variance of one training beyond what its cell and its seed explain, and its degrees of freedom.

    Args:
        values: (C, S). With two cells it is half the variance of their differences: Student's paired test.
    """
    residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    freedom = (values.shape[0] - 1) * (values.shape[1] - 1)
    return float(np.sum(residuals**2)) / freedom, freedom


def _half_width(probability: float, of_seeds: float, of_images: float, freedom: int) -> float:
    """How far a quantile lies from the mean, for the variances that seeds and images give it."""
    from scipy import stats

    student, normal = stats.t.ppf(probability, freedom), stats.norm.ppf(probability)
    return math.hypot(student * math.sqrt(of_seeds), normal * math.sqrt(of_images))
