"""Which prior learns which face; nothing here knows what a network says.

All images of a batch are matched together: their faces form one list, whose overlaps with the priors are
computed in blocks that stay in the processor's cache. Work grows with the faces that are there, not with the
padding.

Legend beside the usual dimensions: `F` faces of the whole batch. A "slot" is one prior of one image:
`image * P + prior`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from featherface.geometry import box_area, cxcywh_to_xyxy
from featherface.shapes import Bool, Float, Int8, Int64
from featherface.structures import Targets

FACE, BACKGROUND, IGNORED = 1, 0, -1

# S3FD (arXiv:1708.05237, section 3.2) stops compensating below this overlap: a prior that hardly touches a
# face learns noise from it.
_MIN_COMPENSATION_IOU = 0.1
# 16 faces x 4,200 priors x 4 bytes is 270 KB for each temporary: they stay in a core's second-level cache.
# Twice as fast as blocks of 64 faces.
_BLOCK_ELEMENTS = 1 << 16


@dataclass(frozen=True)
class Matches:
    """What each prior of a batch has to learn."""

    labels: Int8[Tensor, "B P"]
    """1 face, 0 background, -1 ignored: no classification loss at all."""
    matched_gt_idx: Int64[Tensor, "B P"]
    """Index into the image's ground truth where the label is 1; -1 elsewhere."""


@dataclass(frozen=True)
class _Faces:
    """Some faces of the batch, the padding left out; `F` of them."""

    boxes_xyxy: Tensor
    image_idx: Tensor
    gt_idx: Tensor

    @classmethod
    def select(cls, targets: Targets, is_selected: Tensor) -> "_Faces":
        image_idx, gt_idx = is_selected.nonzero(as_tuple=True)
        return cls(targets.gt_boxes_xyxy[image_idx, gt_idx], image_idx, gt_idx)

    def __len__(self) -> int:
        return self.boxes_xyxy.shape[0]


def match_priors(
    priors_cxcywh: Float[Tensor, "P 4"],
    targets: Targets,
    *,
    match_iou_threshold: float = 0.35,
    min_priors_per_face: int = 1,
) -> Matches:
    """Label every prior of every image of a batch.

    Positive are, for each face, its own prior (see below) and all priors that overlap it by at least
    `match_iou_threshold`. A prior wanted by several faces learns the one it overlaps most; of equal ones the
    first.

    *Own prior.* Each face gets one prior for itself, however small their overlap: its best one, unless
    another face overlaps that one more; then its next best, and so on. The result is the same as that of
    going through all pairs from the largest overlap down (a stable marriage); of equal overlaps the first
    face and the first prior win. Only a face that overlaps no free prior, or has no area, gets none.

    *Ignored faces.* A prior is ignored if half of it or more lies in an ignored face (it sees little else),
    or if it is one that the face would have matched: overlap of at least `match_iou_threshold`, or of at
    least half the best overlap that the face attains where that is less, as for faces smaller than all
    priors. Positives win over ignored.

    Args:
        priors_cxcywh: in input pixels, like the targets.
        targets: ground truth; it may be empty (G = 0).
        match_iou_threshold: in (0, 1].
        min_priors_per_face: faces with fewer priors above the threshold get their best ones up to this
            number, if they overlap by 0.1 or more; 1 turns it off. Meant for faces too small to reach the
            threshold.

    Raises:
        ValueError: a threshold or a number out of range.

    Reference:
        SSD, arXiv:1512.02325, section 2.2, and S3FD, arXiv:1708.05237, section 3.2. There, two faces with the
        same best prior share it and one of them is lost.
    """
    if not 0 < match_iou_threshold <= 1:
        raise ValueError(f"match_iou_threshold must be in (0, 1], got {match_iou_threshold}")
    if min_priors_per_face < 1:
        raise ValueError(f"min_priors_per_face must be 1 or more, got {min_priors_per_face}")
    batch, num_priors = targets.is_face.shape[0], priors_cxcywh.shape[0]
    # The coordinates as four contiguous rows: overlaps of strided columns take six times as long.
    priors_xyxy = cxcywh_to_xyxy(priors_cxcywh).t().contiguous()  # (4, P)
    labels = torch.full((batch * num_priors,), BACKGROUND, dtype=torch.int8, device=priors_cxcywh.device)
    matched_gt_idx = torch.full_like(labels, -1, dtype=torch.int64)

    ignored = _Faces.select(targets, targets.is_ignored)
    labels[_shielded_slots(ignored, priors_xyxy, match_iou_threshold)] = IGNORED

    faces = _Faces.select(targets, targets.is_face)
    if len(faces) and num_priors:
        slots, face_idx = _assign(faces, priors_xyxy, batch, match_iou_threshold, min_priors_per_face)
        labels[slots] = FACE
        matched_gt_idx[slots] = faces.gt_idx[face_idx]
    return Matches(labels.view(batch, num_priors), matched_gt_idx.view(batch, num_priors))


def _assign(
    faces: _Faces, priors_xyxy: Tensor, batch: int, match_iou_threshold: float, min_priors_per_face: int
) -> tuple[Tensor, Tensor]:
    """Slots that are positive, and the row in `faces` that each of them learns."""
    num_priors = priors_xyxy.shape[1]
    best_ious, best_priors, pairs = [], [], []
    for start, iou in _iou_blocks(faces.boxes_xyxy, priors_xyxy):
        best_iou, best_prior = iou.max(dim=1)
        best_ious.append(best_iou)
        best_priors.append(best_prior)
        is_pair = iou >= match_iou_threshold
        if min_priors_per_face > 1:
            kth_best = iou.topk(min(min_priors_per_face, num_priors), dim=1).values[:, -1:]
            is_pair |= iou >= kth_best.clamp(min=_MIN_COMPENSATION_IOU)
        row, prior_idx = is_pair.nonzero(as_tuple=True)
        pairs.append((row + start, prior_idx, iou[row, prior_idx]))
    face_idx, prior_idx, pair_iou = (torch.cat(column) for column in zip(*pairs, strict=True))
    slots = faces.image_idx[face_idx] * num_priors + prior_idx

    overlap = priors_xyxy.new_zeros(batch * num_priors)
    learns = _claim(slots, pair_iou, face_idx, overlap)
    owned = _own_slots(faces, torch.cat(best_ious), torch.cat(best_priors), priors_xyxy, batch)
    has_own = owned >= 0
    learns[owned[has_own]] = has_own.nonzero().squeeze(1)
    positive = (learns >= 0).nonzero().squeeze(1)
    return positive, learns[positive]


def _claim(slots: Tensor, iou: Tensor, face_idx: Tensor, overlap: Tensor) -> Tensor:
    """The face that claims each slot with the largest overlap (of equal ones the first), -1 without claims.

    `overlap` holds what a claim has to reach, and is raised in place to the largest one. Only maxima and
    minima are scattered, so that the result does not depend on the order of execution.
    """
    overlap.scatter_reduce_(0, slots, iou, reduce="amax")
    is_largest = iou == overlap[slots]
    none = torch.iinfo(face_idx.dtype).max
    first = torch.full_like(overlap, none, dtype=face_idx.dtype)
    first.scatter_reduce_(0, slots[is_largest], face_idx[is_largest], reduce="amin")
    return first.masked_fill_(first == none, -1)


def _own_slots(
    faces: _Faces, best_iou: Tensor, best_prior: Tensor, priors_xyxy: Tensor, batch: int
) -> Int64[Tensor, " F"]:
    """The slot of each face's own prior; -1 for a face that overlaps no free one.

    Deferred acceptance: every face without a prior asks for the best of those whose holder overlaps less; a
    prior keeps the face that overlaps most and sends the others, a former holder among them, to ask on. A
    round is batched; two or three rounds do for photographs.
    """
    num_priors = priors_xyxy.shape[1]
    held_iou = priors_xyxy.new_zeros(batch * num_priors)
    holder = torch.full_like(held_iou, -1, dtype=torch.int64)
    seekers = torch.arange(len(faces), device=priors_xyxy.device)
    while True:
        has_wish = best_iou > 0
        seekers, wish_iou = seekers[has_wish], best_iou[has_wish]
        if not seekers.numel():
            break
        slots = faces.image_idx[seekers] * num_priors + best_prior[has_wish]
        is_accepted = _claim(slots, wish_iou, seekers, held_iou)[slots] == seekers
        displaced = holder[slots[is_accepted]]
        holder[slots[is_accepted]] = seekers[is_accepted]
        seekers = torch.cat((seekers[~is_accepted], displaced[displaced >= 0]))
        best_iou, best_prior = _best_available(faces, seekers, priors_xyxy, held_iou.view(batch, num_priors))
    slot = (holder >= 0).nonzero().squeeze(1)
    owned = torch.full_like(faces.gt_idx, -1)
    owned[holder[slot]] = slot
    return owned


def _best_available(
    faces: _Faces, seekers: Tensor, priors_xyxy: Tensor, held_iou: Tensor
) -> tuple[Tensor, Tensor]:
    """Overlap and index of each seeker's best prior among those that it overlaps more than their holder."""
    image_idx = faces.image_idx[seekers]
    best = [
        iou.masked_fill_(iou <= held_iou[image_idx[start : start + iou.shape[0]]], 0).max(dim=1)
        for start, iou in _iou_blocks(faces.boxes_xyxy[seekers], priors_xyxy)
    ]
    if not best:
        return held_iou.new_zeros(0), seekers
    return torch.cat([block.values for block in best]), torch.cat([block.indices for block in best])


def _shielded_slots(ignored: _Faces, priors_xyxy: Tensor, match_iou_threshold: float) -> Int64[Tensor, " S"]:
    """Slots that must not be called background because of an ignored face; some more than once."""
    num_priors = priors_xyxy.shape[1]
    prior_area, face_area = box_area(priors_xyxy.t()), box_area(ignored.boxes_xyxy)
    slots = [ignored.image_idx[:0]]
    for start, iou in _iou_blocks(ignored.boxes_xyxy, priors_xyxy):
        rows = slice(start, start + iou.shape[0])
        would_match = iou >= (iou.amax(dim=1, keepdim=True) / 2).clamp(max=match_iou_threshold)
        # intersection / prior area >= 1/2, solved for the overlap that is already there.
        is_covered = iou * (face_area[rows, None] / prior_area + 0.5) >= 0.5
        is_shielded: Bool[Tensor, "F P"] = (would_match | is_covered) & (iou > 0)
        row, prior_idx = is_shielded.nonzero(as_tuple=True)
        slots.append(ignored.image_idx[rows][row] * num_priors + prior_idx)
    return torch.cat(slots)


def _iou_blocks(boxes_xyxy: Tensor, priors_xyxy: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Overlaps of some boxes (F, 4) at a time with all priors (4, P), and the index of the first box.

    Equal to `geometry.box_iou`, and six times as fast: whole rows per coordinate, in place, in the cache.
    """
    left, top, right, bottom = priors_xyxy
    prior_area = box_area(priors_xyxy.t())
    face_area = box_area(boxes_xyxy)
    tiny = torch.finfo(prior_area.dtype).tiny
    block = max(1, _BLOCK_ELEMENTS // max(1, left.shape[0]))
    for start in range(0, boxes_xyxy.shape[0], block):
        x1, y1, x2, y2 = boxes_xyxy[start : start + block].t().unsqueeze(-1)  # four of (block, 1)
        width = torch.minimum(x2, right).sub_(torch.maximum(x1, left)).clamp_(min=0)
        height = torch.minimum(y2, bottom).sub_(torch.maximum(y1, top)).clamp_(min=0)
        intersection = width.mul_(height)
        union = (face_area[start : start + block, None] + prior_area).sub_(intersection)
        yield start, intersection.div_(union.clamp_(min=tiny)).clamp_(max=1)
