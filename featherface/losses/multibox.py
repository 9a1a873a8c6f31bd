"""The training loss of a detector: classification, boxes and landmarks of the positives.

Nothing here weighs the three parts against each other; whoever trains does.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from featherface.geometry import encode_landmarks
from featherface.losses.boxes import BOX_DISTANCES, predicted_iou
from featherface.losses.classification import focal_loss, hard_negative_loss, quality_focal_loss
from featherface.losses.matching import FACE, Matches
from featherface.parallel import sum_over_processes
from featherface.shapes import Float
from featherface.structures import HeadOutputs, Targets

CLS_LOSSES = ("hard_negatives", "placed_hard_negatives", "focal", "quality_focal")


class MultiboxLosses(NamedTuple):
    """Three scalars with gradients, each per positive prior."""

    cls: Tensor
    """As the chosen one of `classification` has it."""
    box: Tensor
    """As `boxes.BOX_DISTANCES` has it."""
    landmark: Tensor
    """Smooth L1 of the ten encoded coordinates, summed over them, per positive whose face has landmarks."""


def multibox_loss(
    outputs: HeadOutputs,
    priors_cxcywh: Float[Tensor, "P 4"],
    targets: Targets,
    matches: Matches,
    *,
    negatives_per_positive: float = 7.0,
    min_negatives: int = 16,
    cls: str = "hard_negatives",
    box: str = "smooth_l1",
) -> MultiboxLosses:
    """Loss of a batch; all parts and their gradients are finite for finite outputs, also without any face.

    Args:
        outputs: what the network says of B x P priors.
        priors_cxcywh: in input pixels, in the order of the outputs.
        targets: ground truth in input pixels.
        matches: of priors and targets, from `match_priors`.
        negatives_per_positive: see `classification.hard_negative_loss`, like the next.
        min_negatives: see there.
        cls: one of `CLS_LOSSES`, see `classification`.
        box: one of `boxes.BOX_DISTANCES`.

    Raises:
        ValueError: outputs and priors differ in number, or there is no such loss.

    Reference:
        SSD, arXiv:1512.02325, section 2.2; RetinaFace, arXiv:1905.00641, section 3.1.
    """
    if outputs.cls_logits.shape[1] != priors_cxcywh.shape[0]:
        raise ValueError(
            f"the network speaks of {outputs.cls_logits.shape[1]} priors, got {priors_cxcywh.shape[0]}: "
            "make the priors for the size of these images"
        )
    is_positive = matches.labels == FACE
    image_idx, prior_idx = is_positive.nonzero(as_tuple=True)
    gt_idx = matches.matched_gt_idx[image_idx, prior_idx]
    positive_priors = priors_cxcywh[prior_idx]
    num_positives = image_idx.numel()

    face_margin = outputs.cls_logits[..., 1] - outputs.cls_logits[..., 0]  # (B, P)
    found = (
        outputs.box_deltas[image_idx, prior_idx],
        positive_priors,
        targets.gt_boxes_xyxy[image_idx, gt_idx],
    )
    match cls:
        case "hard_negatives" | "placed_hard_negatives":
            cls_loss = hard_negative_loss(
                face_margin,
                matches.labels,
                negatives_per_positive=negatives_per_positive,
                min_negatives=min_negatives,
                quality=predicted_iou(*found) if cls == "placed_hard_negatives" else None,
            )
        case "focal":
            cls_loss = focal_loss(face_margin, matches.labels)
        case "quality_focal":
            cls_loss = quality_focal_loss(face_margin, matches.labels, predicted_iou(*found))
        case _:
            raise ValueError(f"cls must be one of {', '.join(CLS_LOSSES)}, got {cls!r}")
    box_loss = BOX_DISTANCES[box](*found).sum()

    has_landmarks = targets.has_landmarks[image_idx, gt_idx]
    image_idx, prior_idx, gt_idx = image_idx[has_landmarks], prior_idx[has_landmarks], gt_idx[has_landmarks]
    landmark_loss = F.smooth_l1_loss(
        outputs.landmark_deltas[image_idx, prior_idx],
        encode_landmarks(targets.gt_landmarks_xy[image_idx, gt_idx], positive_priors[has_landmarks]),
        reduction="sum",
    )
    # Sum over the batch, divide once: a mean per image would let one tiny face weigh as much as a crowd.
    counts = cls_loss.new_tensor((num_positives, num_positives, image_idx.numel()))
    sums = sum_over_processes(torch.stack((cls_loss, box_loss, landmark_loss, *counts)))
    return MultiboxLosses(*(sums[:3] / sums[3:].clamp(min=1)))
