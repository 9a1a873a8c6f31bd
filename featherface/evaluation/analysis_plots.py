"""Pictures of an analysis: error types, operating points, calibration, and AP by what a face is like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featherface.evaluation.analysis import SETTING, Analysis
from featherface.evaluation.error_types import ERROR_TYPES
from featherface.evaluation.figures import COLORS, GRID, TEXT, dress, new_figure, save_figure
from featherface.evaluation.slices import Slice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {"localization": "misplaced", "duplicate": "found twice", "background": "imagined"}
# A detector that imagines less than a face in a thousand images is beyond what some hundred images can show.
_FEWEST_FALSE, _MOST_FALSE = 1e-2, 1e2


def plot_error_types(analyses: Mapping[str, Analysis], path: Path | str) -> None:
    """Draw what each type of error costs and how often it happens; a bar a detector.

    Args:
        analyses: by the name to show, at least one.
        path: the picture to write.

    Raises:
        DataError: the picture cannot be written.
    """
    figure = new_figure(12, 4)
    left, right = figure.subplots(1, 2)
    labels = [_LABELS.get(name, name) for name in ERROR_TYPES]
    costs = {who: [100 * each.lost_precision[name] for name in ERROR_TYPES] for who, each in analyses.items()}
    counts = {who: [float(each.error_counts[name]) for name in ERROR_TYPES] for who, each in analyses.items()}
    _bars(left, labels, costs, "{:.1f}")
    dress(left, title=f"AP that each type costs ({SETTING})", x_label="points of AP")
    _bars(right, labels, counts, "{:,.0f}")
    dress(right, title="errors at the recommended threshold", x_label="faces or detections")
    right.legend(loc="best", fontsize=9, edgecolor=GRID)
    _name_testing(figure, analyses)
    save_figure(figure, path)


def plot_operating_points(analyses: Mapping[str, Analysis], path: Path | str) -> None:
    """Draw precision, recall and F1 of the first detector over the threshold; recall of all over mistakes.

    Args:
        analyses: by the name to show, at least one.
        path: the picture to write.

    Raises:
        DataError: the picture cannot be written.
    """
    figure = new_figure(12, 4.4)
    left, right = figure.subplots(1, 2)
    first, analysis = next(iter(analyses.items()))
    thresholds = [point.threshold for point in analysis.points]
    for color, name in zip(COLORS, ("precision", "recall", "f1"), strict=False):
        values = [getattr(point, name) for point in analysis.points]
        left.plot(thresholds, values, color=color, linewidth=1.8, label=name.replace("f1", "F1"))
    if analysis.recommended is not None:
        best = analysis.recommended
        left.axvline(best.threshold, color=TEXT, linewidth=1, linestyle="--")
        left.annotate(f" {best.threshold:.3f}", (best.threshold, 0.02), color=TEXT, fontsize=9)
    dress(left, title=f"{first} ({analysis.num_faces:,} faces of {SETTING})", x_label="score threshold")
    left.set_xlim(min(thresholds), max(thresholds))
    left.set_ylim(0, 1.01)
    left.legend(loc="lower left", fontsize=9, edgecolor=GRID)
    for color, (name, each) in zip(cycle(COLORS), analyses.items(), strict=False):
        false = np.array([point.false_per_image for point in each.points]).clip(_FEWEST_FALSE)
        right.plot(false, [point.recall for point in each.points], color=color, linewidth=1.8, label=name)
        for point, marker in ((each.recommended, "o"), (each.few_false, "s")):
            if point is not None:
                right.plot(max(point.false_per_image, _FEWEST_FALSE), point.recall, marker, color=color)
    dress(right, title="recall; dot: best F1, square: few false", x_label="false detections per image")
    right.set_xscale("log")
    right.set_xlim(_FEWEST_FALSE, _MOST_FALSE)
    right.set_ylim(0, 1.01)
    right.legend(loc="upper left", fontsize=9, edgecolor=GRID)
    _name_testing(figure, analyses)
    save_figure(figure, path)


def plot_calibration(analyses: Mapping[str, Analysis], path: Path | str) -> None:
    """Draw the reliability diagram, and below each bin of scores how many detections it holds.

    Args:
        analyses: by the name to show, at least one; those without detections, or whose scores
            are no probabilities, are left out.
        path: the picture to write.

    Raises:
        DataError: the picture cannot be written.
    """
    figure = new_figure(12, 4.4)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=TEXT, linewidth=1, linestyle="--", label="says what it means")
    for color, (name, analysis) in zip(cycle(COLORS), analyses.items(), strict=False):
        if analysis.reliability is None or analysis.reliability.expected_error is None:
            continue
        bins = [each for each in analysis.reliability.bins if each.detections]
        label = f"{name}  (error {100 * analysis.reliability.expected_error:.1f})"
        scores, shares = [each.mean_score for each in bins], [each.share_right for each in bins]
        left.plot(scores, shares, "o-", color=color, linewidth=1.8, label=label)
        right.plot(
            [(each.low + each.high) / 2 for each in bins],
            [each.detections for each in bins],
            "o-",
            color=color,
            linewidth=1.8,
            label=name,
        )
    dress(left, title="share of right detections over their score", x_label="mean score")
    left.set_xlim(0, 1)
    left.set_ylim(0, 1.01)
    left.legend(loc="upper left", fontsize=9, edgecolor=GRID)
    dress(right, title="detections of that score", x_label="score")
    right.set_xlim(0, 1)
    if right.lines:  # without any detection there is no logarithm
        right.set_yscale("log")
    _name_testing(figure, analyses)
    save_figure(figure, path)


def plot_slices(slices: Mapping[str, Sequence[Slice]], path: Path | str, *, testing: str) -> None:
    """Draw AP by height and by attribute of the face; a bar a detector.

    Args:
        slices: of each detector, by the name to show; at least one, all of the same images.
        path: the picture to write.
        testing: how often the detectors looked at an image.

    Raises:
        DataError: the picture cannot be written.
    """
    labels = [each.name.replace("_", " ") for each in next(iter(slices.values()))]
    figure = new_figure(12, 1 + 0.32 * max(len(labels), 4))
    axis = figure.subplots()
    values = {who: [100 * each.average_precision for each in found] for who, found in slices.items()}
    _bars(axis, labels, values, "{:.1f}")
    dress(axis, title=f"AP by what the face is like, {testing}", x_label="AP %")
    axis.set_xlim(0, 105)
    axis.legend(loc="lower right", fontsize=9, edgecolor=GRID)
    save_figure(figure, path)


def _bars(axis: Axes, labels: Sequence[str], values: Mapping[str, Sequence[float]], text: str) -> None:
    """Groups of horizontal bars, the first group on top."""
    height = 0.8 / len(values)
    for number, (name, lengths) in enumerate(values.items()):
        rows = np.arange(len(labels)) + (number - (len(values) - 1) / 2) * height
        color = COLORS[number % len(COLORS)]
        bars = axis.barh(rows, lengths, height=0.9 * height, color=color, label=name)
        axis.bar_label(bars, [text.format(each) for each in lengths], padding=3, fontsize=8, color=TEXT)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.margins(x=0.12)


def _name_testing(figure: Figure, analyses: Mapping[str, Analysis]) -> None:
    """Say above a picture how often the detectors looked at an image."""
    how = sorted({analysis.testing for analysis in analyses.values()})
    figure.suptitle(", ".join(how), color=TEXT, fontsize=10)
