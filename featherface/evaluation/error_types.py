"""What a detector does wrong: misses, misplaced boxes, second detections, imagined faces; what each costs.

Detections are judged as the official protocol does: a detection looks only at the face it overlaps most, the
best detection of a face is right, those of a face that does not count are neither right nor wrong. What is
wrong is told apart by the overlap with that face:

- `duplicate`: enough overlap with a face that a surer detection has;
- `localization`: some overlap with a face, but not enough;
- `background`: hardly any overlap with a face;
- `missed`: a face without a detection that overlaps it enough. In the costs only those that no misplaced box
  lies on either: the others are mended with the box.

The cost of a type is what average precision gains when all its errors are mended, and only those. So costs
do not add up: the error that is left behind another one counts with neither.

Dimensions: `N` detections, `G` faces.

Reference:
    Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, arXiv:2008.08115,
    section 2. We differ in the judge, which ignores faces; errors of class do not exist here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from featherface.evaluation.widerface import Judgement, WiderGroundTruth, judge

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    IntArray = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

MISSED, LOCALIZATION, DUPLICATE, BACKGROUND = "missed", "localization", "duplicate", "background"
ERROR_TYPES = (MISSED, LOCALIZATION, DUPLICATE, BACKGROUND)
HIT_IOU, NEAR_IOU = 0.5, 0.1
"""Overlap from which a face is found, and from which a detection is about a face at all; TIDE's numbers."""


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What became of each detection and each face; exactly one of the first five holds for a detection."""

    is_right: Mask
    """(N,) the best detection of a face that counts."""
    is_duplicate: Mask
    is_misplaced: Mask
    is_background: Mask
    is_left_out: Mask
    """(N,) below the threshold, on a face that does not count, or in an image without faces."""
    is_missed: Mask
    """(G,) faces that count and were not found."""
    has_misplaced_box: Mask
    """(G,) missed faces on which a misplaced box lies."""

    @property
    def is_judged(self) -> Mask:
        """(N,) right or wrong."""
        return ~self.is_left_out

    def counts(self) -> dict[str, int]:
        """Errors of each type; a missed face counts as missed whether a misplaced box lies on it or not."""
        masks = (self.is_missed, self.is_misplaced, self.is_duplicate, self.is_background)
        return {name: int(np.count_nonzero(mask)) for name, mask in zip(ERROR_TYPES, masks, strict=True)}


@dataclass(frozen=True, eq=False)
class Evidence:
    """Which face each detection found, and which one it was at least about."""

    hits: Judgement
    near: Judgement
    is_counted: Mask
    """(G,) the faces that count."""


def gather(
    predictions: Mapping[str, npt.NDArray[np.floating]], ground_truth: WiderGroundTruth, setting: str
) -> Evidence:
    """Judge predictions once, for `classify` and `lost_precision`.

    Args:
        predictions: as of `widerface.average_precision`.
        ground_truth: see there.
        setting: whose faces count.

    Raises:
        DataError: predictions of another shape or not finite, or of no image of the ground truth.
    """
    return Evidence(
        hits=judge(predictions, ground_truth, HIT_IOU),
        near=judge(predictions, ground_truth, NEAR_IOU),
        is_counted=ground_truth.is_counted[setting],
    )


def classify(evidence: Evidence, score_threshold: float = -np.inf) -> Verdicts:
    """What became of each detection and face if detections below the threshold are not shown."""
    hits, near, is_counted = evidence.hits, evidence.near, evidence.is_counted
    is_judged = hits.is_judged(is_counted) & (hits.given_scores >= score_threshold)
    is_on_face = is_judged & (hits.face_idx >= 0)
    is_right = _best_of_each_face(is_on_face, hits.face_idx, hits.scores)
    is_astray = is_judged & (hits.face_idx < 0)
    is_misplaced = is_astray & (near.face_idx >= 0)
    is_missed = is_counted.copy()
    is_missed[hits.face_idx[is_right]] = False
    has_misplaced_box = np.zeros_like(is_missed)
    has_misplaced_box[near.face_idx[is_misplaced]] = True
    return Verdicts(
        is_right=is_right,
        is_duplicate=is_on_face & ~is_right,
        is_misplaced=is_misplaced,
        is_background=is_astray & ~is_misplaced,
        is_left_out=~is_judged,
        is_missed=is_missed,
        has_misplaced_box=has_misplaced_box & is_missed,
    )


def lost_precision(evidence: Evidence) -> dict[str, float]:
    """Of each type how much average precision, in [0, 1], would come back without its errors."""
    verdicts = classify(evidence)
    before = mended_precision(evidence, verdicts, ())
    return {name: mended_precision(evidence, verdicts, (name,)) - before for name in ERROR_TYPES}


def mended_precision(evidence: Evidence, verdicts: Verdicts, types: Collection[str]) -> float:
    """Average precision in [0, 1] when all errors of some types are mended; without errors it is 1.

    A misplaced box is moved onto its face, and of several for one face only the surest stays; duplicates and
    imagined faces are removed; missed faces are no longer asked for.

    Args:
        evidence: of `gather`.
        verdicts: on all detections, whatever their score.
        types: some of `ERROR_TYPES`.
    """
    judgement, is_counted = evidence.hits, evidence.is_counted
    is_dropped = np.zeros_like(verdicts.is_right)
    if LOCALIZATION in types:
        face_idx = np.where(verdicts.is_misplaced, evidence.near.face_idx, judgement.face_idx)
        rivals = verdicts.is_right | verdicts.is_misplaced
        is_dropped |= rivals & ~_best_of_each_face(rivals, face_idx, judgement.scores)
        judgement = replace(judgement, face_idx=face_idx)
    if DUPLICATE in types:
        is_dropped |= verdicts.is_duplicate
    if BACKGROUND in types:
        is_dropped |= verdicts.is_background
    if MISSED in types:
        is_counted = is_counted & ~(verdicts.is_missed & ~verdicts.has_misplaced_box)
    judgement = _without(judgement, is_dropped)
    if not is_counted.any() and evidence.is_counted.any():
        return float(not judgement.is_judged(is_counted).any())  # all that is left to find is found
    return judgement.curve(is_counted).average_precision


def _best_of_each_face(is_rival: Mask, face_idx: IntArray, scores: FloatArray) -> Mask:
    """(N,) of the rivals for one face the surest; of equals the first."""
    rivals = np.flatnonzero(is_rival)
    order = rivals[np.lexsort((rivals, -scores[rivals], face_idx[rivals]))]
    is_best = np.zeros_like(is_rival)
    is_best[order[np.diff(face_idx[order], prepend=-1) != 0]] = True
    return is_best


def _without(judgement: Judgement, is_dropped: Mask) -> Judgement:
    is_kept = ~is_dropped
    face_idx, scores = judgement.face_idx[is_kept], judgement.scores[is_kept]
    best_score = np.full_like(judgement.best_score, -np.inf)
    is_hit = face_idx >= 0
    np.maximum.at(best_score, face_idx[is_hit], scores[is_hit])
    return Judgement(
        scores=scores,
        given_scores=judgement.given_scores[is_kept],
        face_idx=face_idx,
        best_score=best_score,
        image_idx=judgement.image_idx[is_kept],
        has_face_in_image=judgement.has_face_in_image[is_kept],
        warnings=judgement.warnings,
    )
