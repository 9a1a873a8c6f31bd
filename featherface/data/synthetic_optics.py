"""What the camera does to a scene: light, lens, motion, sensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from featherface.data.synthetic_canvas import Bytes, Color, Dice, cos_sin

_STRONG_BLUR, _SLIGHT_BLUR = 0.055, 0.022


@dataclass(frozen=True)
class Optics:
    """The conditions of one photograph; the pixels of the image are the unit of every length."""

    gain: float
    """Exposure: 1 as drawn, below darker."""
    cast: Color
    """Color of the light, 255 per part for white."""
    defocus_px: float
    """Standard deviation of the blur of the whole image."""
    motion_px: int
    """Length of the trail of the camera's movement."""
    motion_degrees: float
    grain: int
    jpeg_quality: int
    vignette: float

    def blur_flag(self, extra_sigma_px: float, face_height_px: float) -> Literal[0, 1, 2]:
        """Return WIDER FACE's blur of a face: 0 clear, 1 normal, 2 heavy."""
        # A trail of length L spreads like a deviation of L / sqrt(12), i.e. 0.29 L.
        variance = extra_sigma_px**2 + self.defocus_px**2 + (0.29 * self.motion_px) ** 2
        relative_squared = variance / face_height_px**2
        if relative_squared > _STRONG_BLUR**2:
            return 2
        return 1 if relative_squared > _SLIGHT_BLUR**2 else 0

    @property
    def is_extreme(self) -> bool:
        """Whether WIDER FACE would call the illumination extreme."""
        return self.gain < 0.6 or self.gain > 1.45


def make_optics(dice: Dice, *, is_night: bool) -> Optics:
    """Return the conditions of one photograph; about half of them are plain daylight or lamp light."""
    gain = (
        dice.uniform(0.32, 0.75)
        if is_night
        else dice.pick(
            (dice.uniform(0.85, 1.12), dice.uniform(0.5, 0.85), dice.uniform(1.15, 1.55)), (7, 2, 1)
        )
    )
    warm, cold = (255, dice.integer(205, 245), dice.integer(160, 225)), (dice.integer(190, 235), 235, 255)
    cast = dice.pick(((255, 255, 255), warm, cold), (2, 1, 1) if is_night else (5, 2, 2))
    blurry = dice.chance(0.22)
    return Optics(
        gain=gain,
        cast=cast,
        defocus_px=dice.uniform(0.8, 1.9) if blurry else dice.pick((0.0, 0.5), (2, 1)),
        motion_px=dice.integer(3, 9) if dice.chance(0.1) else 0,
        motion_degrees=float(dice.integer(0, 179)),
        grain=dice.integer(4, 14) if is_night else dice.pick((2, 4, 9), (5, 3, 2)),
        jpeg_quality=dice.pick((88, 75, 50), (6, 3, 1)),
        vignette=dice.uniform(0.0, 0.45),
    )


def photograph(rgb: Bytes, optics: Optics, dice: Dice) -> Bytes:
    """Return the (H, W, 3) image as this camera records it."""
    image = defocus(rgb, optics.defocus_px)
    if optics.motion_px:
        image = _smear(image, optics.motion_px, optics.motion_degrees)
    height, width = image.shape[:2]
    # Fixed point, 8 bits: gain 1 in white light is 256.
    gains = np.array([round(optics.gain * 256 * part / 255) for part in optics.cast], np.int32)
    rows = np.arange(height, dtype=np.int32) * 2 - height
    columns = np.arange(width, dtype=np.int32) * 2 - width
    distance = (rows * rows)[:, None] * 256 // height**2 + (columns * columns)[None, :] * 256 // width**2
    falloff = 256 - distance * round(optics.vignette * 128) // 256
    exposed = image * (gains * falloff[..., None] >> 8) >> 8
    recorded: Bytes = np.clip(exposed + dice.noise(image.shape, optics.grain), 0, 255).astype(np.uint8)
    return recorded


def defocus(rgb: Bytes, sigma_px: float) -> Bytes:
    """Return the image blurred by a Gaussian; nothing happens below a third of a pixel."""
    if sigma_px < 0.34:
        return rgb
    blurred: Bytes = cv2.GaussianBlur(rgb, (0, 0), sigma_px).astype(np.uint8)
    return blurred


def _smear(rgb: Bytes, length_px: int, degrees: float) -> Bytes:
    """Return the mean of copies along a line."""
    cosine, sine = cos_sin(degrees)
    height, width = rgb.shape[:2]
    margin = length_px
    wide = cv2.copyMakeBorder(rgb, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    total = np.zeros(rgb.shape, np.int32)
    for step in range(length_px):
        offset = step - length_px / 2
        top, left = margin + round(offset * sine), margin + round(offset * cosine)
        total += wide[top : top + height, left : left + width].astype(np.int32)
    return (total // length_px).astype(np.uint8)
