"""One cell of a plan: train a student, judge it on the development split, keep the numbers."""

from __future__ import annotations

import hashlib
import json
import time
from functools import partial
from pathlib import Path

import torch

from featherface.data.splits import split_dev
from featherface.data.widerface import open_widerface
from featherface.distillation.student import StudentTraining
from featherface.evaluation.development import development_ground_truth
from featherface.evaluation.run import detector_for, evaluate_detector
from featherface.files import sha256_of, write_atomically
from featherface.inference.weights import load_model, save_weights
from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.parallel import training_device
from featherface.training.detector import first_batches, fit_detector
from featherface.training.state import Checkpointing
from featherface.trials.plan import Cell

RESULT = "result.json"
WEIGHTS = "student.safetensors"
PREDICTIONS = "predictions"


def run_cell(cell: Cell, *, data: Path, teacher: Path, folder: Path) -> dict[str, float]:
    """Train and judge one cell; a finished one is not run again, a killed one goes on.

    Args:
        cell: what to train.
        data: a data set in WIDER FACE layout.
        teacher: its weights.
        folder: of this cell: gets `result.json`, weights, predictions, and a checkpoint while it trains.

    Returns:
        Metrics: `dev/ap_easy` to `dev/ap_mean`, `model/params`, `train/loss`, `train/seconds` and others.

    Raises:
        DataError: the data set cannot be used.
        ModelError: the teacher's weights cannot be used.
    """
    fingerprint = _fingerprint(cell, data, teacher)
    known = _read_result(folder, fingerprint)
    if known is not None:
        return known
    config, train = cell.config, cell.config.distill.train
    rest, development = split_dev(
        open_widerface(data, "train"), fraction=cell.development.fraction, seed=cell.development.seed
    )
    started = time.perf_counter()
    network = load_model(teacher)
    torch.manual_seed(train.seed)
    initial = config.distill.initial_weights
    training = StudentTraining(
        config.model,
        config.distill,
        network,
        initial=None if initial is None else load_model(initial),
        batches=partial(first_batches, rest, train=train, min_face_px=config.data.min_face_px),
        device=training_device(),
    )
    fitted = fit_detector(
        training.student,
        training.losses,
        rest,
        train=train,
        min_face_px=config.data.min_face_px,
        auxiliary=training.adapters,
        checkpointing=Checkpointing(path=folder / "checkpoint.pt", fingerprint=fingerprint),
        description=cell.label,
    )
    seconds = time.perf_counter() - started
    save_weights(
        folder / WEIGHTS,
        fitted.averaged,
        architecture=config.model.architecture,
        innovations=config.model.innovations,
    )
    settings = config.evaluate.model_copy(update={"image_size": cell.development.image_size})
    report = evaluate_detector(
        detector_for(folder / WEIGHTS, settings).detect,
        development,
        ground_truth=development_ground_truth(development, scale=cell.development.scale),
        predictions_dir=folder / PREDICTIONS,
    )
    metrics = {
        **report.metrics("dev"),
        "model/params": float(count_parameters(training.student)),
        "model/multiply_adds_640": float(count_multiply_adds(training.student.cpu(), (640, 640))),
        "train/loss": fitted.history[-1]["loss"],
        "train/seconds": seconds,
    }
    result = {
        "fingerprint": fingerprint,
        "config": config.model_dump(mode="json"),
        "history": fitted.history,
        "metrics": metrics,
    }
    write_atomically(folder / RESULT, json.dumps(result, indent=1).encode())
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return metrics


def _fingerprint(cell: Cell, data: Path, teacher: Path) -> str:
    annotations = data / "wider_face_split" / "wider_face_train_bbx_gt.txt"
    parts = [
        cell.config.model_dump_json(include={"data", "model", "distill", "evaluate"}),
        cell.development.model_dump_json(),
        sha256_of(annotations) if annotations.is_file() else "",
        sha256_of(teacher),
    ]
    if cell.config.distill.initial_weights is not None:
        parts.append(sha256_of(Path(cell.config.distill.initial_weights)))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read_result(folder: Path, fingerprint: str) -> dict[str, float] | None:
    path = folder / RESULT
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    return dict(result["metrics"]) if result["fingerprint"] == fingerprint else None
