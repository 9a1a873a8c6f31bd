"""Box and landmark arithmetic on tensors: overlap, conversion, and the SSD encoding against priors.

Boxes and priors must share one frame (pixels or normalized, the formulas do not care). Nothing here clips,
scores or suppresses. Leading dimensions broadcast: priors (P, 4) serve a batch (B, P, 4).

Dimensions: `N`, `M` boxes, `P` priors, `G` faces in the ground truth, `K`=5 landmarks.
"""

import torch
from torch import Tensor

from featherface.shapes import Float

VARIANCES = (0.1, 0.2)
"""Scale of center and size deltas (SSD's published code; arXiv:1512.02325 leaves them out)."""

# A ground-truth side of zero would encode to -inf; one millionth of the prior encodes to a finite -69.
_MIN_RELATIVE_SIDE = 1e-6
# exp() of an untrained regression must not reach inf, which would turn overlaps into NaN.
_MAX_LOG_SIDE = 10.0


def box_iou(a_xyxy: Float[Tensor, "N 4"], b_xyxy: Float[Tensor, "M 4"]) -> Float[Tensor, "N M"]:
    """Intersection over union of every box of `a` with every box of `b`, in [0, 1].

    A box of zero area overlaps nothing, itself included: 0, never NaN. An inverted box counts as empty.
    """
    a, b = a_xyxy[:, None], b_xyxy[None]  # (N, 1, 4), (1, M, 4)
    low = a[..., :2].maximum(b[..., :2])
    high = a[..., 2:].minimum(b[..., 2:])
    sides = (high - low).clamp(min=0)
    intersection = sides[..., 0] * sides[..., 1]  # (N, M)
    union = box_area(a_xyxy)[:, None] + box_area(b_xyxy) - intersection
    # The floor acts only where the union is zero, and there the intersection is zero as well. The ceiling is
    # for rounding: a union is a difference of sums, and may fall a bit below the intersection.
    return (intersection / union.clamp(min=_tiny(union))).clamp(max=1)


def box_area(boxes_xyxy: Float[Tensor, "*dims 4"]) -> Float[Tensor, "*dims"]:
    """Area of each box in squared units of its frame; 0 for a degenerate or inverted box."""
    sides = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def cxcywh_to_xyxy(boxes_cxcywh: Float[Tensor, "*dims 4"]) -> Float[Tensor, "*dims 4"]:
    """Corners (left, top, right, bottom) of boxes given by center and size."""
    center, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return _join(center - half, center + half)


def xyxy_to_cxcywh(boxes_xyxy: Float[Tensor, "*dims 4"]) -> Float[Tensor, "*dims 4"]:
    """Center and size of boxes given by their corners."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return _join((low + high) / 2, high - low)


def encode_boxes(
    boxes_xyxy: Float[Tensor, "*#batch P 4"], priors_cxcywh: Float[Tensor, "*#batch P 4"]
) -> Float[Tensor, "... P 4"]:
    """Deltas (dx, dy, dw, dh) that turn each prior into its box.

    Centers are measured in prior sides over 0.1, sizes as log ratios over 0.2. A zero or inverted side is
    taken as a millionth of the prior's, so that the result is always finite.

    Reference:
        SSD, arXiv:1512.02325, section 2.2.
    """
    target = xyxy_to_cxcywh(boxes_xyxy)
    prior_center, prior_wh = priors_cxcywh[..., :2], priors_cxcywh[..., 2:]
    center = (target[..., :2] - prior_center) / (VARIANCES[0] * prior_wh)
    size = (target[..., 2:] / prior_wh).clamp(min=_MIN_RELATIVE_SIDE).log() / VARIANCES[1]
    return _join(center, size)


def decode_boxes(
    box_deltas: Float[Tensor, "*#batch P 4"], priors_cxcywh: Float[Tensor, "*#batch P 4"]
) -> Float[Tensor, "... P 4"]:
    """Boxes (xyxy, frame of the priors) of deltas; the inverse of `encode_boxes`.

    A side is at most e**10 times the prior's: beyond any image, and finite whatever the network says.
    """
    prior_center, prior_wh = priors_cxcywh[..., :2], priors_cxcywh[..., 2:]
    center = prior_center + box_deltas[..., :2] * (VARIANCES[0] * prior_wh)
    half = prior_wh * (box_deltas[..., 2:] * VARIANCES[1]).clamp(max=_MAX_LOG_SIDE).exp() / 2
    return _join(center - half, center + half)


def encode_landmarks(
    landmarks_xy: Float[Tensor, "*#batch P K 2"], priors_cxcywh: Float[Tensor, "*#batch P 4"]
) -> Float[Tensor, "... P two_K"]:
    """Deltas (x1, y1, x2, y2, ...) of landmarks: offsets from the prior's center in prior sides over 0.1.

    Reference:
        RetinaFace, arXiv:1905.00641, section 3.1; the variance is that of the box centers.
    """
    center, prior_wh = priors_cxcywh[..., None, :2], priors_cxcywh[..., None, 2:]  # (..., P, 1, 2)
    return ((landmarks_xy - center) / (VARIANCES[0] * prior_wh)).flatten(-2)  # (..., P, 2*K)


def decode_landmarks(
    landmark_deltas: Float[Tensor, "*#batch P two_K"], priors_cxcywh: Float[Tensor, "*#batch P 4"]
) -> Float[Tensor, "... P K 2"]:
    """Landmarks (x, y in the frame of the priors) of deltas; the inverse of `encode_landmarks`."""
    center, prior_wh = priors_cxcywh[..., None, :2], priors_cxcywh[..., None, 2:]  # (..., P, 1, 2)
    *leading, two_k = landmark_deltas.shape
    offsets = landmark_deltas.reshape(*leading, two_k // 2, 2)  # (..., P, K, 2)
    return center + offsets * (VARIANCES[0] * prior_wh)


def _join(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first, second), dim=-1)


def _tiny(like: Tensor) -> float:
    return float(torch.finfo(like.dtype).tiny)
