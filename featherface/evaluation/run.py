"""Run a detector over an annotated split and judge it by both protocols.

The detector is any function from an RGB image to `Detections`; files are read one image ahead. Nothing here
plots, tracks or decides.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from tqdm import tqdm

from featherface.config import EvaluateConfig
from featherface.data.reading import read_ahead
from featherface.data.widerface import GROUND_TRUTH_DIR, Sample, Split, open_widerface
from featherface.errors import DataError, OptionError
from featherface.evaluation.predictions import check_folder, to_rows, write_predictions
from featherface.evaluation.report import EvaluationReport
from featherface.evaluation.slices import slices
from featherface.evaluation.views import SINGLE_SCALE, Views
from featherface.evaluation.widerface import (
    WiderGroundTruth,
    average_precision,
    image_key,
    load_ground_truth,
    restrict,
)
from featherface.inference.detector import FaceDetector
from featherface.inference.votes import VOTE_RULE

if TYPE_CHECKING:
    import numpy.typing as npt

    from featherface.evaluation.coco import FaceAveragePrecision
    from featherface.structures import Detections

    RgbImage = npt.NDArray[np.uint8]
    Detect = Callable[[RgbImage], Detections]


def detector_for(model: str | Path | None, settings: EvaluateConfig) -> FaceDetector:
    """A detector with the thresholds, limits and image size by which models are judged.

    Raises:
        ModelError: the model cannot be used.
    """
    return FaceDetector(
        model,
        score_threshold=settings.score_threshold,
        iou_threshold=settings.iou_threshold,
        max_faces=settings.max_faces,
        image_size=settings.image_size,
        num_threads=settings.num_threads,
    )


def judging_by(settings: EvaluateConfig) -> str:
    """Digest of what a judgement depends on beside model and data: tells whether a remembered one holds."""
    rules = json.dumps([settings.model_dump_json(exclude={"num_threads"}), VOTE_RULE])
    return hashlib.sha256(rules.encode()).hexdigest()


def evaluate_model_file(
    model: str | None,
    root: Path,
    *,
    split: str = "val",
    settings: EvaluateConfig | None = None,
    flip: bool = False,
    scales: Sequence[float] = SINGLE_SCALE.scales,
    save_predictions: Path | None = None,
    coco: bool = True,
) -> EvaluationReport:
    """Judge a model file on a data set in WIDER FACE layout, single scale unless it is told otherwise.

    Args:
        model: as of `FaceDetector`.
        root: the data set.
        split: `val` or `train`.
        settings: thresholds and image size.
        flip: look at the mirror image too; the report names it, like the next.
        scales: look at the image at these, over its own size.
        save_predictions: where the predictions go in the benchmark's text format.
        coco: see `evaluate_dataset`.

    Raises:
        ModelError: the model cannot be used.
        DataError: the data set cannot be used.
        OptionError: there is no such split, or a scale is out of range.
    """
    if split not in ("train", "val"):
        raise OptionError(f"split '{split}': allowed are train, val")
    settings = settings or EvaluateConfig()
    views = Views(flip, tuple(scales), iou_threshold=settings.iou_threshold, max_faces=settings.max_faces)
    return evaluate_dataset(
        detector_for(model, settings).detect,
        root,
        split=cast("Split", split),
        views=views,
        predictions_dir=save_predictions,
        coco=coco,
    )


def evaluate_dataset(
    detect: Detect,
    root: Path | str,
    *,
    split: Split = "val",
    views: Views = SINGLE_SCALE,
    predictions_dir: Path | str | None = None,
    max_detections: int = 1000,
    coco: bool = True,
    show_progress: bool | None = None,
) -> EvaluationReport:
    """Judge a detector on a split of a folder in WIDER FACE layout.

    Annotated images that are not there are left out, and the ground truth is restricted to the others.

    Args:
        detect: RGB (H, W, 3) uint8 image to detections in its pixels; its score threshold should be low.
        root: the data set; its `ground_truth` folder is used for `val` if there is one.
        split: `val` or `train`; the latter has no official ground truth, so only COCO's numbers.
        views: how often the detector looks at an image.
        predictions_dir: where to save the detections in the benchmark's format; None: nowhere.
        max_detections: best detections of an image that COCO's protocol judges.
        coco: judge by COCO's protocol as well, which imports torch and torchmetrics (some seconds).
        show_progress: a bar on stderr; None: only if that is a terminal.

    Raises:
        DataError: the data set or its ground truth cannot be used, or the predictions cannot be written.
    """
    samples = open_widerface(root, split, missing="skip")
    ground_truth_dir = Path(root) / GROUND_TRUTH_DIR
    ground_truth = None
    if split == "val" and ground_truth_dir.is_dir():
        ground_truth = load_ground_truth(ground_truth_dir)
    return evaluate_detector(
        detect,
        samples,
        ground_truth=ground_truth,
        views=views,
        predictions_dir=predictions_dir,
        max_detections=max_detections,
        coco=coco,
        show_progress=show_progress,
    )


def evaluate_detector(
    detect: Detect,
    samples: Sequence[Sample],
    *,
    ground_truth: WiderGroundTruth | None,
    views: Views = SINGLE_SCALE,
    predictions_dir: Path | str | None = None,
    max_detections: int = 1000,
    coco: bool = True,
    show_progress: bool | None = None,
) -> EvaluationReport:
    """Judge a detector on annotated images.

    COCO's numbers come from the annotations of the samples (faces flagged invalid or without area are
    ignored), WIDER FACE's from the ground truth, restricted to the samples.

    Args:
        detect: RGB (H, W, 3) uint8 image to detections in its pixels.
        samples: annotated image files; each image once.
        ground_truth: official ground truth that holds all samples, or None: then COCO's numbers only.
        views: as in `evaluate_dataset`, like the arguments after it.
        predictions_dir: see there.
        max_detections: see there.
        coco: see there.
        show_progress: see there.

    Raises:
        DataError: an image is listed twice, cannot be decoded, or is not in the ground truth.
    """
    names = [image_key(sample.annotation.image) for sample in samples]
    if len(set(names)) != len(names):
        raise DataError("some images are listed twice; each must be judged once")
    if ground_truth is not None:
        ground_truth = restrict(ground_truth, names)  # before the long run, so that a misfit is told at once
    detect = views.wrap(detect)
    if predictions_dir is not None:
        check_folder(Path(predictions_dir), names)
    metric = _coco_metric(max_detections) if coco else None
    predictions: dict[str, npt.NDArray[np.float64]] = {}
    landmarks: dict[str, npt.NDArray[np.float64]] = {}
    times_ms: list[float] = []
    num_faces = 0
    hide = not (sys.stderr.isatty() if show_progress is None else show_progress)
    images = tqdm(read_ahead(samples), total=len(samples), desc="evaluate", unit="image", disable=hide)
    for name, sample, image in zip(names, samples, images, strict=True):
        start = time.perf_counter()
        detections = detect(image)
        times_ms.append(1000 * (time.perf_counter() - start))
        predictions[name] = to_rows(detections)
        landmarks[name] = detections.landmarks_xy.astype(np.float64)
        is_ignored = ignored_faces(sample)
        num_faces += int(np.count_nonzero(~is_ignored))
        if metric is not None:
            metric.update(predictions[name], sample.annotation.boxes_xywh, is_ignored)
    if predictions_dir is not None:
        testing = None if views.is_plain else str(views)
        write_predictions(predictions_dir, predictions, testing=testing)
    values = metric.compute() if metric is not None and samples else {}
    return EvaluationReport(
        wider=None if ground_truth is None else average_precision(predictions, ground_truth),
        coco={name: float(value) for name, value in values.items() if value >= 0},
        images=len(samples),
        faces=num_faces,
        detections=sum(len(rows) for rows in predictions.values()),
        detect_ms_p50=statistics.median(times_ms) if times_ms else 0.0,
        predictions=predictions,
        landmarks=landmarks,
        slices=slices(predictions, samples) if samples else (),
        views=views,
    )


def _coco_metric(max_detections: int) -> FaceAveragePrecision:
    from featherface.evaluation.coco import FaceAveragePrecision  # 3 s of imports

    return FaceAveragePrecision(max_detections=max_detections)


def ignored_faces(sample: Sample) -> npt.NDArray[np.bool_]:
    """(G,) faces that COCO's protocol neither asks for nor punishes: flagged invalid, or without area."""
    annotation = sample.annotation
    return np.asarray(annotation.is_invalid | (annotation.boxes_xywh[:, 2:] <= 0).any(axis=1))
