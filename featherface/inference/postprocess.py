"""From what a network says of every prior to the faces of one image; numpy only.

A threshold comes first: of the 16,800 priors of a 640 px image some dozen pass it, and only those are
decoded and compared. Nothing here knows of files, images or backends.

Dimensions: `P` priors, `M` candidates that may be a face or vote for one (`inference.votes`), `N` faces that
remain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featherface.inference.model_info import VARIANCES
from featherface.inference.overlap import box_area, box_iou, intersection
from featherface.inference.votes import VOTE_RULE, count_votes, least_likely, voted_scores
from featherface.structures import Detections

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

_MAX_LOG_SIDE = 10.0  # as in `geometry`: exp() of a wild network must stay finite
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

    Priors for which the network says anything but finite numbers are dropped. A face has the same score at
    every threshold below it, but for thresholds under 0.02, at which more priors vote.

    Args:
        cls_logits: (P, 2) background, face.
        box_deltas: (P, 4), encoded as in `geometry.encode_boxes`.
        landmark_deltas: (P, 10), encoded as in `geometry.encode_landmarks`.
        priors_cxcywh: (P, 4) pixels, from `models.priors.make_priors`.
        score_threshold: keep scores above it, votes counted in.
        iou_threshold: of two boxes that overlap more, the one of which the network is less sure goes.
        max_faces: at most so many of the best are returned.
    """
    scores = face_scores(cls_logits)
    floor, least = min(score_threshold, VOTE_RULE.least_voter_score), least_likely(score_threshold)
    candidate_idx = np.flatnonzero(scores > max(floor, VOTE_RULE.least_share * least))
    boxes = decode_boxes(box_deltas[candidate_idx], priors_cxcywh[candidate_idx])  # (M, 4)
    landmarks = decode_landmarks(landmark_deltas[candidate_idx], priors_cxcywh[candidate_idx])  # (M, 5, 2)
    is_finite = np.isfinite(boxes).all(axis=1) & np.isfinite(landmarks).all(axis=(1, 2))
    boxes, landmarks, scores = boxes[is_finite], landmarks[is_finite], scores[candidate_idx[is_finite]]
    likely_idx = np.flatnonzero(scores > max(floor, least))
    kept_idx = likely_idx[
        non_maximum_suppression(
            boxes[likely_idx],
            scores[likely_idx],
            iou_threshold=iou_threshold,
            max_faces=max(max_faces, VOTE_RULE.most_elected),
        )
    ]
    heights_px = boxes[kept_idx, 3] - boxes[kept_idx, 1]
    voted = voted_scores(scores[kept_idx], count_votes(boxes, scores, kept_idx), heights_px)
    order = np.argsort(-voted, kind="stable")
    best = order[voted[order] > score_threshold][:max_faces]
    face_idx = kept_idx[best]
    return Detections(boxes[face_idx], voted[best], landmarks[face_idx])


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
    shared = intersection(found.boxes_xyxy, large)  # (N, M)
    is_inside = (shared > 0.5 * box_area(found.boxes_xyxy)[:, None]).any(axis=1)
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


def _keep_in_block(overlaps_too_much: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which boxes (M,) of one sorted block survive each other, by their symmetric relation (M, M)."""
    is_kept = np.ones(len(overlaps_too_much), dtype=np.bool_)
    for index in range(len(is_kept)):
        if is_kept[index]:
            is_kept[index + 1 :] &= ~overlaps_too_much[index, index + 1 :]
    return is_kept
