"""The validation photographs, looked at once by every network of a ledger, after all choices are made."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from featherface.claims.statistics import NUM_DRAWS, Score
from featherface.config import EvaluateConfig
from featherface.data.widerface import GROUND_TRUTH_DIR, open_widerface
from featherface.errors import DataError
from featherface.evaluation.bootstrap import MEAN, ap_draws
from featherface.evaluation.ground_truth import (
    SETTINGS,
    WiderGroundTruth,
    image_key,
    load_ground_truth,
    restrict,
)
from featherface.evaluation.predictions import read_predictions
from featherface.evaluation.run import detector_for, evaluate_dataset, judging_by
from featherface.files import sha256_of, write_atomically

PREDICTIONS = "validation"
SUMMARY = "validation.json"


def judge_on_validation(
    weights: Path, settings: EvaluateConfig, *, data: Path, folder: Path
) -> dict[str, float]:
    """Save what a network finds in the validation photographs; a finished one is not asked about them again.

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
    photographs = validation_ground_truth(data)
    known = known_judgement(weights, settings, photographs=photographs, folder=folder)
    if known is not None:
        return known
    fingerprint = _fingerprint(weights, settings, photographs)  # before the hours that it takes
    shutil.rmtree(folder / PREDICTIONS, ignore_errors=True)  # of other photographs, perhaps
    report = evaluate_dataset(
        detector_for(weights, settings).detect, data, predictions_dir=folder / PREDICTIONS
    )
    metrics = report.metrics("val")
    content = {"fingerprint": fingerprint, "metrics": metrics}
    write_atomically(folder / SUMMARY, json.dumps(content, indent=1).encode())
    return metrics


def known_judgement(
    weights: Path, settings: EvaluateConfig, *, photographs: WiderGroundTruth | None, folder: Path
) -> dict[str, float] | None:
    """What `judge_on_validation` would give without looking; None where it has to look.

    Args:
        weights: as there.
        settings: as there.
        photographs: of `validation_ground_truth`.
        folder: as there.
    """
    summary = folder / SUMMARY
    if not (summary.is_file() and weights.is_file()):
        return None
    known = json.loads(summary.read_text(encoding="utf-8"))
    is_same = known["fingerprint"] == _fingerprint(weights, settings, photographs)
    return dict(known["metrics"]) if is_same else None


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
    predictions = read_predictions(folder / PREDICTIONS)
    if missing := set(ground_truth.names) - set(predictions):
        raise DataError(
            f"{folder / PREDICTIONS}: lacks {len(missing)} of {len(ground_truth.names)} photographs, "
            f"{min(missing)} among them; delete {folder / SUMMARY} and run again"
        )
    values, draws = ap_draws(predictions, ground_truth, num_draws=NUM_DRAWS)
    return Score(values[MEAN], draws[MEAN])


def _fingerprint(weights: Path, settings: EvaluateConfig, photographs: WiderGroundTruth | None) -> list[str]:
    return [sha256_of(weights), judging_by(settings), _digest_of(photographs)]


def _digest_of(ground_truth: WiderGroundTruth | None) -> str:
    """Which photographs were looked at, and which of their faces count."""
    if ground_truth is None:
        return ""
    digest = hashlib.sha256(json.dumps(ground_truth.names).encode())
    masks = [ground_truth.is_counted[setting] for setting in SETTINGS]
    for part in (ground_truth.boxes_xywh, ground_truth.offsets, *masks):
        digest.update(part.tobytes())
    return digest.hexdigest()
