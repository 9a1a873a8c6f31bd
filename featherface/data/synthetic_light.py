"""Gives the drawn heads volume: soft light and shadow on the skin, a lamp at one side."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from featherface.data.synthetic_canvas import Points, Surface, ellipse, fill_mask, points
from featherface.data.synthetic_heads import NOSE_Y, Head


def model_skin(surface: Surface, head: Head) -> None:
    """Multiply the skin by soft light and shadow: sockets, nose, cheeks, the edge of the face."""
    step = max(1, round(head.pose.unit_px / 20))
    height, width = surface.hw
    light = np.full((-(-height // step), -(-width // step)), 128, np.uint8)

    def tint(shape: Points, value: int) -> None:
        fill_mask(light, shape / step, value)

    tint(head.skin, 112)
    tint(head.on_face(head.shrunk(0.86)), 130)
    tint(head.on_face(ellipse(0.0, -0.6, 0.42, 0.2)), 138)
    for side in (-1, 1):
        if head.is_seen(side * 0.36, 0.2):
            tint(head.on_face(ellipse(side * 0.38, 0.18, 0.2, 0.16)), 140)
            tint(head.on_face(ellipse(side * 0.22, -0.14, 0.12, 0.1)), 116)
    tint(head.on_face(ellipse(0.0, NOSE_Y + 0.12, 0.15, 0.05)), 104)
    tint(head.on_face(ellipse(0.0, 0.7, 0.2, 0.05)), 112)
    tint(head.on_face(points((-0.05, -0.2), (0.05, -0.2), (0.09, 0.22), (-0.09, 0.22)), 0.1), 146)
    light = cv2.GaussianBlur(light, (0, 0), 1.9).astype(np.uint8)
    large = cv2.resize(
        light, (light.shape[1] * step, light.shape[0] * step), interpolation=cv2.INTER_LINEAR_EXACT
    )
    mask = np.zeros((height, width), np.uint8)
    for shape in (head.skin, head.skull(-0.02)):
        fill_mask(mask, shape, 255)
    _multiply(surface, 128 + ((large[:height, :width].astype(np.int32) - 128) * mask) // 255)


def light_from_one_side(
    surface: Surface, head: Head, side_light: float, drawn: npt.NDArray[np.bool_]
) -> None:
    """Darken what was drawn of the head on the side away from the lamp.

    Args:
        surface: the picture.
        head: where the border of the shadow is.
        side_light: -1 lit from the left only, 0 from the front, 1 from the right only.
        drawn: (H, W) the pixels of the head.
    """
    unit, (x, y) = head.pose.unit_px, (head.pose.x, head.pose.y)
    step = max(1, round(unit / 8))
    height, width = surface.hw
    lamp = np.full((-(-height // step), -(-width // step)), 128, np.uint8)
    sign = 1 if side_light > 0 else -1
    dark = points((-sign * 4.0, -4.0), (-sign * 0.05, -4.0), (-sign * 0.05, 4.0), (-sign * 4.0, 4.0))
    fill_mask(lamp, head.upright(dark, (x, y)) / step, round(128 - 92 * abs(side_light)))
    lamp = cv2.GaussianBlur(lamp, (0, 0), 2.0).astype(np.uint8)
    large = cv2.resize(
        lamp, (lamp.shape[1] * step, lamp.shape[0] * step), interpolation=cv2.INTER_LINEAR_EXACT
    )
    _multiply(surface, np.where(drawn, large[:height, :width].astype(np.int32), 128))


def _multiply(surface: Surface, gain: npt.NDArray[np.int32]) -> None:
    """Multiply the picture by (H, W) factors, of which 128 stands for one."""
    surface.rgb[:] = np.minimum(surface.rgb * gain[..., None] >> 7, 255)
