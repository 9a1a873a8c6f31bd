"""Cutouts of the worst faults: the largest faces that were missed, and the surest detections of no face.

Nothing is decided here: what is missed and what is imagined are the verdicts of `error_types`, at the
recommended threshold. `sheets.draw_sheet` draws the cutouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featherface.data.widerface import Sample
from featherface.evaluation.analysis import Analysis
from featherface.evaluation.error_types import classify
from featherface.evaluation.ground_truth import WiderGroundTruth, image_key
from featherface.evaluation.sheets import SheetItem
from featherface.imaging import RgbImage, read_image

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    IntArray = npt.NDArray[np.int64]

CUTOUTS = 24
# Side of a cutout over the face's longer one, and its least length: what is around a face tells what it is.
_MARGIN, _MIN_SIDE_PX = 4.0, 120.0


@dataclass(frozen=True, eq=False)
class Judged:
    """Photographs with what was found on them and how it was judged."""

    analysis: Analysis
    """Of the next two."""
    predictions: Mapping[str, FloatArray]
    """For each image (N, 5) x, y, width, height, score."""
    ground_truth: WiderGroundTruth
    samples: Sequence[Sample]


def worst_misses(judged: Judged, *, limit: int = CUTOUTS) -> list[SheetItem]:
    """Cutouts around missed faces, the largest first, at most one of an image.

    Args:
        judged: photographs and verdicts.
        limit: at most so many.
    """
    truth = judged.ground_truth
    verdicts = classify(judged.analysis.evidence, judged.analysis.threshold)
    missed = np.flatnonzero(verdicts.is_missed)
    image_idx = np.repeat(np.arange(len(truth.names)), np.diff(truth.offsets))[missed]
    boxes = truth.boxes_xywh[missed]
    order = _one_of_each(np.argsort(-boxes[:, 3], kind="stable"), image_idx)[:limit]
    return [
        _cut_out(judged, truth.names[image_idx[i]], boxes[i], f"missed, {boxes[i, 3]:.0f} px high")
        for i in order
    ]


def surest_false(judged: Judged, *, limit: int = CUTOUTS) -> list[SheetItem]:
    """Cutouts around detections where no face is annotated, the surest first, at most one of an image.

    Args:
        judged: as of `worst_misses`, like the other.
        limit: see there.
    """
    names, hits = judged.ground_truth.names, judged.analysis.evidence.hits
    verdicts = classify(judged.analysis.evidence, judged.analysis.threshold)
    rows = np.concatenate([np.empty((0, 5)), *(_rows(judged, name) for name in names)])
    rows, image_idx = rows[verdicts.is_background], hits.image_idx[verdicts.is_background]
    order = _one_of_each(np.argsort(-rows[:, 4], kind="stable"), image_idx)[:limit]
    return [
        _cut_out(
            judged, names[image_idx[i]], rows[i, :4], f"score {rows[i, 4]:.2f}, {rows[i, 3]:.0f} px high"
        )
        for i in order
    ]


def _one_of_each(order: IntArray, image_idx: IntArray) -> list[int]:
    """Of each image what comes first in the order."""
    _, first = np.unique(image_idx[order], return_index=True)
    kept: list[int] = order[np.sort(first)].tolist()
    return kept


def _cut_out(judged: Judged, name: str, box_xywh: FloatArray, fault: str) -> SheetItem:
    """The surroundings of a box, with the faces and detections whose centers are in it."""
    truth, number = judged.ground_truth, judged.ground_truth.names.index(name)
    own = slice(*truth.offsets[number : number + 2].tolist())
    side_px = max(_MARGIN * box_xywh[2:].max(), _MIN_SIDE_PX)
    low = (box_xywh[:2] + box_xywh[2:] / 2 - side_px / 2).clip(0).round()
    faces, rows = truth.boxes_xywh[own], _rows(judged, name)
    is_face_inside, is_row_inside = (_is_inside(each, low, side_px) for each in (faces, rows))
    return SheetItem(
        name=name,
        load=lambda: _read_part(_path_of(judged.samples, name), low, side_px),
        gt_boxes_xywh=_moved(faces[is_face_inside], low),
        rows=_moved(rows[is_row_inside], low),
        is_ignored=~judged.analysis.evidence.is_counted[own][is_face_inside],
        caption=f"{fault}   {name.rpartition('/')[2]}",
    )


def _rows(judged: Judged, name: str) -> FloatArray:
    return np.asarray(judged.predictions.get(name, ()), dtype=np.float64).reshape(-1, 5)


def _is_inside(boxes: FloatArray, low: FloatArray, side_px: float) -> npt.NDArray[np.bool_]:
    center = boxes[:, :2] + boxes[:, 2:4] / 2 - low
    return np.asarray(((center >= 0) & (center <= side_px)).all(axis=1))


def _moved(boxes: FloatArray, low: FloatArray) -> FloatArray:
    moved = boxes.copy()
    moved[:, :2] -= low
    return moved


def _path_of(samples: Sequence[Sample], name: str) -> Path:
    return next(sample.path for sample in samples if image_key(sample.annotation.image) == name)


def _read_part(path: Path, low: FloatArray, side_px: float) -> RgbImage:
    x, y = low.astype(int).tolist()
    end = round(side_px)  # an image that ends sooner just gives less
    return read_image(path)[y : y + end, x : x + end]
