"""How far a predicted box is from its face: by its encoded coordinates, or by overlap."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from featherface.geometry import box_area, decode_boxes, encode_boxes
from featherface.shapes import Float


def smooth_l1_distance(
    box_deltas: Float[Tensor, "N 4"], priors_cxcywh: Float[Tensor, "N 4"], gt_boxes_xyxy: Float[Tensor, "N 4"]
) -> Float[Tensor, " N"]:
    """Smooth L1 of the four encoded coordinates, summed over them.

    Reference:
        SSD, arXiv:1512.02325, equation 2.
    """
    targets = encode_boxes(gt_boxes_xyxy, priors_cxcywh)
    return F.smooth_l1_loss(box_deltas, targets, reduction="none").sum(dim=1)


def giou_distance(
    box_deltas: Float[Tensor, "N 4"], priors_cxcywh: Float[Tensor, "N 4"], gt_boxes_xyxy: Float[Tensor, "N 4"]
) -> Float[Tensor, " N"]:
    """One minus the generalized overlap, in [0, 2]; finite with a gradient also where boxes are apart.

    Reference:
        Generalized Intersection over Union, arXiv:1902.09630, algorithm 1.
    """
    boxes_xyxy = decode_boxes(box_deltas, priors_cxcywh)
    iou, union = _paired_iou(boxes_xyxy, gt_boxes_xyxy)
    hull = _hull_wh(boxes_xyxy, gt_boxes_xyxy).prod(dim=1).clamp(min=_tiny(union))
    return 1 - iou + (hull - union) / hull


def eiou_distance(
    box_deltas: Float[Tensor, "N 4"], priors_cxcywh: Float[Tensor, "N 4"], gt_boxes_xyxy: Float[Tensor, "N 4"]
) -> Float[Tensor, " N"]:
    """One minus the overlap, plus the squared distances of centers, widths and heights over the common hull.

    Reference:
        Focal and Efficient IOU Loss, arXiv:2101.08158, equation 6.
    """
    boxes_xyxy = decode_boxes(box_deltas, priors_cxcywh)
    iou, _ = _paired_iou(boxes_xyxy, gt_boxes_xyxy)
    hull_wh = _hull_wh(boxes_xyxy, gt_boxes_xyxy)
    hull_square = hull_wh.square().clamp(min=_tiny(iou))  # (N, 2)
    center_offset = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:] - gt_boxes_xyxy[:, :2] - gt_boxes_xyxy[:, 2:]) / 2
    side_offset = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) - (gt_boxes_xyxy[:, 2:] - gt_boxes_xyxy[:, :2])
    centers = center_offset.square().sum(dim=1) / hull_square.sum(dim=1)
    return 1 - iou + centers + (side_offset.square() / hull_square).sum(dim=1)


BoxDistance = Callable[[Tensor, Tensor, Tensor], Tensor]
BOX_DISTANCES: Mapping[str, BoxDistance] = {
    "smooth_l1": smooth_l1_distance,
    "giou": giou_distance,
    "eiou": eiou_distance,
}
"""By the names of the configuration; (deltas, priors, faces) of N boxes -> (N,)."""


def predicted_iou(
    box_deltas: Float[Tensor, "N 4"], priors_cxcywh: Float[Tensor, "N 4"], gt_boxes_xyxy: Float[Tensor, "N 4"]
) -> Float[Tensor, " N"]:
    """Overlap of each predicted box with its face, in [0, 1]."""
    return _paired_iou(decode_boxes(box_deltas, priors_cxcywh), gt_boxes_xyxy)[0]


def _paired_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Overlap and union of the first box with the first, the second with the second, and so on."""
    sides = (torch.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:]) - torch.maximum(a_xyxy[:, :2], b_xyxy[:, :2])).clamp(
        min=0
    )
    intersection = sides.prod(dim=1)
    union = box_area(a_xyxy) + box_area(b_xyxy) - intersection
    return intersection / union.clamp(min=_tiny(union)), union


def _hull_wh(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    return torch.maximum(a_xyxy[:, 2:], b_xyxy[:, 2:]) - torch.minimum(a_xyxy[:, :2], b_xyxy[:, :2])


def _tiny(like: Tensor) -> float:
    return float(torch.finfo(like.dtype).tiny)
