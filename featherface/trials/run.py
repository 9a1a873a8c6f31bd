"""Run a plan cell by cell, and put its numbers into one table."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from featherface.errors import ModelError
from featherface.files import write_atomically
from featherface.trials.cell import run_cell
from featherface.trials.plan import Cell, read_cells

logger = logging.getLogger(__name__)

TABLE = "table.md"
_COLUMNS = ("dev/ap_easy", "dev/ap_medium", "dev/ap_hard", "dev/ap_mean")


def run_plan(plan: Path, *, data: Path, teacher: Path, folder: Path) -> str:
    """Run the cells of a plan that are not finished; the table is written anew after each.

    Args:
        plan: a YAML file, see `trials.plan.Plan`.
        data: a data set in WIDER FACE layout.
        teacher: weights of the teacher.
        folder: gets a folder for each cell, and `table.md`.

    Returns:
        The table, as Markdown.

    Raises:
        ConfigError: the plan cannot be read.
        DataError: the data set cannot be used.
        ModelError: the teacher's weights cannot be used.
    """
    cells = read_cells(plan)
    if not teacher.is_file():
        raise ModelError(f"{teacher}: there is no such file; give the teacher's .safetensors")
    results: dict[str, list[Mapping[str, float]]] = {}
    text = ""
    for number, cell in enumerate(cells, start=1):
        logger.info("[%d/%d] %s", number, len(cells), cell.label)
        metrics = run_cell(cell, data=data, teacher=teacher, folder=folder / cell.label)
        results.setdefault(cell.name, []).append(metrics)
        logger.info("%s: mean AP %.2f on the development split", cell.label, 100 * metrics["dev/ap_mean"])
        text = table(results, cells)
        write_atomically(folder / TABLE, text.encode())
    return text


def table(results: Mapping[str, Sequence[Mapping[str, float]]], cells: Sequence[Cell]) -> str:
    """Markdown: a line a cell, AP in percent; differences of the mean AP to the first cell, seed by seed."""
    development = cells[0].development
    lines = [
        f"Development split: {development.fraction:.0%} of the training photographs, long side "
        f"{development.image_size} px. Seeds: {', '.join(str(cell.seed) for cell in _of_first(cells))}.",
        "",
        "| cell | parameters | M multiply-adds | easy | medium | hard | mean | to the first | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first = next(iter(results.values()))
    for name, runs in results.items():
        aps = " | ".join(f"{100 * statistics.mean(run[column] for run in runs):.2f}" for column in _COLUMNS)
        minutes = statistics.mean(run["train/seconds"] for run in runs) / 60
        size = f"{runs[0]['model/params']:,.0f} | {runs[0]['model/multiply_adds_640'] / 1e6:.0f}"
        lines.append(f"| {name} | {size} | {aps} | {_difference(runs, first)} | {minutes:.1f} |")
    return "\n".join(lines) + "\n"


def _of_first(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.name == cells[0].name]


def _difference(runs: Sequence[Mapping[str, float]], first: Sequence[Mapping[str, float]]) -> str:
    """Mean of the paired differences in points of AP; with two seeds or more its 95 % t-interval."""
    if runs is first:
        return ""
    points = [
        100 * (run["dev/ap_mean"] - other["dev/ap_mean"]) for run, other in zip(runs, first, strict=False)
    ]
    if len(points) < 2:
        return f"{points[0]:+.2f}"
    from scipy import stats

    error = statistics.stdev(points) / len(points) ** 0.5
    half = float(stats.t.ppf(0.975, len(points) - 1)) * error
    mean = statistics.mean(points)
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"
