"""Boxes, landmarks and scores on a photograph: for people, never for measuring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from featherface.imaging import RgbImage
from featherface.structures import Detections

if TYPE_CHECKING:
    import numpy.typing as npt

_BOX_RGB = (38, 222, 255)
_INK_RGB = (16, 24, 40)
# Left eye, right eye, nose, left and right corner of the mouth: left and right differ at a glance.
_LANDMARKS_RGB = ((255, 214, 10), (255, 138, 0), (255, 255, 255), (255, 92, 138), (214, 62, 255))

_REFERENCE_SIDE_PX = 900
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT_PX = 21.0  # of a digit at scale 1, measured with getTextSize
_SHIFT = 4  # fractional bits of OpenCV's coordinates: a sixteenth of a pixel
_MIN_TEXT_PX = 7.0


@dataclass(frozen=True)
class _Style:
    """Sizes that suit one image."""

    line_px: int
    outline_px: int
    text_px: float


def draw_faces(image: RgbImage, detections: Detections) -> RgbImage:
    """A copy of an image with each face's box, landmarks and score.

    Lines and text grow with the image; landmarks and scores shrink with their face, and are left out where
    they would hide it.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        detections: faces in the pixels of the image.
    """
    canvas = np.ascontiguousarray(image).copy()
    style = _style_for(canvas)
    # Best last: where faces overlap the surer one is on top.
    for index in reversed(range(len(detections))):
        box = detections.boxes_xyxy[index]
        face_px = float(min(box[2] - box[0], box[3] - box[1]))
        _draw_box(canvas, box, style)
        _draw_landmarks(canvas, detections.landmarks_xy[index], face_px)
    for index in reversed(range(len(detections))):
        _draw_score(canvas, detections.boxes_xyxy[index], float(detections.scores[index]), style)
    return canvas


def _style_for(image: RgbImage) -> _Style:
    factor = max(image.shape[:2]) / _REFERENCE_SIDE_PX
    line_px = max(1, round(2 * factor))
    return _Style(line_px, line_px + 2 * max(1, round(factor)), max(9.0, 15 * factor))


def _draw_box(canvas: RgbImage, box_xyxy: npt.NDArray[np.float32], style: _Style) -> None:
    left, top, right, bottom = (float(value) for value in box_xyxy)
    radius = 0.12 * min(right - left, bottom - top)
    outline = _rounded_rectangle(left, top, right, bottom, radius)
    # Around a small face a dark border would be wider than the face.
    if min(right - left, bottom - top) > 12 * style.outline_px:
        cv2.polylines(canvas, [outline], True, _INK_RGB, style.outline_px, cv2.LINE_AA, _SHIFT)
    cv2.polylines(canvas, [outline], True, _BOX_RGB, style.line_px, cv2.LINE_AA, _SHIFT)


def _rounded_rectangle(
    left: float, top: float, right: float, bottom: float, radius: float
) -> npt.NDArray[np.int32]:
    """Corner points (N, 2) of a rectangle with round corners, in OpenCV's fixed point."""
    centers = (
        (right - radius, top + radius, -90),
        (right - radius, bottom - radius, 0),
        (left + radius, bottom - radius, 90),
        (left + radius, top + radius, 180),
    )
    angles = np.deg2rad([np.linspace(start, start + 90, 8) for _, _, start in centers])  # (4, 8)
    x = np.array([[center[0]] for center in centers]) + radius * np.cos(angles)
    y = np.array([[center[1]] for center in centers]) + radius * np.sin(angles)
    # Continuous pixels to OpenCV's, where (0, 0) is the center of the first pixel.
    return _fixed_point(np.stack((x, y), axis=-1).reshape(-1, 2) - 0.5)


def _draw_landmarks(canvas: RgbImage, landmarks_xy: npt.NDArray[np.float32], face_px: float) -> None:
    radius_px = 0.022 * face_px
    if radius_px < 0.5:
        return
    for point, color in zip(landmarks_xy, _LANDMARKS_RGB, strict=True):
        center = [int(value) for value in _fixed_point(point - 0.5)]
        for radius, ink in ((radius_px + max(1.0, 0.4 * radius_px), _INK_RGB), (radius_px, color)):
            cv2.circle(canvas, center, round(radius * 2**_SHIFT), ink, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _draw_score(canvas: RgbImage, box_xyxy: npt.NDArray[np.float32], score: float, style: _Style) -> None:
    left, top, right, _ = (float(value) for value in box_xyxy)
    # A tag is at most as wide as its face, so that tags of a crowd do not cover their neighbors.
    text = f"{score:.2f}"
    text_px = min(style.text_px, 0.3 * (right - left))
    if text_px < _MIN_TEXT_PX:
        return
    scale, thickness = text_px / _FONT_HEIGHT_PX, max(1, round(text_px / 15))
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = round(0.35 * text_px)
    width, height = text_width + 2 * margin, text_height + 2 * margin
    # Above the box, or inside it at the upper border of the image.
    x = round(min(max(left, 0), canvas.shape[1] - width))
    y = round(top - height) if top >= height else round(max(top, 0))
    x = max(x, 0)
    cv2.rectangle(canvas, (x, y), (x + width, y + height), _BOX_RGB, cv2.FILLED)
    origin = (x + margin, y + margin + text_height)
    cv2.putText(canvas, text, origin, _FONT, scale, _INK_RGB, thickness, cv2.LINE_AA)


def _fixed_point(points: npt.NDArray[np.floating]) -> npt.NDArray[np.int32]:
    # A landmark far outside the image must not overflow OpenCV's integers.
    fixed: npt.NDArray[np.int32] = np.clip(np.round(points * 2**_SHIFT), -(2**24), 2**24).astype(np.int32)
    return fixed
