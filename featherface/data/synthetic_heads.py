"""The shape of a head in space, and where it falls in the picture.

Head coordinates: x to the viewer's right, y down, z toward the viewer, origin in the middle of the face; the
unit is half the height of a face seen from the front (hairline at y = -1, chin at y = 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from featherface.data.synthetic_canvas import Points, cos_sin, ellipse, hull, moved, points, smooth, turned
from featherface.data.synthetic_people import Look

EYE_X, EYE_Y = 0.31, -0.13
NOSE_Y, MOUTH_Y = 0.27, 0.53
_RIM_Z, _FRONT_Z = -0.18, 0.95
_SKULL_CENTER = (0.0, -0.27, -0.34)
# Right half of the face's outline from the hairline to the chin: width as a share of `face_width`, height;
# between the two, at the height of the mouth, comes the jaw.
_UPPER_OUTLINE = ((0.0, -1.0), (0.42, -0.98), (0.80, -0.84), (0.97, -0.50), (1.0, -0.10), (0.96, 0.28))
_JAW_Y = 0.66
_LOWER_OUTLINE = ((0.40, 0.97), (0.0, 1.03))


@dataclass(frozen=True)
class Pose:
    """Where a head is and where it looks; lengths in pixels, angles in degrees."""

    x: float
    y: float
    unit_px: float
    """Half the height of the face."""
    yaw: float = 0.0
    """Positive: the face turns toward the right edge of the picture."""
    pitch: float = 0.0
    """Positive: looks down."""
    roll: float = 0.0
    """Positive: clockwise."""

    @property
    def is_atypical(self) -> bool:
        """Whether WIDER FACE would call the pose atypical."""
        return abs(self.yaw) > 50 or abs(self.roll) > 40 or abs(self.pitch) > 28

    def within(self, left: int, top: int, factor: int) -> Pose:
        """Return the same pose in the pixels of an enlarged window."""
        return replace(
            self, x=(self.x - left) * factor, y=(self.y - top) * factor, unit_px=self.unit_px * factor
        )


@dataclass(frozen=True)
class Head:
    """A person's head in a pose: turns places on the face into pixels."""

    pose: Pose
    look: Look

    @cached_property
    def _angles(self) -> tuple[tuple[float, float], tuple[float, float]]:
        return cos_sin(self.pose.yaw), cos_sin(self.pose.pitch)

    def project(self, x: Points, y: Points, z: Points) -> Points:
        """Return the (N, 2) pixels of points in head coordinates, seen without perspective."""
        (cos_yaw, sin_yaw), (cos_pitch, sin_pitch) = self._angles
        sideways = x * cos_yaw + z * sin_yaw
        toward = z * cos_yaw - x * sin_yaw
        down = y * cos_pitch + toward * sin_pitch
        flat: Points = turned(np.stack([sideways, down], axis=1), self.pose.roll)
        return moved(flat, self.pose.x, self.pose.y, self.pose.unit_px)

    def surface_z(self, x: Points, y: Points) -> Points:
        """Return the height of the face's surface above the plane of the ears."""
        width = self.look.face_width + 0.09
        inside = 1.0 - x * x / (width * width) - y * y / 1.82
        lifted: Points = np.sqrt(np.maximum(inside, 0.0))
        return _RIM_Z + _FRONT_Z * lifted

    def on_face(self, shape: Points, raised: float = 0.0) -> Points:
        """Return the pixels of a (N, 2) shape drawn on the skin, or `raised` above it.

        What would be on the side turned away is drawn onto the edge that is just seen.
        """
        y = shape[:, 1]
        x = self._pulled_into_view(shape[:, 0], y)
        return self.project(x, y, self.surface_z(x, y) + raised)

    def _pulled_into_view(self, x: Points, y: Points) -> Points:
        (cos_yaw, sin_yaw), _ = self._angles
        if sin_yaw == 0.0:
            return x
        # Where the normal of the ellipse (x / width, z / depth) is at a right angle to the line of sight.
        width = self.look.face_width + 0.09
        slant = float(np.sqrt(width * width * cos_yaw * cos_yaw + _FRONT_Z * _FRONT_Z * sin_yaw * sin_yaw))
        edge = np.sqrt(np.maximum(1.0 - y * y / 1.82, 0.0)) * (width * width * cos_yaw / slant)
        visible: Points = np.minimum(x, edge) if sin_yaw > 0 else np.maximum(x, -edge)
        return visible

    def is_far(self, side: int) -> bool:
        """Whether this half of the head (-1 left, 1 right) is turned away."""
        return side * self.pose.yaw > 18

    def at_depth(self, shape: Points, z: float) -> Points:
        """Return the pixels of a flat (N, 2) shape parallel to the face."""
        return self.project(shape[:, 0], shape[:, 1], np.full(len(shape), z))

    def is_seen(self, x: float, y: float) -> bool:
        """Whether the skin at this place faces the viewer."""
        cos_yaw, sin_yaw = self._angles[0]
        width = self.look.face_width + 0.09
        z = float(self.surface_z(np.array([x]), np.array([y]))[0])
        slope_x, slope_z = x / (width * width), (z - _RIM_Z) / (_FRONT_Z * _FRONT_Z)
        return slope_z * cos_yaw - slope_x * sin_yaw > 0.09

    @cached_property
    def outline(self) -> Points:
        """(N, 2) head coordinates of the face's outline in the plane of the ears."""
        shares = (*_UPPER_OUTLINE, (self.look.jaw_width, _JAW_Y), *_LOWER_OUTLINE)
        half = [(share * self.look.face_width, y) for share, y in shares]
        left = [(-x, y) for x, y in reversed(half[1:-1])]
        return smooth(points(*half, *left))

    @cached_property
    def skin(self) -> Points:
        """(N, 2) pixels of the face's silhouette: ear to ear, or ear to nose in profile; hairline to chin."""
        return hull(np.concatenate([self.at_depth(self.shrunk(share), z) for share, z in _SECTIONS]))

    def shrunk(self, share: float) -> Points:
        """Return the outline made smaller about the middle of the face."""
        smaller: Points = self.outline * np.array([share, 0.5 + 0.5 * share])
        return moved(smaller, 0.0, 0.04 * (1.0 - share))

    def skull(self, volume: float = 0.0) -> Points:
        """Return the pixels of the round part of the head, with hair of this thickness."""
        cos_yaw, sin_yaw = self._angles[0]
        side, depth = self.look.face_width + 0.07, 0.92
        radius = np.sqrt(side * side * cos_yaw * cos_yaw + depth * depth * sin_yaw * sin_yaw)
        center = self.skull_center
        width, height = (float(radius) + volume) * self.pose.unit_px, (0.95 + volume) * self.pose.unit_px
        return ellipse(center[0], center[1], width, height, self.pose.roll)

    @cached_property
    def skull_center(self) -> tuple[float, float]:
        """Pixel of the middle of the round part of the head."""
        place = self.project(*(np.array([part]) for part in _SKULL_CENTER))[0]
        return float(place[0]), float(place[1])

    def upright(self, shape: Points, origin: tuple[float, float] | None = None) -> Points:
        """Return a shape in units of half a face, turned with the head, about a pixel (default: skull)."""
        x, y = origin or self.skull_center
        return moved(turned(shape, self.pose.roll), x, y, self.pose.unit_px)

    @cached_property
    def landmarks(self) -> Points:
        """(5, 2) pixels: left and right eye as seen, tip of the nose, left and right corner of the mouth."""
        corner = self.look.mouth_width
        on_skin = self.on_face(points((-EYE_X, EYE_Y), (EYE_X, EYE_Y), (-corner, MOUTH_Y), (corner, MOUTH_Y)))
        return np.concatenate([on_skin[:2], self.nose_tip, on_skin[2:]])

    @cached_property
    def nose_tip(self) -> Points:
        """(1, 2) pixels."""
        return self.on_face(points((0.0, NOSE_Y - 0.03)), raised=0.2)

    @cached_property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        """Pixels of the tight box around the face, which may leave the picture."""
        all_points = np.concatenate([self.skin, self.nose_tip])
        left, top = all_points.min(axis=0).tolist()
        right, bottom = all_points.max(axis=0).tolist()
        return left, top, right, bottom

    @cached_property
    def area_px(self) -> float:
        """Area of the face's silhouette, whether inside the picture or not."""
        x, y = (np.floor(self.skin * 16).astype(np.int64)).T
        twice = int((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
        return max(1.0, abs(twice) / 512)


# Slices of the face from the ears to the tip of the cheeks: size and depth; their convex hull is the outline.
_SECTIONS = ((1.0, -0.14), (0.93, 0.2), (0.72, 0.52), (0.42, 0.7))
