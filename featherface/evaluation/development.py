"""Easy, medium and hard for photographs that have no official lists: by the height of the face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from featherface.data.widerface import Sample
from featherface.evaluation.ground_truth import SETTINGS, WiderGroundTruth, image_key

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
    boxes = [sample.annotation.boxes_xywh.astype(np.float64) for sample in samples]
    boxes_xywh = np.concatenate([np.zeros((0, 4)), *boxes])
    is_invalid = np.concatenate([np.zeros(0, np.bool_), *(each.annotation.is_invalid for each in samples)])
    is_valid = ~is_invalid & (boxes_xywh[:, 2:] > 0).all(axis=1)
    heights_px = boxes_xywh[:, 3] * scale
    return WiderGroundTruth(
        names=tuple(image_key(sample.annotation.image) for sample in samples),
        boxes_xywh=boxes_xywh,
        offsets=np.concatenate([[0], np.cumsum([len(group) for group in boxes])]).astype(np.int64),
        is_counted={setting: is_valid & (heights_px >= MIN_HEIGHTS_PX[setting]) for setting in SETTINGS},
        total_images=len(samples),
    )
