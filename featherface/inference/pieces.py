"""What people do with faces that are found: cut them out, turn them upright, make them unrecognizable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from featherface.imaging import RgbImage
from featherface.inference.options import real_number, whole_number

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating]

TEMPLATE_SIDE_PX = 112
TEMPLATE_XY = np.asarray(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where eyes, nose and corners of the mouth lie in an aligned face of 112 px: the template of ArcFace
(arXiv:1801.07698), which most networks that compare faces expect."""

# OpenCV averages when it resizes, never when it warps: a warp that shrinks further passes over pixels.
_MOST_SHRUNK_UNAVERAGED = 1.5
# Around an aligned face; a warp looks one pixel beyond it.
_SURROUNDINGS_PX = 2
# A blurred face has so many patches in each direction, however large it is: too few to tell who it is.
_BLUR_PATCHES = 6
# Hair and ears give people away as well.
_BLUR_MARGIN = 0.15


def check_margin(margin: float) -> float:
    """The margin of a crop.

    Raises:
        OptionError: it is no number, below 0, or without end.
    """
    return real_number("margin", margin, 0)


def check_side(size_px: int) -> int:
    """The side of an aligned face.

    Raises:
        OptionError: it is no whole number, or below 1.
    """
    return whole_number("size_px", size_px, 1)


def crop_face(image: RgbImage, box_xyxy: Floats, *, margin: float = 0.0) -> RgbImage:
    """A copy of the part of an image that a box covers, at least one pixel.

    Args:
        image: (H, W, 3) uint8 RGB.
        box_xyxy: (4,) in its pixels.
        margin: added on each side, in parts of the box's side; what leaves the image is cut.

    Raises:
        OptionError: as of `check_margin`.
    """
    left, top, right, bottom = _whole_pixels(image, box_xyxy, check_margin(margin))
    return np.asarray(image[top:bottom, left:right].copy(), dtype=np.uint8)


def align_face(image: RgbImage, landmarks_xy: Floats, *, size_px: int = TEMPLATE_SIDE_PX) -> RgbImage:
    """A square picture in which the face is upright and its five points lie where networks expect them.

    The points are moved, turned and scaled together (no shear, no mirror), by the least squares of their
    distances. What lies outside the image is black. Where the face is larger than the square, its pixels are
    averaged.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks_xy: (5, 2) in its pixels.
        size_px: side of the square.

    Raises:
        OptionError: as of `check_side`.

    Reference:
        Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
        IEEE PAMI 13(4), 1991.
    """
    size_px = check_side(size_px)
    matrix = similarity(landmarks_xy, TEMPLATE_XY * (size_px / TEMPLATE_SIDE_PX))
    if np.hypot(*matrix[:, 0]) < 1 / _MOST_SHRUNK_UNAVERAGED:
        image, matrix = _shrunk_surroundings(image, matrix, size_px)
    # Continuous coordinates to OpenCV's, where (0, 0) is the middle of the first pixel.
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    aligned = cv2.warpAffine(np.ascontiguousarray(image), matrix, (size_px, size_px), flags=cv2.INTER_LINEAR)
    return np.asarray(aligned, dtype=np.uint8)


def _shrunk_surroundings(
    image: RgbImage, matrix: npt.NDArray[np.float64], size_px: int
) -> tuple[RgbImage, npt.NDArray[np.float64]]:
    """What a (2, 3) matrix brings into a square, as small as it will be there, and the matrix from it on."""
    turn, shift = matrix[:, :2], matrix[:, 2]
    near, far = -_SURROUNDINGS_PX, size_px + _SURROUNDINGS_PX
    corners = np.asarray([[near, near], [far, near], [near, far], [far, far]])
    # A pseudoinverse, as points of a damaged network may have a best scale of 0.
    corners_xy = (corners - shift) @ np.linalg.pinv(turn).T
    box_xyxy = np.concatenate([corners_xy.min(axis=0), corners_xy.max(axis=0)])
    left, top, right, bottom = _whole_pixels(image, box_xyxy, 0.0)
    width, height, scale = right - left, bottom - top, np.hypot(*turn[:, 0])
    small_wh = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image[top:bottom, left:right], small_wh, interpolation=cv2.INTER_AREA)
    from_small = turn * (width / small_wh[0], height / small_wh[1])
    return np.asarray(small, dtype=np.uint8), np.column_stack([from_small, shift + turn @ (left, top)])


def similarity(source_xy: Floats, target_xy: Floats) -> npt.NDArray[np.float64]:
    """(2, 3) matrix that moves, turns and scales the source points (N, 2) nearest to the target points.

    Points that all coincide are moved only.
    """
    source, target = (np.asarray(points, dtype=np.float64) for points in (source_xy, target_xy))
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    # As complex numbers: a turn with a scale is one factor, and the best one a projection.
    from_center = (source - source_mean) @ (1, 1j)
    to_center = (target - target_mean) @ (1, 1j)
    spread = float(np.vdot(from_center, from_center).real)
    factor = np.vdot(from_center, to_center) / spread if spread > 0 else 1.0 + 0j
    turn = np.asarray([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([turn, target_mean - turn @ source_mean])


def blur_faces(image: RgbImage, boxes_xyxy: Floats) -> RgbImage:
    """A copy of an image in which nobody of those in the boxes can be recognized.

    Each face, with a margin, becomes a smooth picture of six by six patches, whatever its size: what is gone
    cannot be computed back.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        boxes_xyxy: (N, 4) in its pixels.
    """
    canvas = np.ascontiguousarray(image).copy()
    for box_xyxy in boxes_xyxy:
        left, top, right, bottom = _whole_pixels(canvas, box_xyxy, _BLUR_MARGIN)
        face = canvas[top:bottom, left:right]
        patches = cv2.resize(face, (_BLUR_PATCHES, _BLUR_PATCHES), interpolation=cv2.INTER_AREA)
        canvas[top:bottom, left:right] = cv2.resize(
            patches, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
        )
    return canvas


def _whole_pixels(image: RgbImage, box_xyxy: Floats, margin: float) -> tuple[int, int, int, int]:
    """The pixels that a box touches, left to bottom, inside the image; one at least in each direction."""
    height, width = image.shape[:2]
    left, top, right, bottom = (float(value) for value in box_xyxy)
    pad_x, pad_y = margin * (right - left), margin * (bottom - top)
    x0 = int(np.clip(np.floor(left - pad_x), 0, width - 1))
    y0 = int(np.clip(np.floor(top - pad_y), 0, height - 1))
    x1 = int(np.clip(np.ceil(right + pad_x), x0 + 1, width))
    y1 = int(np.clip(np.ceil(bottom + pad_y), y0 + 1, height))
    return x0, y0, x1, y1
