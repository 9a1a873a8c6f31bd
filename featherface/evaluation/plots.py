"""Precision-recall curves of the WIDER FACE settings, of one model or several over each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featherface.errors import DataError
from featherface.evaluation.widerface import SETTINGS, WiderResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: told apart by color-blind readers too.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GRID = "#d9d9d9"
_TEXT = "#333333"


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
    # No pyplot: a Figure of its own needs no display and leaves no state behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not results:
        raise DataError("no result to draw; give at least one")
    figure = Figure(figsize=(12, 4.4), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(SETTINGS), sharey=True)
    for axis, setting in zip(axes, SETTINGS, strict=True):
        _draw_setting(axis, setting, results)
    axes[0].set_ylabel("precision", color=_TEXT)
    figure.suptitle(title or _describe(results), color=_TEXT, fontsize=12)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the plot cannot be written ({error})") from error


def _draw_setting(axis: Axes, setting: str, results: Mapping[str, WiderResult]) -> None:
    for model_idx, (name, result) in enumerate(results.items()):
        curve = result.curves[setting]
        axis.plot(
            # From recall 0, so that the line starts at the frame.
            np.concatenate([[0.0], curve.recall]),
            np.concatenate([[curve.precision[0]], curve.precision]),
            color=_COLORS[model_idx % len(_COLORS)],
            # Colors repeat after seven models: then the dashes tell them apart.
            linestyle=("-", "--", ":", "-.")[model_idx // len(_COLORS) % 4],
            linewidth=1.8,
            label=f"{name}  {100 * curve.average_precision:.1f}",
        )
    num_faces = next(iter(results.values())).curves[setting].num_faces
    axis.set_title(f"{setting} ({num_faces:,} faces)", fontsize=11, color=_TEXT)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.01)
    axis.set_xlabel("recall", color=_TEXT)
    axis.grid(color=_GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(colors=_TEXT, length=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(_GRID)
    axis.legend(loc="lower left", title="AP %", fontsize=9, title_fontsize=9, frameon=True, edgecolor=_GRID)


def _describe(results: Mapping[str, WiderResult]) -> str:
    result = next(iter(results.values()))
    of_all = f" of {result.total_images:,}" if result.images < result.total_images else ""
    return f"Precision and recall at IoU 0.5, {result.images:,}{of_all} validation images"
