"""The training loss of a detector: classification with hard negatives, boxes and landmarks of the positives.

Nothing here weighs the three parts against each other; whoever trains does.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from featherface.geometry import encode_boxes, encode_landmarks
from featherface.losses.matching import BACKGROUND, FACE, Matches, match_priors
from featherface.parallel import sum_over_processes
from featherface.shapes import Bool, Float, Int64
from featherface.structures import HeadOutputs, Targets


class MultiboxLosses(NamedTuple):
    """Three scalars with gradients, each per positive prior."""

    cls: Tensor
    """Cross entropy of positives and hard negatives."""
    box: Tensor
    """Smooth L1 of the four encoded coordinates, summed over them."""
    landmark: Tensor
    """Smooth L1 of the ten encoded coordinates, summed over them, per positive whose face has landmarks."""


def multibox_loss(
    outputs: HeadOutputs,
    priors_cxcywh: Float[Tensor, "P 4"],
    targets: Targets,
    *,
    match_iou_threshold: float = 0.35,
    min_priors_per_face: int = 1,
    negatives_per_positive: float = 7.0,
    min_negatives: int = 16,
    matches: Matches | None = None,
) -> MultiboxLosses:
    """Loss of a batch; all parts and their gradients are finite for finite outputs, also without any face.

    Args:
        outputs: what the network says of B x P priors.
        priors_cxcywh: in input pixels, in the order of the outputs.
        targets: ground truth in input pixels.
        match_iou_threshold: see `match_priors`; not used if `matches` is given, like the next.
        min_priors_per_face: see there.
        negatives_per_positive: how many of an image's hardest negatives count, for each of its positives.
        min_negatives: how many count at least, so that images without a face teach what is none.
        matches: from `match_priors`, where somebody needs them as well.

    Raises:
        ValueError: outputs and priors differ in number.

    Reference:
        SSD, arXiv:1512.02325, section 2.2; RetinaFace, arXiv:1905.00641, section 3.1.
    """
    if outputs.cls_logits.shape[1] != priors_cxcywh.shape[0]:
        raise ValueError(
            f"the network speaks of {outputs.cls_logits.shape[1]} priors, got {priors_cxcywh.shape[0]}: "
            "make the priors for the size of these images"
        )
    if matches is None:
        matches = match_priors(
            priors_cxcywh,
            targets,
            match_iou_threshold=match_iou_threshold,
            min_priors_per_face=min_priors_per_face,
        )
    is_positive = matches.labels == FACE
    image_idx, prior_idx = is_positive.nonzero(as_tuple=True)
    gt_idx = matches.matched_gt_idx[image_idx, prior_idx]
    positive_priors = priors_cxcywh[prior_idx]
    num_positives = image_idx.numel()

    face_margin = outputs.cls_logits[..., 1] - outputs.cls_logits[..., 0]  # (B, P)
    is_negative = select_hardest(
        face_margin.detach(),
        is_candidate=matches.labels == BACKGROUND,
        num_per_image=(is_positive.sum(dim=1) * negatives_per_positive)
        .ceil()
        .long()
        .clamp(min=min_negatives),
    )
    # With two classes the cross entropy is the softplus of the difference of the logits.
    cls_loss = (
        F.softplus(-face_margin[image_idx, prior_idx]).sum() + F.softplus(face_margin[is_negative]).sum()
    )

    box_targets = encode_boxes(targets.gt_boxes_xyxy[image_idx, gt_idx], positive_priors)
    box_loss = F.smooth_l1_loss(outputs.box_deltas[image_idx, prior_idx], box_targets, reduction="sum")

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


def select_hardest(
    difficulty: Float[Tensor, "B P"],
    *,
    is_candidate: Bool[Tensor, "B P"],
    num_per_image: Int64[Tensor, " B"],
) -> Bool[Tensor, "B P"]:
    """Mark the `num_per_image` most difficult candidates of each image, or all where there are fewer."""
    num_kept = min(int(num_per_image.max()), difficulty.shape[1])
    ranked = difficulty.masked_fill(~is_candidate, -torch.inf).topk(num_kept, dim=1)
    is_kept = torch.arange(num_kept, device=difficulty.device) < num_per_image[:, None]  # (B, num_kept)
    return torch.zeros_like(is_candidate).scatter_(1, ranked.indices, is_kept) & is_candidate
