"""How our plots look: one palette, one frame, one way to the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featherface.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by color-blind readers too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GRID = "#d9d9d9"
TEXT = "#333333"


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure.

    Args:
        width_in: inches, at 150 dots each.
        height_in: see there.
    """
    # No pyplot: a Figure of its own needs no display and leaves no state behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axis: Axes, *, title: str, x_label: str) -> None:
    """Give a panel its title, its light grid and no frame above and at the right."""
    axis.set_title(title, fontsize=11, color=TEXT)
    axis.set_xlabel(x_label, color=TEXT)
    axis.grid(color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(colors=TEXT, length=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(GRID)


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a picture; the suffix (.png, .svg, .pdf) chooses the format.

    Raises:
        DataError: it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the plot cannot be written ({error})") from error
