"""Prior boxes (also called anchors or default boxes) of an input size; numpy only: detecting needs no torch.

Matching priors with faces happens in `losses.matching`, decoding in `geometry` and `inference`.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from featherface.shapes import Float32

STRIDES = (8, 16, 32)
"""Pixels between two neighboring cells of the levels P3, P4, P5."""
MIN_SIZES_PX = ((16, 32), (64, 128), (256, 512))
"""Sides of the square priors of every cell, one tuple a level."""


def make_priors(
    input_hw: tuple[int, int],
    *,
    strides: Sequence[int] = STRIDES,
    min_sizes_px: Sequence[Sequence[int]] = MIN_SIZES_PX,
) -> Float32[np.ndarray, "P 4"]:
    """Square priors (cx, cy, w, h) in input pixels, ordered by level, row, column, size.

    Centers are the middles of the cells, `(column + 0.5) * stride`; nothing is clipped to the image. The
    array is cached and read-only: copy it to change it. A side that is no multiple of a stride counts its
    last, cut cell.

    Args:
        input_hw: height and width of the network input in pixels.
        strides: pixels a cell, one number a level.
        min_sizes_px: sides of the priors of a cell, one tuple a level.

    Raises:
        ValueError: the levels of `strides` and `min_sizes_px` differ, or a size is not positive.

    Reference:
        RetinaFace, arXiv:1905.00641, section 3.3; two sizes on each of three levels as in its MobileNet
        variant.
    """
    if len(strides) != len(min_sizes_px):
        raise ValueError(
            "one tuple of sizes per stride is needed, "
            f"got {len(strides)} strides and {len(min_sizes_px)} tuples of sizes"
        )
    height, width = input_hw
    if min(height, width, *strides, *(size for sizes in min_sizes_px for size in sizes)) < 1:
        raise ValueError(
            f"input, strides and sizes must be positive, got {input_hw}, {strides}, {min_sizes_px}"
        )
    sizes_by_level = tuple(tuple(int(size) for size in sizes) for sizes in min_sizes_px)
    return _cached_priors(int(height), int(width), tuple(int(stride) for stride in strides), sizes_by_level)


# A training run sees one size, an evaluation at original sizes a few dozen; 64 arrays of 1024 px are about 44
# MiB.
@lru_cache(maxsize=64)
def _cached_priors(
    height: int, width: int, strides: tuple[int, ...], min_sizes_px: tuple[tuple[int, ...], ...]
) -> Float32[np.ndarray, "P 4"]:
    levels = [
        _level_priors(height, width, stride, sizes)
        for stride, sizes in zip(strides, min_sizes_px, strict=True)
    ]
    priors = np.concatenate(levels)
    priors.setflags(write=False)
    return priors


def _level_priors(
    height: int, width: int, stride: int, sizes_px: tuple[int, ...]
) -> Float32[np.ndarray, "P 4"]:
    rows, columns = -(-height // stride), -(-width // stride)
    priors = np.empty((rows, columns, len(sizes_px), 4), dtype=np.float32)
    priors[..., 0] = ((np.arange(columns, dtype=np.float32) + 0.5) * stride)[None, :, None]
    priors[..., 1] = ((np.arange(rows, dtype=np.float32) + 0.5) * stride)[:, None, None]
    priors[..., 2:] = np.asarray(sizes_px, dtype=np.float32)[:, None]
    return priors.reshape(-1, 4)  # (rows * columns * sizes, 4)
