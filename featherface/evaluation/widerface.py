"""Average precision by the official WIDER FACE protocol, vectorized: equal to its tools, not just close.

What is unusual about it, and kept: scores are stretched to [0, 1] over the whole set; IoU counts pixels
inclusively (a box from 0 to 9 is 10 wide); a detection looks only at the face it overlaps most and never at
the second best; one whose face a setting does not count is neither right nor wrong; a second detection of a
face is a false positive; precision and recall are sampled at 1,000 uniform thresholds; AP is the area under
their monotone envelope. An image without any annotated face is skipped altogether, false positives
included; one that merely has none in a setting is not. Nothing here reads predictions: `predictions.py`
does.

The official code walks down each image's detections, best first. Here nothing is walked or sorted: at a
threshold a face is found if the best score among the detections that chose it is above, so one maximum per
face says it all, and the order of the detections cannot matter.

Dimensions: `N` detections, `G` faces, `T` thresholds.

Reference:
    Yang et al., WIDER FACE: A Face Detection Benchmark, arXiv:1511.06523, and its evaluation tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherface.errors import DataError
from featherface.evaluation.ground_truth import (
    SETTINGS,
    WiderGroundTruth,
    image_key,
    load_ground_truth,
    restrict,
)
from featherface.evaluation.operating import count_at_least

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

__all__ = [
    "NUM_THRESHOLDS",
    "SETTINGS",
    "THRESHOLDS",
    "Judgement",
    "PrecisionRecall",
    "WiderGroundTruth",
    "WiderResult",
    "average_precision",
    "image_key",
    "judge",
    "load_ground_truth",
    "restrict",
]

NUM_THRESHOLDS = 1000
THRESHOLDS = 1 - np.arange(1, NUM_THRESHOLDS + 1) / NUM_THRESHOLDS
"""On the stretched scores, falling from 0.999 to 0."""

# Coordinates beyond this are a detector's nonsense: cut, so that areas stay finite and the box a miss.
_MAX_COORDINATE_PX = 1e9

# Detections times faces compared at once: 0.5 MiB a matrix stays in the cache.
_MAX_PAIRS = 1 << 16


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """How precision and recall of one setting fall and rise with the threshold."""

    thresholds: FloatArray
    """(T,) on the stretched scores, falling from 0.999 to 0."""
    precision: FloatArray
    """(T,) in [0, 1]; 1 where nothing is detected: then nothing is wrong."""
    recall: FloatArray
    """(T,) in [0, 1], rising; 0 if the setting counts no face."""
    average_precision: float
    """Area under the monotone envelope, in [0, 1]."""
    num_faces: int
    """Faces the setting counts."""


@dataclass(frozen=True, eq=False)
class WiderResult:
    """Average precision of the three settings, in [0, 1], and what it is about."""

    easy: float
    medium: float
    hard: float
    mean: float
    images: int
    """Images judged."""
    total_images: int
    """Images of the complete validation set; more than `images` if the ground truth was restricted."""
    detections: int
    """Detections in these images."""
    curves: Mapping[str, PrecisionRecall]
    """One for each of `SETTINGS`."""
    warnings: tuple[str, ...]
    """What a reader of the numbers must know: missing predictions, equal scores, a setting without faces."""

    def to_dict(self) -> dict[str, float | int | list[str]]:
        """The numbers without the curves, ready for JSON."""
        return {
            "easy": self.easy,
            "medium": self.medium,
            "hard": self.hard,
            "mean": self.mean,
            "images": self.images,
            "total_images": self.total_images,
            "detections": self.detections,
            "warnings": list(self.warnings),
        }


def average_precision(
    predictions: Mapping[str, npt.NDArray[np.floating]],
    ground_truth: WiderGroundTruth,
    iou_threshold: float = 0.5,
) -> WiderResult:
    """Judge detections against the three settings.

    An image without predictions counts as one where nothing was found (and a warning says so). Predictions
    for images outside the ground truth are left out of everything, of the stretching of scores too.

    Args:
        predictions: for each image name `<event>/<image>` an (n, 5) array of x, y, width, height in pixels
            and score, in any order; scores may have any finite range.
        ground_truth: from `load_ground_truth`, complete or restricted.
        iou_threshold: least overlap of a hit, in (0, 1].

    Raises:
        DataError: predictions of another shape or not finite, or none for any image of the ground truth.
        ValueError: `iou_threshold` is out of range.
    """
    judgement = judge(predictions, ground_truth, iou_threshold)
    warnings = list(judgement.warnings)
    curves = {}
    for setting in SETTINGS:
        curves[setting] = judgement.curve(ground_truth.is_counted[setting])
        if curves[setting].num_faces == 0:
            warnings.append(f"no face belongs to setting '{setting}': its AP is 0 by definition")
    aps = {setting: curves[setting].average_precision for setting in SETTINGS}
    return WiderResult(
        **aps,
        mean=sum(aps.values()) / len(SETTINGS),
        images=len(ground_truth.names),
        total_images=ground_truth.total_images,
        detections=len(judgement.scores),
        curves=curves,
        warnings=tuple(warnings),
    )


@dataclass(frozen=True, eq=False)
class Judgement:
    """Which face each of N detections found; from it follows the curve of any choice of the G faces."""

    scores: FloatArray
    """(N,) stretched to [0, 1] over the whole set."""
    given_scores: FloatArray
    """(N,) as the detector gave them."""
    face_idx: npt.NDArray[np.int64]
    """(N,) the face that a detection overlaps most, -1 for one that overlaps none enough."""
    best_score: FloatArray
    """(G,) of the detections of a face; minus infinity where it has none."""
    image_idx: npt.NDArray[np.int64]
    """(N,) the image of each detection."""
    has_face_in_image: npt.NDArray[np.bool_]
    """(N,) images without any annotated face are skipped, their detections included."""
    warnings: tuple[str, ...]

    def curve(self, is_counted: npt.NDArray[np.bool_]) -> PrecisionRecall:
        """Precision and recall where (G,) `is_counted` says which faces count; the others are ignored."""
        return _curve(self.best_score[is_counted], self.scores[self.is_judged(is_counted)])

    def is_judged(self, is_counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """(N,) detections that are right or wrong where (G,) `is_counted` says which faces count."""
        is_judged = self.has_face_in_image.copy()
        is_hit = self.face_idx >= 0
        is_judged[is_hit] = is_counted[self.face_idx[is_hit]]
        return is_judged


def judge(
    predictions: Mapping[str, npt.NDArray[np.floating]],
    ground_truth: WiderGroundTruth,
    iou_threshold: float = 0.5,
) -> Judgement:
    """Which face each detection found; arguments and errors as of `average_precision`."""
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in (0, 1], got {iou_threshold}")
    rows, offsets = _collect(predictions, ground_truth)
    warnings = _warn_of_names(predictions, ground_truth)
    scores, is_constant = _stretch(rows[:, 4])
    if is_constant:
        warnings.append(
            f"all {len(rows)} detections have one score, so they count at every threshold: "
            "AP is precision x recall"
        )
    face_idx = _choose_faces(rows[:, :4], offsets, ground_truth, iou_threshold)
    best_score = np.full(len(ground_truth.boxes_xywh), -np.inf)
    is_hit = face_idx >= 0
    np.maximum.at(best_score, face_idx[is_hit], scores[is_hit])
    image_idx = np.repeat(np.arange(len(ground_truth.names)), np.diff(offsets))
    return Judgement(
        scores=scores,
        given_scores=rows[:, 4],
        face_idx=face_idx,
        best_score=best_score,
        image_idx=image_idx,
        has_face_in_image=(np.diff(ground_truth.offsets) > 0)[image_idx],
        warnings=tuple(warnings),
    )


def _collect(
    predictions: Mapping[str, npt.NDArray[np.floating]], ground_truth: WiderGroundTruth
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """All detections (N, 5), grouped by image in the order of the ground truth, and each group's start."""
    nothing = np.empty((0, 5))
    groups = []
    for name in ground_truth.names:
        group = np.asarray(predictions.get(name, nothing), dtype=np.float64)
        if group.size == 0:
            group = nothing
        if group.ndim != 2 or group.shape[1] != 5:
            raise DataError(
                f"predictions of '{name}': (n, 5) x y w h score is needed, got shape {group.shape}"
            )
        groups.append(group)
    offsets = np.concatenate([[0], np.cumsum([len(group) for group in groups])]).astype(np.int64)
    rows = np.concatenate([*groups, nothing])
    is_bad = ~np.isfinite(rows).all(axis=1)
    if is_bad.any():
        row_idx = int(np.argmax(is_bad))
        image_idx = int(np.searchsorted(offsets, row_idx, side="right")) - 1
        raise DataError(
            f"predictions of '{ground_truth.names[image_idx]}': detection {row_idx - offsets[image_idx] + 1} "
            f"is not finite, got {rows[row_idx].tolist()}"
        )
    return rows, offsets


def _warn_of_names(
    predictions: Mapping[str, npt.NDArray[np.floating]], ground_truth: WiderGroundTruth
) -> list[str]:
    known = set(ground_truth.names)
    missing = len(known.difference(predictions))
    unknown = len(set(predictions).difference(known))
    if missing == len(known) and unknown:
        raise DataError(
            f"none of the {unknown} images with predictions is in the ground truth; "
            f"names look like '{next(iter(predictions))}' and '{ground_truth.names[0]}'"
        )
    warnings = []
    if missing:
        warnings.append(f"{missing} of {len(known)} images have no predictions: counted as nothing found")
    if unknown:
        which = "one image" if unknown == 1 else f"{unknown} images"
        warnings.append(f"predictions of {which} outside the ground truth are left out")
    return warnings


def _stretch(scores: FloatArray) -> tuple[FloatArray, bool]:
    """Scores moved to [0, 1] over the whole set, and whether they were all one (then each becomes 1)."""
    if scores.size == 0:
        return scores, False
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        return np.ones_like(scores), True
    if not np.isfinite(high - low):
        # Halving is exact for numbers this large and keeps their difference finite.
        scores, low, high = scores / 2, low / 2, high / 2
    return (scores - low) / (high - low), False


def _choose_faces(
    boxes_xywh: FloatArray,
    offsets: npt.NDArray[np.int64],
    ground_truth: WiderGroundTruth,
    iou_threshold: float,
) -> npt.NDArray[np.int64]:
    """For each detection the face it overlaps most if by at least the threshold, else -1."""
    det, det_area = _corners(boxes_xywh)
    gt, gt_area = _corners(ground_truth.boxes_xywh)
    chosen = np.full(len(boxes_xywh), -1, dtype=np.int64)
    for n, g in _blocks(offsets, ground_truth.offsets):
        # (n, g); the order of operations is the official one: ties at the threshold turn on the last bit.
        width = np.minimum(det[2, n, None], gt[2, g]) - np.maximum(det[0, n, None], gt[0, g]) + 1
        height = np.minimum(det[3, n, None], gt[3, g]) - np.maximum(det[1, n, None], gt[1, g]) + 1
        overlap = width.clip(0, None, out=width) * height.clip(0, None, out=height)
        union = det_area[n, None] + gt_area[g] - overlap
        # A box of negative size has no overlap, but may cancel the union.
        iou = np.divide(overlap, union, out=overlap, where=overlap > 0)
        best = iou.argmax(axis=1)
        is_hit = np.take_along_axis(iou, best[:, None], axis=1)[:, 0] >= iou_threshold
        chosen[n] = np.where(is_hit, best + g.start, -1)
    return chosen


def _blocks(
    offsets: npt.NDArray[np.int64], gt_offsets: npt.NDArray[np.int64]
) -> Iterator[tuple[slice, slice]]:
    """Slices of the detections and the faces of one image, cut so that a crowd does not fill the memory."""
    is_useful = (np.diff(offsets) > 0) & (np.diff(gt_offsets) > 0)
    for image_idx in np.flatnonzero(is_useful).tolist():
        first, end = offsets[image_idx : image_idx + 2].tolist()
        g = slice(*gt_offsets[image_idx : image_idx + 2].tolist())
        step = max(1, _MAX_PAIRS // (g.stop - g.start))
        for start in range(first, end, step):
            yield slice(start, min(start + step, end)), g


def _corners(boxes_xywh: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(4, n) x1, y1, x2, y2 and (n,) areas; the last pixel belongs to the box."""
    x, y, w, h = np.clip(boxes_xywh.T, -_MAX_COORDINATE_PX, _MAX_COORDINATE_PX)
    x2, y2 = x + w, y + h
    return np.stack([x, y, x2, y2]), (x2 - x + 1) * (y2 - y + 1)


def _curve(face_scores: FloatArray, judged_scores: FloatArray) -> PrecisionRecall:
    """Precision and recall from the best score of each counted face and the scores of judged detections."""
    num_found = count_at_least(THRESHOLDS, face_scores)
    num_judged = count_at_least(THRESHOLDS, judged_scores)
    precision = np.divide(num_found, num_judged, out=np.ones(NUM_THRESHOLDS), where=num_judged > 0)
    recall = num_found / max(len(face_scores), 1)
    return PrecisionRecall(
        thresholds=THRESHOLDS,
        precision=precision,
        recall=recall,
        average_precision=_area(recall, precision),
        num_faces=len(face_scores),
    )


def _area(recall: FloatArray, precision: FloatArray) -> float:
    """All-point average precision: each rise of recall times the best precision from there on."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
