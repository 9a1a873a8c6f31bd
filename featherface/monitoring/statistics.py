"""What pictures and detections are like in numbers, and how far two sets of them are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from featherface.imaging import RgbImage
    from featherface.inference.results import Faces

SHIFTED = 0.25
"""Population stability from which a distribution counts as another one; between 0.1 and this it has moved."""

# Sharpness depends on resolution: all are looked at in one.
_LOOKED_AT_PX = 320
_NUM_BINS = 10
# An empty bin must not make the index infinite.
_SHARE_FLOOR = 1e-3


def picture_statistics(image: RgbImage) -> dict[str, float]:
    """Of an RGB (H, W, 3) uint8 image.

    Returns:
        `brightness` and `contrast` (mean and deviation of luma, 0..255), `sharpness` (logarithm of the
        variance of the Laplacian at a long side of 320 px), `short_side_px`.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _LOOKED_AT_PX / max(height, width))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return {
        "brightness": float(luma.mean()),
        "contrast": float(luma.std()),
        "sharpness": float(np.log1p(cv2.Laplacian(luma, cv2.CV_64F).var())),
        "short_side_px": float(min(height, width)),
    }


def face_statistics(faces: Faces) -> dict[str, list[float]]:
    """Of what was found in one image: `num_faces`, and each face's `score` and `face_height_px`."""
    return {
        "num_faces": [float(len(faces))],
        "score": [float(score) for score in faces.scores],
        "face_height_px": [float(height) for height in faces.boxes[:, 3] - faces.boxes[:, 1]],
    }


def population_stability(expected: Sequence[float], actual: Sequence[float]) -> float:
    """How far apart two samples of one quantity are; 0: the same distribution.

    The sum over ten bins of (a - e) ln(a / e), for the shares e and a of the samples; the bins are the
    deciles of the expected one. Shares below 0.001 count as that. Values that are not finite are left out.

    Args:
        expected: of the time when all was well.
        actual: of now.

    Returns:
        The index; NaN if a sample is empty.
    """
    then, now = (np.asarray(sample, dtype=np.float64) for sample in (expected, actual))
    then, now = then[np.isfinite(then)], now[np.isfinite(now)]
    if not then.size or not now.size:
        return float("nan")
    edges = np.unique(np.quantile(then, np.linspace(0, 1, _NUM_BINS + 1)[1:-1]))
    shares = [_shares(sample, edges) for sample in (then, now)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def compare(
    expected: Mapping[str, Sequence[float]], actual: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """Population stability of every quantity that both have values of: without faces there are no scores."""
    both = sorted(expected.keys() & actual.keys())
    indices = {name: population_stability(expected[name], actual[name]) for name in both}
    return {name: index for name, index in indices.items() if not math.isnan(index)}


def _shares(sample: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # Half-open to the right, so that a value on an edge is with those above it, in both samples.
    counts = np.bincount(np.searchsorted(edges, sample, side="right"), minlength=edges.size + 1)
    return np.maximum(counts / sample.size, _SHARE_FLOOR)
