"""Face or background: what the margin of the two logits of a prior costs.

With two classes a softmax depends on their difference alone, so that the cross entropy is a softplus of it.
Each function returns a sum over the batch; whoever calls divides by the number of positives.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from featherface.losses.matching import BACKGROUND, FACE
from featherface.shapes import Bool, Float, Int8, Int64

# RetinaNet's; alpha is the weight of a positive, 1 - alpha that of a negative.
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0
_QUALITY_BETA = 2.0
# A detection counts from an overlap of 0.5 on. Around it the target rises from 0 to 1.
_NOT_FOUND, _FOUND = 0.4, 0.6


def hard_negative_loss(
    face_margin: Float[Tensor, "B P"],
    labels: Int8[Tensor, "B P"],
    *,
    negatives_per_positive: float,
    min_negatives: int,
    quality: Float[Tensor, " N"] | None = None,
) -> Tensor:
    """Cross entropy of all positives and, in each image, of its most difficult negatives.

    Args:
        face_margin: face logit minus background logit.
        labels: of `match_priors`.
        negatives_per_positive: how many of an image's hardest negatives count, for each of its positives.
        min_negatives: how many count at least, so that images without a face teach what is none.
        quality: overlap of the predicted box with its face, in the order of the positives; no gradient flows.
            Given, a positive learns whether its box counts as found: 0 up to an overlap of 0.4, 1 from 0.6
            on. A box of a tiny face that lies beside it is a false detection, and must not be as sure as one
            that holds it.

    Reference:
        SSD, arXiv:1512.02325, section 2.2; overlap as target: VarifocalNet, arXiv:2008.13367, section 3.2.
    """
    is_positive = labels == FACE
    is_negative = select_hardest(
        face_margin.detach(),
        is_candidate=labels == BACKGROUND,
        num_per_image=(is_positive.sum(dim=1) * negatives_per_positive)
        .ceil()
        .long()
        .clamp(min=min_negatives),
    )
    positive = face_margin[is_positive]
    of_positives = F.softplus(-positive)
    if quality is not None:
        of_positives = of_positives + (1 - _is_found(quality.detach())) * positive
    return of_positives.sum() + F.softplus(face_margin[is_negative]).sum()


def _is_found(quality: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    return ((quality - _NOT_FOUND) / (_FOUND - _NOT_FOUND)).clamp(0, 1)


def focal_loss(face_margin: Float[Tensor, "B P"], labels: Int8[Tensor, "B P"]) -> Tensor:
    """Cross entropy of all priors that are not ignored; the easy ones, which are most, weigh little.

    Args:
        face_margin: as of `hard_negative_loss`, like the next.
        labels: see there.

    Reference:
        Focal Loss, arXiv:1708.02002, equation 5.
    """
    positive, negative = face_margin[labels == FACE], face_margin[labels == BACKGROUND]
    of_positives = F.softplus(-positive) * (-positive).sigmoid() ** _FOCAL_GAMMA
    of_negatives = F.softplus(negative) * negative.sigmoid() ** _FOCAL_GAMMA
    # Over alpha, so that a positive of probability 0 weighs what it does in a cross entropy.
    return of_positives.sum() + (1 - _FOCAL_ALPHA) / _FOCAL_ALPHA * of_negatives.sum()


def quality_focal_loss(
    face_margin: Float[Tensor, "B P"], labels: Int8[Tensor, "B P"], quality: Float[Tensor, " N"]
) -> Tensor:
    """Cross entropy with the overlap of box and face as the probability that is to be learnt.

    Args:
        face_margin: as of `hard_negative_loss`, like the next.
        labels: see there.
        quality: overlap of the predicted box with its face, in the order of the positives; no gradient flows.

    Reference:
        Generalized Focal Loss, arXiv:2006.04388, equation 3.
    """
    positive, negative = face_margin[labels == FACE], face_margin[labels == BACKGROUND]
    quality = quality.detach()
    distance = (quality - positive.sigmoid()).abs() ** _QUALITY_BETA
    of_positives = F.binary_cross_entropy_with_logits(positive, quality, reduction="none") * distance
    of_negatives = F.softplus(negative) * negative.sigmoid() ** _QUALITY_BETA
    return of_positives.sum() + of_negatives.sum()


def select_hardest(
    difficulty: Float[Tensor, "B P"],
    *,
    is_candidate: Bool[Tensor, "B P"],
    num_per_image: Int64[Tensor, " B"],
) -> Bool[Tensor, "B P"]:
    """Mark the `num_per_image` most difficult candidates of each image, or all where there are fewer."""
    num_kept = min(int(num_per_image.max()), difficulty.shape[1]) if len(num_per_image) else 0
    ranked = difficulty.masked_fill(~is_candidate, -torch.inf).topk(num_kept, dim=1)
    is_kept = torch.arange(num_kept, device=difficulty.device) < num_per_image[:, None]  # (B, num_kept)
    return torch.zeros_like(is_candidate).scatter_(1, ranked.indices, is_kept) & is_candidate
