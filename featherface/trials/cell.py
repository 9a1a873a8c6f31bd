"""One cell of a plan: train a student, judge it on the development split, keep the numbers."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from featherface.data.splits import split_dev
from featherface.data.widerface import Sample, annotation_path, open_widerface
from featherface.distillation.settling import settle_student
from featherface.distillation.student import StudentTraining
from featherface.evaluation.development import development_ground_truth
from featherface.evaluation.run import detector_for, evaluate_detector, judging_by
from featherface.files import sha256_of, write_atomically
from featherface.inference.weights import load_model, save_weights
from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.parallel import training_device
from featherface.training.detector import first_batches, fit_detector
from featherface.training.state import Checkpointing
from featherface.trials.plan import Cell

if TYPE_CHECKING:
    from featherface.models.detector import FeatherFace

RESULT = "result.json"
WEIGHTS = "student.safetensors"
PREDICTIONS = "predictions"


def run_cell(cell: Cell, *, data: Path, teacher: Path, folder: Path) -> dict[str, float]:
    """Train and judge one cell; what is finished is not done again, a killed training goes on.

    Training and judging are remembered apart: looked at in another size, a student is not trained again.

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
    known = known_metrics(cell, data=data, teacher=teacher, folder=folder)
    if known is not None:
        return known
    trained_by, result = _fingerprint_of_training(cell, data, teacher), _read_result(folder)
    rest, development = split_dev(
        open_widerface(data, "train"), fraction=cell.development.fraction, seed=cell.development.seed
    )
    if result.get("trained_by") != trained_by or not (folder / WEIGHTS).is_file():
        result = {
            "trained_by": trained_by,
            "config": cell.config.model_dump(mode="json"),
            **_train(cell, rest, teacher=teacher, folder=folder, fingerprint=trained_by),
        }
        write_atomically(folder / RESULT, json.dumps(result, indent=1).encode())
        (folder / "checkpoint.pt").unlink(missing_ok=True)
    shutil.rmtree(folder / PREDICTIONS, ignore_errors=True)  # of another split, perhaps
    settings = cell.config.evaluate.model_copy(update={"image_size": cell.development.image_size})
    report = evaluate_detector(
        detector_for(folder / WEIGHTS, settings).detect,
        development,
        ground_truth=development_ground_truth(development, scale=cell.development.scale),
        predictions_dir=folder / PREDICTIONS,
    )
    kept = {name: value for name, value in result["metrics"].items() if not name.startswith("dev/")}
    metrics = {**report.metrics("dev"), **kept}
    result |= {"judged_by": _fingerprint_of_judging(cell, trained_by), "metrics": metrics}
    write_atomically(folder / RESULT, json.dumps(result, indent=1).encode())
    return metrics


def known_metrics(cell: Cell, *, data: Path, teacher: Path, folder: Path) -> dict[str, float] | None:
    """What `run_cell` would give without work; None where something is to be done. Arguments as there."""
    judged_by = _fingerprint_of_judging(cell, _fingerprint_of_training(cell, data, teacher))
    result = _read_result(folder)
    return dict(result["metrics"]) if result.get("judged_by") == judged_by else None


def is_finished(folder: Path) -> bool:
    """Whether the cell of this folder was trained and judged."""
    return "judged_by" in _read_result(folder)


def _train(
    cell: Cell, samples: Sequence[Sample], *, teacher: Path, folder: Path, fingerprint: str
) -> dict[str, Any]:
    config, train = cell.config, cell.config.distill.train
    started = time.perf_counter()
    network = load_model(teacher)
    torch.manual_seed(train.seed)
    initial = config.distill.initial_weights
    training = StudentTraining(
        config.model,
        config.distill,
        network,
        initial=None if initial is None else load_model(initial),
        batches=partial(first_batches, samples, train=train, min_face_px=config.data.min_face_px),
        device=training_device(),
    )
    fitted = fit_detector(
        training.student,
        training.losses,
        samples,
        train=train,
        min_face_px=config.data.min_face_px,
        auxiliary=training.adapters,
        checkpointing=Checkpointing(path=folder / "checkpoint.pt", fingerprint=fingerprint),
        description=cell.label,
    )
    seconds = time.perf_counter() - started
    student = cast("FeatherFace", fitted.averaged)
    settle_student(student, config.distill)
    save_weights(
        folder / WEIGHTS,
        student,
        architecture=config.model.architecture,
        innovations=config.model.innovations,
    )
    metrics = {
        "model/params": float(count_parameters(training.student)),
        "model/multiply_adds_640": float(count_multiply_adds(training.student.cpu(), (640, 640))),
        "train/loss": fitted.history[-1]["loss"],
        "train/seconds": seconds,
    }
    return {"history": fitted.history, "metrics": metrics}


def _fingerprint_of_training(cell: Cell, data: Path, teacher: Path) -> str:
    annotations = annotation_path(data, "train")
    parts = [
        cell.config.model_dump_json(include={"data", "model", "distill"}),
        cell.development.model_dump_json(include={"fraction", "seed"}),
        sha256_of(annotations) if annotations.is_file() else "",
        sha256_of(teacher),
    ]
    if cell.config.distill.initial_weights is not None:
        parts.append(sha256_of(Path(cell.config.distill.initial_weights)))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _fingerprint_of_judging(cell: Cell, trained_by: str) -> str:
    parts = [trained_by, judging_by(cell.config.evaluate), cell.development.model_dump_json()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read_result(folder: Path) -> dict[str, Any]:
    path = folder / RESULT
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
