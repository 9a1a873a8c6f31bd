"""The picture of a validation report: sizes of the faces, faces per image and sizes of the images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featherface.data.validation import ValidationReport
from featherface.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

# Distinct for color-blind readers too (Okabe and Ito).
_COLORS = {"train": "#0072B2", "val": "#E69F00"}
_GRID = "#d9d9d9"
_TEXT = "#333333"


def plot_validation(report: ValidationReport, path: Path | str) -> None:
    """Write the distributions of a data set as PNG, SVG or PDF, by the suffix.

    Splits are drawn as shares of themselves, so that a small one can be compared with a large one.

    Raises:
        DataError: the file cannot be written, or its suffix is no format of pictures.
    """
    # Figure without pyplot: no global state, no window, safe in threads; savefig picks the Agg canvas.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 4.4), layout="constrained")
    heights, counts, sizes = figure.subplots(1, 3)
    splits = report.splits
    height_edges_px = [2.0**power for power in np.arange(1, 10.5, 0.5)]
    _draw_shares(heights, {name: split.face_heights_px for name, split in splits.items()}, height_edges_px)
    _label(heights, "Face heights", "height (px)", "share of faces")
    heights.set_xticks([2.0**power for power in range(1, 11)])
    _draw_counts(counts, {name: split.faces_per_image for name, split in splits.items()})
    _label(counts, "Faces per image", "faces", "share of images")
    counts.grid(visible=False, axis="x")
    for name, split in splits.items():
        unique_wh, repeats = np.unique(split.image_wh, axis=0, return_counts=True)
        dot_area = 12 + 300 * repeats / max(1, split.num_images)
        sizes.scatter(*unique_wh.T, s=dot_area, color=_COLORS[name], alpha=0.45, linewidths=0, label=name)
    _label(sizes, "Image sizes (dot area: share of images)", "width (px)", "height (px)")
    sizes.set_xlim(0, 1.08 * sizes.get_xlim()[1])
    sizes.set_ylim(0, 1.08 * sizes.get_ylim()[1])
    named = [
        f"{name}: {split.num_images:,} images, {split.num_faces:,} faces" for name, split in splits.items()
    ]
    figure.suptitle("   ·   ".join(named), fontsize=12, color=_TEXT)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise DataError(f"{path}: the plot cannot be written ({reason})") from error


def _draw_shares(axes: Axes, values: dict[str, npt.NDArray[np.float32]], edges: Sequence[float]) -> None:
    """Filled steps on a logarithmic axis; what lies beyond the edges is counted in the outermost classes."""
    middle_of_last = (edges[-2] + edges[-1]) / 2
    for name, split_values in values.items():
        counts, _ = np.histogram(np.clip(split_values, edges[0], middle_of_last), bins=edges)
        shares = counts / max(1, len(split_values))
        axes.stairs(shares, edges, fill=True, color=_COLORS[name], alpha=0.35)
        axes.stairs(shares, edges, color=_COLORS[name], linewidth=1.6, label=name)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")


def _draw_counts(axes: Axes, values: dict[str, npt.NDArray[np.int64]]) -> None:
    """Bars for 0, 1, 2, 3-4, 5-8, ... faces, the splits side by side."""
    last_of_class = [0, 1, 2, 4, 8, 16, 32, 64]
    labels = ["0", "1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65+"]
    width = 0.84 / len(values)
    for place, (name, counts) in enumerate(values.items()):
        classes = np.searchsorted(last_of_class, counts, side="left")
        shares = np.bincount(classes, minlength=len(labels)) / max(1, len(counts))
        left = np.arange(len(labels)) - 0.42 + place * width
        axes.bar(left, shares, width, align="edge", color=_COLORS[name], alpha=0.75, label=name)
    axes.set_xticks(range(len(labels)), labels=labels)


def _label(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.set_title(title, fontsize=11, color=_TEXT, loc="left")
    axes.set_xlabel(x_label, color=_TEXT)
    axes.set_ylabel(y_label, color=_TEXT)
    axes.tick_params(colors=_TEXT, labelsize=8)
    axes.minorticks_off()
    if y_label.startswith("share"):
        axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.grid(visible=True, color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False)
