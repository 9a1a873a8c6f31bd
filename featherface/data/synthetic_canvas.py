"""Dice and drawing board of the procedural data set: the parts that make its bytes the same on every machine.

All randomness is integers of PCG64. Angles and powers go through `math` one number at a time and are rounded
to 1/1024 before use; array arithmetic is +, -, *, / and sqrt, which IEEE 754 rounds correctly; shapes are
polygons on OpenCV's 1/16 px integer grid; blurs and resizes are OpenCV's fixed-point versions for bytes. What
is *not* used for that reason: matrix products (BLAS sums in an order of its own), float reductions, normal
deviates, float filters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

Color = tuple[int, int, int]
"""Red, green, blue in 0..255."""
Points = npt.NDArray[np.float64]
"""(N, 2) x, y in pixels; the corner of the first pixel is (0, 0), its middle (0.5, 0.5)."""
Bytes = npt.NDArray[np.uint8]

_SHIFT_BITS = 4
_GRID = 1024
T = TypeVar("T")


def on_grid(value: float) -> float:
    """Return the value rounded to 1/1024, so that a last-bit difference between math libraries disappears."""
    return math.floor(value * _GRID + 0.5) / _GRID


def cos_sin(degrees: float) -> tuple[float, float]:
    """Return cosine and sine on the 1/1024 grid."""
    radians = math.radians(degrees)
    return on_grid(math.cos(radians)), on_grid(math.sin(radians))


_CIRCLE = np.array([cos_sin(7.5 * step) for step in range(48)])


class Dice:
    """Random choices that depend on nothing but the key."""

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from low to high, both included."""
        return int(self._generator.integers(low, high, endpoint=True))

    def uniform(self, low: float, high: float) -> float:
        """Return one of 4097 evenly spaced numbers from low to high."""
        return low + (high - low) * self.integer(0, 4096) / 4096

    def bell(self, spread: float) -> float:
        """Return a number in [-spread, spread] that is mostly near zero: the mean of three uniform ones."""
        return (
            self.uniform(-spread, spread) + self.uniform(-spread, spread) + self.uniform(-spread, spread)
        ) / 3

    def log_uniform(self, low: float, high: float) -> float:
        """Return a size: every octave between low and high is equally likely."""
        return on_grid(low * math.pow(high / low, self.uniform(0.0, 1.0)))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.integer(0, 99_999) < probability * 100_000

    def pick(self, options: Sequence[T], weights: Sequence[int] | None = None) -> T:
        """Return one of the options; weights are whole numbers, equal if absent."""
        if weights is None:
            return options[self.integer(0, len(options) - 1)]
        ticket = self.integer(1, sum(weights))
        for option, weight in zip(options, weights, strict=True):
            ticket -= weight
            if ticket <= 0:
                return option
        raise AssertionError("the tickets of all options add up to the sum of the weights")

    def jitter(self, color: Color, amount: int) -> Color:
        """Return a color near this one."""
        red, green, blue = (min(255, max(0, part + self.integer(-amount, amount))) for part in color)
        return red, green, blue

    def color(self, low: int = 30, high: int = 225) -> Color:
        """Return any color, from grey to strong: most things in photographs are far from pure colors."""
        pure = self.integer(low, high), self.integer(low, high), self.integer(low, high)
        grey = sum(pure) // 3
        return mix(pure, (grey, grey, grey), self.uniform(0.1, 0.85))

    def noise(self, shape: tuple[int, ...], amplitude: int) -> npt.NDArray[np.int16]:
        """Return whole numbers with a triangular distribution in [-amplitude, amplitude]."""
        first = self._generator.integers(0, amplitude, size=shape, dtype=np.uint8, endpoint=True)
        second = self._generator.integers(0, amplitude, size=shape, dtype=np.uint8, endpoint=True)
        return first.astype(np.int16) - second

    def clouds(self, hw: tuple[int, int], cell_px: int) -> Bytes:
        """Return smooth random hills (H, W) of about this period."""
        rows, columns = hw[0] // cell_px + 3, hw[1] // cell_px + 3
        coarse = self._generator.integers(0, 255, size=(rows, columns), dtype=np.uint8, endpoint=True)
        large = cv2.resize(coarse, (columns * cell_px, rows * cell_px), interpolation=cv2.INTER_LINEAR_EXACT)
        return np.ascontiguousarray(
            large[cell_px : cell_px + hw[0], cell_px : cell_px + hw[1]], dtype=np.uint8
        )


def mix(first: Color, second: Color, share: float) -> Color:
    """Return the color that is `share` of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def scaled(color: Color, factor: float) -> Color:
    """Return the color made darker (factor below 1) or brighter."""
    red, green, blue = (min(255, round(part * factor)) for part in color)
    return red, green, blue


def points(*pairs: tuple[float, float]) -> Points:
    """Return (N, 2) points."""
    return np.array(pairs, dtype=np.float64)


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """Return the four corners."""
    return points((left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Points:
    """Return 48 points around an ellipse, which may be turned."""
    return moved(turned(_CIRCLE * np.array([radius_x, radius_y]), degrees), x, y)


def moved(shape: Points, x: float, y: float, scale: float = 1.0) -> Points:
    """Return the shape enlarged about its origin, which then is put at (x, y)."""
    placed: Points = shape * scale + np.array([x, y], dtype=np.float64)
    return placed


def turned(shape: Points, degrees: float) -> Points:
    """Return the shape turned clockwise (y points down) about the origin."""
    if degrees == 0.0:
        return shape
    cosine, sine = cos_sin(degrees)
    x, y = shape[:, 0], shape[:, 1]
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1)


def smooth(shape: Points, rounds: int = 2, *, closed: bool = True) -> Points:
    """Return the shape with its corners cut off (Chaikin's scheme); an open line keeps its ends."""
    for _ in range(rounds):
        following = np.roll(shape, -1, axis=0) if closed else shape[1:]
        current = shape if closed else shape[:-1]
        cut = np.empty((2 * len(current), shape.shape[1]))
        cut[0::2] = current * 0.75 + following * 0.25
        cut[1::2] = current * 0.25 + following * 0.75
        shape = cut if closed else np.concatenate([shape[:1], cut, shape[-1:]])
    return shape


def hull(shape: Points) -> Points:
    """Return the convex hull, found on the 1/16 px grid."""
    corners: Points = cv2.convexHull(_fixed(shape))[:, 0, :].astype(np.float64)
    return corners / (1 << _SHIFT_BITS) + 0.5


def _fixed(shape: Points) -> npt.NDArray[np.int32]:
    # OpenCV counts from the middle of the first pixel, we from its corner.
    return np.floor((shape - 0.5) * (1 << _SHIFT_BITS) + 0.5).astype(np.int32)


def fill_mask(mask: Bytes, shape: Points, value: int) -> None:
    """Fill a polygon in an (H, W) byte map, with smooth edges."""
    cv2.fillPoly(mask, [_fixed(shape)], (value,), cv2.LINE_AA, _SHIFT_BITS)


class Surface:
    """An RGB picture and, beside it, which face is visible in each pixel."""

    def __init__(self, rgb: Bytes, labels: Bytes | None = None) -> None:
        self.rgb = rgb
        """(H, W, 3)."""
        self.labels: Bytes = np.zeros(rgb.shape[:2], np.uint8) if labels is None else labels
        """(H, W): 0 no face, otherwise the number that the face was drawn with."""

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]

    def polygon(self, shape: Points, color: Color, *, label: int = 0) -> None:
        """Fill a polygon; it hides the faces below it or, with a label, becomes a part of that face."""
        fixed = _fixed(shape)
        cv2.fillPoly(self.rgb, [fixed], color, cv2.LINE_AA, _SHIFT_BITS)
        cv2.fillPoly(self.labels, [fixed], (label,), cv2.LINE_8, _SHIFT_BITS)

    def detail(self, shape: Points, color: Color) -> None:
        """Fill a polygon that belongs to whatever is below it, such as an eye."""
        cv2.fillPoly(self.rgb, [_fixed(shape)], color, cv2.LINE_AA, _SHIFT_BITS)

    def stroke(self, line: Points, color: Color, width_px: float, *, closed: bool = False) -> None:
        """Draw a line that belongs to whatever is below it; thinner than a third of a pixel: not at all."""
        if width_px < 0.35:
            return
        thickness = max(1, round(width_px))
        cv2.polylines(self.rgb, [_fixed(line)], closed, color, thickness, cv2.LINE_AA, _SHIFT_BITS)

    def enlarged(self, window_xyxy: tuple[int, int, int, int], factor: int) -> Surface:
        """Return a copy of a window, each pixel repeated factor x factor times."""
        left, top, right, bottom = window_xyxy
        rgb, labels = self.rgb[top:bottom, left:right], self.labels[top:bottom, left:right]
        if factor > 1:
            rgb = rgb.repeat(factor, axis=0).repeat(factor, axis=1)
            labels = labels.repeat(factor, axis=0).repeat(factor, axis=1)
        return Surface(np.ascontiguousarray(rgb), np.ascontiguousarray(labels))

    def put_back(self, window_xyxy: tuple[int, int, int, int], factor: int, part: Surface) -> None:
        """Put an enlarged window back: colors are averaged, labels sampled in the middle."""
        left, top, right, bottom = window_xyxy
        small = cv2.resize(part.rgb, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        self.rgb[top:bottom, left:right] = small if factor > 1 else part.rgb
        self.labels[top:bottom, left:right] = part.labels[factor // 2 :: factor, factor // 2 :: factor]
