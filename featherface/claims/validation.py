"""The validation photographs, looked at once by every network of a ledger, after all choices are made."""

from __future__ import annotations

import json
from pathlib import Path

from featherface.claims.statistics import NUM_DRAWS, Score
from featherface.config import EvaluateConfig
from featherface.data.widerface import GROUND_TRUTH_DIR, open_widerface
from featherface.errors import DataError
from featherface.evaluation.bootstrap import MEAN, ap_draws
from featherface.evaluation.ground_truth import WiderGroundTruth, image_key, load_ground_truth, restrict
from featherface.evaluation.predictions import read_predictions
from featherface.evaluation.run import detector_for, evaluate_dataset, judging_by
from featherface.files import sha256_of, write_atomically

PREDICTIONS = "validation"
SUMMARY = "validation.json"


def judge_on_validation(
    weights: Path, settings: EvaluateConfig, *, data: Path, folder: Path
) -> dict[str, float]:
    """Save what a network finds in the validation photographs; a finished one is not asked again.

    Args:
        weights: a model file.
        settings: thresholds and image size.
        data: a data set in WIDER FACE layout, with official ground truth.
        folder: gets the predictions, and `validation.json` when they are whole.

    Returns:
        Metrics: `val/ap_easy` to `val/ap_mean` and others.

    Raises:
        DataError: the data set cannot be used.
        ModelError: the weights cannot be used.
    """
    fingerprint = [sha256_of(weights), judging_by(settings)]
    summary = folder / SUMMARY
    if summary.is_file():
        known = json.loads(summary.read_text(encoding="utf-8"))
        if known["fingerprint"] == fingerprint:
            return dict(known["metrics"])
    report = evaluate_dataset(
        detector_for(weights, settings).detect, data, predictions_dir=folder / PREDICTIONS
    )
    metrics = report.metrics("val")
    content = {"fingerprint": fingerprint, "metrics": metrics}
    write_atomically(summary, json.dumps(content, indent=1).encode())
    return metrics


def validation_ground_truth(data: Path) -> WiderGroundTruth | None:
    """The official ground truth of the validation photographs that are there; None where there are none."""
    if not (data / GROUND_TRUTH_DIR).is_dir():
        return None
    try:
        samples = open_widerface(data, "val", missing="skip")
    except DataError:
        return None
    names = [image_key(sample.annotation.image) for sample in samples]
    return restrict(load_ground_truth(data / GROUND_TRUTH_DIR), names)


def read_validation_score(folder: Path, ground_truth: WiderGroundTruth) -> Score:
    """Mean AP of a network that `judge_on_validation` has judged, on all photographs and on draws of them.

    Raises:
        DataError: the predictions are not those of these photographs.
    """
    values, draws = ap_draws(read_predictions(folder / PREDICTIONS), ground_truth, num_draws=NUM_DRAWS)
    return Score(values[MEAN], draws[MEAN])
