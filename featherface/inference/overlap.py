"""How much boxes overlap; numpy only.

Dimensions: `N` boxes of one list, `M` of another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

FloatT = TypeVar("FloatT", np.float32, np.float64)
_TINY = float(np.finfo(np.float32).tiny)  # as in `geometry`: a union of zero must not divide


def box_iou(a_xyxy: npt.NDArray[FloatT], b_xyxy: npt.NDArray[FloatT]) -> npt.NDArray[FloatT]:
    """Overlap (N, M) of every box of `a` with every box of `b`, in [0, 1]; 0 where an area is zero."""
    common = intersection(a_xyxy, b_xyxy)
    a_area, b_area = box_area(a_xyxy)[:, None], box_area(b_xyxy)
    overlaps: npt.NDArray[FloatT] = common / np.maximum(a_area + b_area - common, _TINY)
    return np.minimum(overlaps, 1)


def xywh_to_xyxy(boxes_xywh: npt.NDArray[FloatT]) -> npt.NDArray[FloatT]:
    """Corners (N, 4) left, top, right, bottom of boxes given by corner and size."""
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def box_area(boxes_xyxy: npt.NDArray[FloatT]) -> npt.NDArray[FloatT]:
    """Area (N,) in square pixels, 0 where a side is not positive."""
    left, top, right, bottom = boxes_xyxy.T
    area: npt.NDArray[FloatT] = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    return area


def intersection(a_xyxy: npt.NDArray[FloatT], b_xyxy: npt.NDArray[FloatT]) -> npt.NDArray[FloatT]:
    """Common area (N, M) of every box of `a` with every box of `b`."""
    # One coordinate at a time: a (N, M, 2) intermediate costs three times as much.
    a_left, a_top, a_right, a_bottom = (column[:, None] for column in a_xyxy.T)
    b_left, b_top, b_right, b_bottom = b_xyxy.T
    width = np.minimum(a_right, b_right) - np.maximum(a_left, b_left)
    height = np.minimum(a_bottom, b_bottom) - np.maximum(a_top, b_top)
    common: npt.NDArray[FloatT] = np.maximum(width, 0) * np.maximum(height, 0)  # (N, M)
    return common
