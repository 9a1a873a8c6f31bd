"""Precision-recall curves of the WIDER FACE settings, of one model or several over each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featherface.errors import DataError
from featherface.evaluation.figures import COLORS, GRID, TEXT, dress, new_figure, save_figure
from featherface.evaluation.widerface import SETTINGS, WiderResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_precision_recall(
    results: Mapping[str, WiderResult], path: Path | str, *, title: str | None = None
) -> None:
    """Draw easy, medium and hard beside each other; one line a model, its AP in the legend.

    Args:
        results: by the name to show, in the order of the legend.
        path: the picture to write; its suffix (.png, .svg, .pdf) chooses the format.
        title: above all three; None: how many images were judged.

    Raises:
        DataError: there is nothing to draw, or the picture cannot be written.
    """
    if not results:
        raise DataError("no result to draw; give at least one")
    figure = new_figure(12, 4.4)
    axes = figure.subplots(1, len(SETTINGS), sharey=True)
    for axis, setting in zip(axes, SETTINGS, strict=True):
        _draw_setting(axis, setting, results)
    axes[0].set_ylabel("precision", color=TEXT)
    figure.suptitle(title or describe_images(next(iter(results.values()))), color=TEXT, fontsize=12)
    save_figure(figure, path)


def _draw_setting(axis: Axes, setting: str, results: Mapping[str, WiderResult]) -> None:
    for model_idx, (name, result) in enumerate(results.items()):
        curve = result.curves[setting]
        axis.plot(
            # From recall 0, so that the line starts at the frame.
            np.concatenate([[0.0], curve.recall]),
            np.concatenate([[curve.precision[0]], curve.precision]),
            color=COLORS[model_idx % len(COLORS)],
            # Colors repeat after seven models: then the dashes tell them apart.
            linestyle=("-", "--", ":", "-.")[model_idx // len(COLORS) % 4],
            linewidth=1.8,
            label=f"{name}  {100 * curve.average_precision:.1f}",
        )
    num_faces = next(iter(results.values())).curves[setting].num_faces
    dress(axis, title=f"{setting} ({num_faces:,} faces)", x_label="recall")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.01)
    axis.legend(loc="lower left", title="AP %", fontsize=9, title_fontsize=9, frameon=True, edgecolor=GRID)


def describe_images(result: WiderResult) -> str:
    """How many images a result is about, as a title."""
    of_all = f" of {result.total_images:,}" if result.images < result.total_images else ""
    return f"Precision and recall at IoU 0.5, {result.images:,}{of_all} validation images"
