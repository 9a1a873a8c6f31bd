"""Average precision by what a face is like: its height, blur, occlusion, pose, expression and light.

A slice counts its own faces; detections of other faces are neither right nor wrong, as in the official
protocol. False detections have no attribute and count in every slice, so a slice with few faces comes out
low: compare networks within a slice, not slices with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherface.data.widerface import Sample
from featherface.evaluation.annotated import AnnotatedFaces, annotated_faces
from featherface.evaluation.ground_truth import WiderGroundTruth
from featherface.evaluation.widerface import judge

if TYPE_CHECKING:
    import numpy.typing as npt

HEIGHTS_PX = (10, 16, 32, 64, 128)
"""Borders between the slices by height; smaller faces count nowhere in the benchmark."""
LEVELS: Mapping[str, tuple[str, ...]] = {
    "blur": ("clear", "normal", "heavy"),
    "occlusion": ("none", "partial", "heavy"),
    "pose": ("typical", "atypical"),
    "expression": ("typical", "exaggerated"),
    "illumination": ("normal", "extreme"),
}
"""What the values 0, 1, 2 of the benchmark's attributes mean."""
MIN_FACES = 10
"""Slices of fewer faces are left out: their numbers would be noise."""


@dataclass(frozen=True)
class Slice:
    """One group of faces and how well it is found."""

    name: str
    """Such as `height_16_32` (px, upper border excluded) or `blur_heavy`."""
    faces: int
    average_precision: float
    """In [0, 1], at an overlap of 0.5."""
    recall: float
    """Of all detections, whatever their score, in [0, 1]."""


def slices(
    predictions: Mapping[str, npt.NDArray[np.floating]], samples: Sequence[Sample]
) -> tuple[Slice, ...]:
    """Judge each slice that has enough faces.

    Args:
        predictions: for each image `<event>/<image>` (N, 5) x, y, width, height, score.
        samples: the photographs that were looked at.

    Raises:
        DataError: predictions of another shape, or of none of the photographs.
    """
    faces = annotated_faces(samples)
    judgement = judge(
        predictions,
        WiderGroundTruth(
            names=faces.names,
            boxes_xywh=faces.boxes_xywh,
            offsets=faces.offsets,
            is_counted={},
            total_images=len(samples),
        ),
    )
    found = []
    for name, is_in_slice in _groups(faces).items():
        is_counted = faces.is_valid & is_in_slice
        num_faces = int(np.count_nonzero(is_counted))
        if num_faces < MIN_FACES:
            continue
        curve = judgement.curve(is_counted)
        found.append(Slice(name, num_faces, curve.average_precision, float(curve.recall.max())))
    return tuple(found)


def height_slices(heights_px: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.bool_]]:
    """For each slice by height which of the faces belong to it."""
    borders: list[float] = [*HEIGHTS_PX, np.inf]
    return {
        f"height_{low}_{high if np.isfinite(high) else 'up'}": (heights_px >= low) & (heights_px < high)
        for low, high in zip(HEIGHTS_PX, borders[1:], strict=True)
    }


def _groups(faces: AnnotatedFaces) -> dict[str, npt.NDArray[np.bool_]]:
    heights_px = faces.boxes_xywh[:, 3]
    groups = height_slices(heights_px)
    is_large_enough = heights_px >= HEIGHTS_PX[0]
    for attribute, levels in LEVELS.items():
        values = faces.attribute(attribute)
        groups |= {
            f"{attribute}_{level}": is_large_enough & (values == value) for value, level in enumerate(levels)
        }
    return groups
