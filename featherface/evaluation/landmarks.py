"""How far the five landmarks of faces that were found lie from annotated ones, or from another network's.

The normalized mean error (NME): mean distance of the five points over the root of the annotated box's area.
WIDER FACE has no landmarks on its validation photographs, so a student is compared with its teacher there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featherface.data.widerface import Sample
from featherface.evaluation.ground_truth import image_key
from featherface.evaluation.slices import HEIGHTS_PX, MIN_FACES, height_slices
from featherface.inference.overlap import box_iou, xywh_to_xyxy

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    Landmarks = tuple[npt.NDArray[np.bool_], FloatArray]

MIN_OVERLAP = 0.5


def landmark_errors(
    samples: Sequence[Sample],
    predictions: Mapping[str, FloatArray],
    landmarks: Mapping[str, FloatArray],
    *,
    reference: tuple[Mapping[str, FloatArray], Mapping[str, FloatArray]] | None = None,
) -> dict[str, float]:
    """NME over all faces that were found, and for each slice by height with enough of them.

    A face counts if a detection overlaps it by 0.5 or more; of several the one that overlaps it most speaks
    for it.

    Args:
        samples: the photographs.
        predictions: for each image (N, 5) x, y, width, height in pixels, score.
        landmarks: for each image the (N, 5, 2) points of these.
        reference: predictions and landmarks of the network to compare with; None: annotated landmarks.

    Returns:
        `nme`, `nme_height_16_32` and so on, as fractions of the box; empty where no face can be compared.
    """
    errors, heights_px = [np.zeros(0)], [np.zeros(0)]
    for sample in samples:
        name, annotation = image_key(sample.annotation.image), sample.annotation
        boxes_xywh = annotation.boxes_xywh.astype(np.float64)
        is_counted = ~annotation.is_invalid & (boxes_xywh[:, 2] > 0) & (boxes_xywh[:, 3] >= HEIGHTS_PX[0])
        is_found, points = _points_of(boxes_xywh, predictions[name], landmarks[name])
        if reference is None:
            is_known, truth = annotation.has_landmarks, annotation.landmarks_xy.astype(np.float64)
        else:
            is_known, truth = _points_of(boxes_xywh, reference[0][name], reference[1][name])
        compared = is_counted & is_found & is_known
        distances = np.linalg.norm(points[compared] - truth[compared], axis=2).mean(axis=1)
        sizes_px = boxes_xywh[compared, 2:]
        errors.append(distances / np.sqrt(sizes_px.prod(axis=1)))
        heights_px.append(sizes_px[:, 1])
    error, height_px = np.concatenate(errors), np.concatenate(heights_px)
    groups = {"nme": np.ones(len(error), np.bool_)} | {
        f"nme_{name}": is_in_slice for name, is_in_slice in height_slices(height_px).items()
    }
    return {
        name: float(error[is_in_group].mean())
        for name, is_in_group in groups.items()
        if np.count_nonzero(is_in_group) >= MIN_FACES
    }


def _points_of(boxes_xywh: FloatArray, rows: FloatArray, points: FloatArray) -> Landmarks:
    """(G,) whether a face was found, and (G, 5, 2) the points of the detection that overlaps it most."""
    if not len(rows) or not len(boxes_xywh):
        return np.zeros(len(boxes_xywh), np.bool_), np.zeros((len(boxes_xywh), 5, 2))
    overlap = box_iou(xywh_to_xyxy(boxes_xywh), xywh_to_xyxy(rows[:, :4]))  # (G, N)
    best = overlap.argmax(axis=1)
    return overlap.max(axis=1) >= MIN_OVERLAP, points[best].astype(np.float64)
