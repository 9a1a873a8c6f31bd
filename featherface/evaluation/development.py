"""Easy, medium and hard for photographs that have no official lists: by the height of the face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from featherface.data.widerface import Sample
from featherface.evaluation.annotated import annotated_faces
from featherface.evaluation.ground_truth import SETTINGS, WiderGroundTruth

MIN_HEIGHTS_PX: Mapping[str, float] = {"easy": 50.0, "medium": 30.0, "hard": 10.0}
"""Heights that come near the official levels, which are made of what a detector of objects found easy."""


def development_ground_truth(samples: Sequence[Sample], *, scale: float = 1.0) -> WiderGroundTruth:
    """Ground truth of a development split, for the official protocol.

    Faces flagged invalid or without area belong to no level: like the official lists' other faces they
    neither count nor punish.

    Args:
        samples: annotated photographs.
        scale: pixels of the benchmark's photographs over pixels of these, which may be stored smaller.
    """
    faces = annotated_faces(samples)
    heights_px = faces.boxes_xywh[:, 3] * scale
    return WiderGroundTruth(
        names=faces.names,
        boxes_xywh=faces.boxes_xywh,
        offsets=faces.offsets,
        is_counted={
            setting: faces.is_valid & (heights_px >= MIN_HEIGHTS_PX[setting]) for setting in SETTINGS
        },
        total_images=len(samples),
    )
