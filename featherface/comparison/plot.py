"""The picture of a comparison: how good against how fast, a dot a detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from featherface.comparison.run import Row
from featherface.evaluation.bootstrap import MEAN

_OURS, _THEIRS = "#2b6cb0", "#718096"


def plot_comparison(rows: Sequence[Row], path: Path) -> None:
    """Write mean AP with its interval over the median latency; the first detector stands out.

    Args:
        rows: of `run.compare`.
        path: of the picture; its ending says the format.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(rows):
        ap, x = row.ap[MEAN], row.latency.median_ms
        color = _OURS if number == 0 else _THEIRS
        axes.errorbar(
            x,
            100 * ap.value,
            yerr=[[100 * (ap.value - ap.low)], [100 * (ap.high - ap.value)]],
            fmt="o",
            color=color,
            capsize=3,
        )
        axes.annotate(
            f"{row.name}\n{row.cost.params:,} parameters",
            (x, 100 * ap.value),
            xytext=(8, 4),
            textcoords="offset points",
            fontsize=9,
            color=color,
        )
    axes.set_xlabel("latency of the network, ms (median, this machine)")
    axes.set_ylabel("mean of easy, medium and hard AP, %")
    axes.set_xlim(left=0, right=1.35 * max(row.latency.median_ms for row in rows))
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)
