"""Judge several detectors on the same images, count what they cost, and time them in one interleaved run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featherface.comparison.cost import Cost, count_cost
from featherface.comparison.peers import open_detector
from featherface.config import EvaluateConfig
from featherface.data.widerface import GROUND_TRUTH_DIR
from featherface.errors import DataError, OptionError
from featherface.evaluation.bootstrap import MEAN, Interval, ap_differences, ap_intervals
from featherface.evaluation.run import evaluate_dataset
from featherface.evaluation.widerface import SETTINGS, load_ground_truth, restrict
from featherface.export.latency import Latency, measure_latency

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One detector of a comparison."""

    name: str
    ap: Mapping[str, Interval]
    """By setting, and `mean`; in [0, 1], with 95 % intervals over the images."""
    to_first: Interval | None
    """Mean AP less that of the first detector, paired over the images; None for the first one itself."""
    cost: Cost
    latency: Latency
    latency_ratio: float
    """Over the first detector's, by rounds."""


def compare(
    models: Mapping[str, Path],
    root: Path,
    *,
    settings: EvaluateConfig,
    input_hw: tuple[int, int] = (640, 640),
    rounds: int = 50,
    num_threads: int = 1,
) -> list[Row]:
    """Compare ONNX detectors on the validation images of a data set; others are set against the first.

    Args:
        models: files by the names that the table shows.
        root: a data set in WIDER FACE layout with its official ground truth.
        settings: thresholds and image size for all.
        input_hw: size for multiply-adds and latency, in pixels.
        rounds: timed runs of each network.
        num_threads: threads while timing.

    Raises:
        DataError: the data set cannot be used, or has no official ground truth.
        ModelError: a file is of no detector known here.
        OptionError: no models.
    """
    if not models:
        raise OptionError("a comparison needs at least one model")
    if not (root / GROUND_TRUTH_DIR).is_dir():
        raise DataError(f"{root}: has no {GROUND_TRUTH_DIR} folder with the easy, medium and hard lists")
    detectors = {name: open_detector(path, settings) for name, path in models.items()}
    predictions = {}
    for number, (name, detect) in enumerate(detectors.items(), start=1):
        logger.info("[%d/%d] %s", number, len(detectors), name)
        predictions[name] = evaluate_dataset(detect, root, coco=False).predictions
    first = next(iter(models))
    ground_truth = restrict(load_ground_truth(root / GROUND_TRUTH_DIR), list(predictions[first]))
    latency = measure_latency(models, input_hw=input_hw, rounds=rounds, num_threads=num_threads)
    return [
        Row(
            name=name,
            ap=ap_intervals(predictions[name], ground_truth),
            to_first=(
                None
                if name == first
                else ap_differences(predictions[name], predictions[first], ground_truth)[MEAN]
            ),
            cost=count_cost(path, input_hw=input_hw),
            latency=latency.latencies[name],
            latency_ratio=latency.ratio(name, first),
        )
        for name, path in models.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line a detector; AP in percent."""
    lines = [
        "| detector | easy | medium | hard | mean | mean to the first | parameters | M multiply-adds | KiB "
        "| latency |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        aps = " | ".join(f"{100 * row.ap[setting].value:.2f}" for setting in SETTINGS)
        lines.append(
            f"| {row.name} | {aps} | {row.ap[MEAN]} | {'' if row.to_first is None else row.to_first} | "
            f"{row.cost.params:,} | {row.cost.multiply_adds / 1e6:.0f} | {row.cost.file_bytes / 1024:.0f} | "
            f"{row.latency.median_ms:.1f} ms, {row.latency_ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


def to_dict(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Plain numbers by detector, for JSON."""
    return {
        row.name: {
            **{setting: each.value for setting, each in row.ap.items()},
            "mean_low": row.ap[MEAN].low,
            "mean_high": row.ap[MEAN].high,
            "params": row.cost.params,
            "multiply_adds": row.cost.multiply_adds,
            "file_bytes": row.cost.file_bytes,
            "latency_ms_p50": row.latency.median_ms,
            "latency_ms_min": row.latency.min_ms,
            "latency_ratio": row.latency_ratio,
        }
        for row in rows
    }
