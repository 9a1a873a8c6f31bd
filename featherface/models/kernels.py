"""The fixed 5x5 kernels of innovations 3 and 4, worked out from their definitions; numpy only."""

import math
from collections.abc import Sequence

import numpy as np

from featherface.shapes import Float32, Float64

RADIUS = 2
"""Kernels are cropped to 5x5 and rescaled to sum 1; at most 1.3 % of their mass is lost."""
_WIDE = 12
"""Radius within which kernels are composed before they are cropped."""


def scale_space_kernel(scales: Sequence[float], *, residual: float) -> Float32[np.ndarray, "5 5"]:
    """Kernel of the steps x <- (x + residual * g_t * x) / (1 + residual), one step a scale.

    g_t is the Gaussian that removes what a copy of relative size `scale` could not show: its standard
    deviation is sqrt(1 / scale**2 - 1) / 2 pixels, the usual one before subsampling; at scale 1 it is the
    identity.
    """
    total = _impulse_2d()
    for scale in scales:
        row = _gaussian((1 / scale**2 - 1) / 4)
        blurred = _convolve_rows_and_columns(total, row)
        total = (total + residual * blurred) / (1 + residual)
    return _crop(total)


def resize_kernel(scales: Sequence[float]) -> Float32[np.ndarray, "5 5"]:
    """Kernel of the weighted mean of copies resized (bilinear) to each scale and back.

    Weights are `scale_weights`. The response of resizing depends on where a pixel lies on the coarser grid;
    this is its mean over all places.
    """
    total = np.zeros_like(_impulse_2d())
    for weight, scale in zip(scale_weights(scales), scales, strict=True):
        row = _resize_response(scale)
        total += weight * np.outer(row, row)
    return _crop(total)


def scale_weights(scales: Sequence[float]) -> tuple[float, ...]:
    """Weights sqrt(scale) / sum of sqrt(scale): they sum to 1."""
    roots = [math.sqrt(scale) for scale in scales]
    return tuple(root / sum(roots) for root in roots)


def _resize_response(scale: float) -> Float64[np.ndarray, " taps"]:
    """Mean response of bilinear resizing to `scale` and back, centers of pixels at half-integers.

    Twenty neighboring pixels meet all places on the coarser grid when the scale is a multiple of 0.05.
    """
    places = 20
    response = np.zeros(2 * _WIDE + 1)
    for place in range(places):
        for small, share in _bilinear((place + 0.5) * scale - 0.5):
            for pixel, part in _bilinear((small + 0.5) / scale - 0.5):
                response[pixel - place + _WIDE] += share * part / places
    return response


def _bilinear(position: float) -> tuple[tuple[int, float], tuple[int, float]]:
    # Rounded, so that positions on the grid do not fall one pixel short of it.
    position = round(position, 9)
    left = math.floor(position)
    return (left, 1 - (position - left)), (left + 1, position - left)


def _gaussian(variance: float) -> Float64[np.ndarray, " taps"]:
    offsets = np.arange(-_WIDE, _WIDE + 1, dtype=np.float64)
    # The floor makes an impulse of the Gaussian of variance 0: its neighbors underflow to 0.
    values = np.exp(-(offsets**2) / (2 * max(variance, 1e-6)))
    return np.asarray(values / values.sum(), dtype=np.float64)


def _impulse_2d() -> Float64[np.ndarray, "taps taps"]:
    return np.outer(_gaussian(0.0), _gaussian(0.0))


def _convolve_rows_and_columns(
    image: Float64[np.ndarray, "taps taps"], row: Float64[np.ndarray, " taps"]
) -> Float64[np.ndarray, "taps taps"]:
    for _ in range(2):
        image = np.stack([np.convolve(line, row, mode="same") for line in image]).T
    return image


def _crop(kernel: Float64[np.ndarray, "taps taps"]) -> Float32[np.ndarray, "5 5"]:
    window = slice(_WIDE - RADIUS, _WIDE + RADIUS + 1)
    cropped = kernel[window, window]
    return np.asarray(cropped / cropped.sum(), dtype=np.float32)
