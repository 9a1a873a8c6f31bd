"""From what a network says of every prior to the faces of one image; numpy only.

The threshold comes first: of the 16,800 priors of a 640 px image some dozen pass it, and only those are
decoded and compared. Nothing here knows of files, images or backends.

Dimensions: `P` priors, `M` candidates above the threshold, `N` faces that remain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featherface.inference.model_info import VARIANCES
from featherface.structures import Detections

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

# Both as in `geometry`: exp() of a wild network must stay finite, and a union of zero must not divide.
_MAX_LOG_SIDE = 10.0
_TINY = float(np.finfo(np.float32).tiny)
# Candidates compared with each other at a time. Among 8,000 of a crowd 32 took half the time of 128 (more
# work for boxes that a better one removes anyway) and of single ones (as many numpy calls as faces).
_BLOCK = 32
# Of the picture's long side: faces from here on are close-ups.
_CLOSE_UP_FRACTION = 0.25


def postprocess(
    cls_logits: Floats,
    box_deltas: Floats,
    landmark_deltas: Floats,
    priors_cxcywh: Floats,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_faces: int,
) -> Detections:
    """The faces of one image, best first, in the pixels of the priors; none is an empty result.

    Priors for which the network says anything but finite numbers are dropped.

    Args:
        cls_logits: (P, 2) background, face.
        box_deltas: (P, 4), encoded as in `geometry.encode_boxes`.
        landmark_deltas: (P, 10), encoded as in `geometry.encode_landmarks`.
        priors_cxcywh: (P, 4) pixels, from `models.priors.make_priors`.
        score_threshold: keep scores above it.
        iou_threshold: of two boxes that overlap more, the one with the lower score goes.
        max_faces: at most so many of the best are returned.
    """
    scores = face_scores(cls_logits)
    candidate_idx = np.flatnonzero(scores > score_threshold)
    boxes = decode_boxes(box_deltas[candidate_idx], priors_cxcywh[candidate_idx])  # (M, 4)
    landmarks = decode_landmarks(landmark_deltas[candidate_idx], priors_cxcywh[candidate_idx])  # (M, 5, 2)
    is_finite = np.isfinite(boxes).all(axis=1) & np.isfinite(landmarks).all(axis=(1, 2))
    boxes, landmarks, scores = boxes[is_finite], landmarks[is_finite], scores[candidate_idx[is_finite]]
    kept_idx = non_maximum_suppression(boxes, scores, iou_threshold=iou_threshold, max_faces=max_faces)
    return Detections(boxes[kept_idx], scores[kept_idx], landmarks[kept_idx])


def merge_close_ups(found: Detections, again: Detections, *, long_side_px: int, max_faces: int) -> Detections:
    """The faces of a picture with the large ones of a second look at a small copy of it, best first.

    What the first look saw inside such a face is dropped: its parts, or the same face once more.

    Args:
        found: by the first look, in pixels of the picture.
        again: by the second one, in the same pixels; its small faces are left to the first one.
        long_side_px: of the picture.
        max_faces: at most so many of the best are returned.
    """
    sides = again.boxes_xyxy[:, 2:] - again.boxes_xyxy[:, :2]
    is_large = sides.max(axis=1, initial=0) >= _CLOSE_UP_FRACTION * long_side_px
    large = again.boxes_xyxy[is_large]
    shared = _intersection(found.boxes_xyxy, large)  # (N, M)
    is_inside = (shared > 0.5 * _area(found.boxes_xyxy)[:, None]).any(axis=1)
    boxes = np.concatenate((found.boxes_xyxy[~is_inside], large))
    scores = np.concatenate((found.scores[~is_inside], again.scores[is_large]))
    landmarks = np.concatenate((found.landmarks_xy[~is_inside], again.landmarks_xy[is_large]))
    order = np.argsort(-scores, kind="stable")[:max_faces]
    return Detections(boxes[order], scores[order], landmarks[order])


def face_scores(cls_logits: Floats) -> Floats:
    """Probability of a face (P,) of logits (P, 2): a softmax over two is the sigmoid of their difference."""
    with np.errstate(over="ignore", invalid="ignore"):  # exp(-x) = inf is the score 0 that is meant
        scores: Floats = 1 / (1 + np.exp(cls_logits[:, 0] - cls_logits[:, 1]))
    return scores


def decode_boxes(box_deltas: Floats, priors_cxcywh: Floats) -> Floats:
    """Boxes xyxy (M, 4) of deltas (M, 4) in the frame of the priors; equal to `geometry.decode_boxes`."""
    center_variance, size_variance = np.float32(VARIANCES[0]), np.float32(VARIANCES[1])
    prior_center, prior_wh = priors_cxcywh[:, :2], priors_cxcywh[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is dropped by the caller
        center = prior_center + box_deltas[:, :2] * (center_variance * prior_wh)
        half_wh = prior_wh * np.exp(np.minimum(box_deltas[:, 2:] * size_variance, _MAX_LOG_SIDE)) / 2
        return np.concatenate((center - half_wh, center + half_wh), axis=1)


def decode_landmarks(landmark_deltas: Floats, priors_cxcywh: Floats) -> Floats:
    """Landmarks x, y (M, 5, 2) of deltas (M, 10); equal to `geometry.decode_landmarks`."""
    offsets = landmark_deltas.reshape(-1, 5, 2)  # (M, 5, 2)
    prior_center, prior_wh = priors_cxcywh[:, None, :2], priors_cxcywh[:, None, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        landmarks: Floats = prior_center + offsets * (np.float32(VARIANCES[0]) * prior_wh)
    return landmarks


def non_maximum_suppression(
    boxes_xyxy: Floats, scores: Floats, *, iou_threshold: float, max_faces: int | None = None
) -> npt.NDArray[np.intp]:
    """Indices (N,) of the boxes that greedy suppression keeps, by falling score.

    Equal scores keep their order. A box goes if it overlaps a kept one by more than `iou_threshold`. Boxes of
    zero area overlap nothing.
    """
    limit = len(scores) if max_faces is None else max_faces
    waiting = np.argsort(-scores, kind="stable")  # (M,)
    kept: list[npt.NDArray[np.intp]] = []
    num_kept = 0
    while waiting.size and num_kept < limit:
        block, rest = waiting[:_BLOCK], waiting[_BLOCK:]
        winners = block[_keep_in_block(box_iou(boxes_xyxy[block], boxes_xyxy[block]) > iou_threshold)]
        kept.append(winners)
        num_kept += winners.size
        is_clear = (box_iou(boxes_xyxy[winners], boxes_xyxy[rest]) <= iou_threshold).all(axis=0)
        waiting = rest[is_clear]
    return np.concatenate(kept)[:limit] if kept else np.empty(0, dtype=np.intp)


def box_iou(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """Overlap (N, M) of every box of `a` with every box of `b`, in [0, 1]; 0 where an area is zero."""
    intersection = _intersection(a_xyxy, b_xyxy)
    a_area, b_area = _area(a_xyxy)[:, None], _area(b_xyxy)
    overlaps: Floats = intersection / np.maximum(a_area + b_area - intersection, _TINY)
    return np.minimum(overlaps, 1)


def _area(boxes_xyxy: Floats) -> Floats:
    left, top, right, bottom = boxes_xyxy.T
    area: Floats = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    return area


def _intersection(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """Common area (N, M) of every box of `a` with every box of `b`."""
    # One coordinate at a time: a (N, M, 2) intermediate costs three times as much.
    a_left, a_top, a_right, a_bottom = (column[:, None] for column in a_xyxy.T)
    b_left, b_top, b_right, b_bottom = b_xyxy.T
    width = np.minimum(a_right, b_right) - np.maximum(a_left, b_left)
    height = np.minimum(a_bottom, b_bottom) - np.maximum(a_top, b_top)
    common: Floats = np.maximum(width, 0) * np.maximum(height, 0)  # (N, M)
    return common


def _keep_in_block(overlaps_too_much: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which boxes (M,) of one sorted block survive each other, by their symmetric relation (M, M)."""
    is_kept = np.ones(len(overlaps_too_much), dtype=np.bool_)
    for index in range(len(is_kept)):
        if is_kept[index]:
            is_kept[index + 1 :] &= ~overlaps_too_much[index, index + 1 :]
    return is_kept
