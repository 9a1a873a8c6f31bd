"""The WIDER FACE protocol as its description reads, one detection after another: slow, plain, no test itself.

Shares no code with `featherface.evaluation.widerface`; `benchmarks/bench_score.py` also measures against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

Box = Sequence[float]


def inclusive_iou(first: Box, second: Box) -> float:
    """IoU of two x y w h boxes whose last pixel belongs to them."""
    ax2, ay2 = first[0] + first[2], first[1] + first[3]
    bx2, by2 = second[0] + second[2], second[1] + second[3]
    width = min(ax2, bx2) - max(first[0], second[0]) + 1
    height = min(ay2, by2) - max(first[1], second[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area_a = (ax2 - first[0] + 1) * (ay2 - first[1] + 1)
    area_b = (bx2 - second[0] + 1) * (by2 - second[1] + 1)
    return width * height / (area_a + area_b - width * height)


def walk_image(
    rows: Sequence[Box], faces: Sequence[Box], counted: set[int], iou_threshold: float
) -> list[tuple[float, bool, bool]]:
    """Score, "is a proposal" and "finds a new face" of each detection of one image, best first."""
    found: set[int] = set()
    story = []
    for row in sorted(rows, key=lambda row: -row[4]):
        overlaps = [inclusive_iou(row[:4], face) for face in faces]
        best = max(range(len(faces)), key=overlaps.__getitem__)  # the first of equals
        is_proposal, is_new = True, False
        if overlaps[best] >= iou_threshold:
            if best not in counted:
                is_proposal = False
            elif best not in found:
                found.add(best)
                is_new = True
        story.append((row[4], is_proposal, is_new))
    return story


def slow_average_precision(
    predictions: Mapping[str, np.ndarray],
    faces: Mapping[str, np.ndarray],
    counted: Mapping[str, set[int]],
    iou_threshold: float = 0.5,
) -> float:
    """AP of one setting, given the zero-based positions of the faces that it counts in each image."""
    scores = [row[4] for rows in predictions.values() for row in rows.tolist()]
    if not scores:
        return 0.0
    low, high = min(scores), max(scores)
    num_faces = sum(len(positions) for positions in counted.values())
    num_proposals, num_found = [0] * 1000, [0] * 1000
    thresholds = [1 - (step + 1) / 1000 for step in range(1000)]
    for name, image_faces in faces.items():
        rows = predictions[name].tolist()
        if not rows or len(image_faces) == 0:
            continue
        story = walk_image(rows, image_faces.tolist(), counted[name], iou_threshold)
        for step, threshold in enumerate(thresholds):
            for score, is_proposal, is_new in story:
                if (score - low) / (high - low) < threshold:
                    break
                num_proposals[step] += is_proposal
                num_found[step] += is_new
    if num_faces == 0:
        return 0.0
    recall = [0.0, *(found / num_faces for found in num_found), 1.0]
    precision = [
        0.0,
        *(found / all_ if all_ else 0.0 for found, all_ in zip(num_found, num_proposals, strict=True)),
        0.0,
    ]
    for i in range(len(precision) - 1, 0, -1):
        precision[i - 1] = max(precision[i - 1], precision[i])
    return math.fsum((recall[i + 1] - recall[i]) * precision[i + 1] for i in range(len(recall) - 1))
