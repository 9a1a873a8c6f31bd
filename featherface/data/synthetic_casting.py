"""Decides where the people of a scene are and where they look."""

from __future__ import annotations

from featherface.data.synthetic_bodies import FEET
from featherface.data.synthetic_canvas import Dice
from featherface.data.synthetic_heads import Pose

MIN_FACE_PX, MAX_FACE_PX = 8.0, 300.0


def place_group(
    dice: Dice, *, count: int, face_px: tuple[float, float], image_hw: tuple[int, int], ground: float | None
) -> list[Pose]:
    """Return people who overlap little, far (small) ones first; there may be fewer than `count`.

    Args:
        dice: decides.
        count: people wanted.
        face_px: range of the faces' heights; each octave is equally likely.
        image_hw: height and width of the picture.
        ground: where the ground begins, as a share of the picture's height: feet are below it, or outside the
            picture. None: anywhere.
    """
    height, width = image_hw
    poses: list[Pose] = []
    for _ in range(count):
        for _attempt in range(6):
            low, high = max(face_px[0], MIN_FACE_PX), min(face_px[1], MAX_FACE_PX)
            unit = min(dice.log_uniform(low, high), 0.75 * min(image_hw)) / 2
            x, y = dice.uniform(0.3 * unit, width - 0.3 * unit), dice.uniform(0.9 * unit, height - 1.2 * unit)
            if ground is not None and not dice.chance(0.15):
                highest = max(1.1 * unit, ground * height - FEET * unit)
                # The nearer, the larger and the lower; but the ground may rise and fall.
                y = highest + max(0.0, height - 1.2 * unit - highest) * dice.uniform(
                    0.0, min(1.0, 0.2 + unit / 40)
                )
            reach = dice.uniform(0.9, 1.9)
            if all(_apart(pose, x, y, reach * max(pose.unit_px, unit)) for pose in poses):
                poses.append(turn(dice, x, y, unit))
                break
    return sorted(poses, key=lambda pose: pose.unit_px)


def place_rows(
    dice: Dice, *, count: int, face_px: tuple[float, float], image_hw: tuple[int, int]
) -> list[Pose]:
    """Return a crowd in rows that hide a part of each other, the last row first."""
    height, width = image_hw
    rows = dice.integer(2, 4)
    columns = -(-count // rows)
    largest = min(face_px[1], 0.8 * width / columns)
    unit = dice.log_uniform(min(face_px[0] * 1.3, largest * 0.8), largest) / 2
    spacing = min(dice.uniform(2.6, 5.5) * unit, width / columns)
    left = dice.uniform(0.3, 1.0) * (width - spacing * (columns - 1)) * dice.uniform(0.3, 1.0)
    y = dice.uniform(0.12, 0.55) * height
    poses: list[Pose] = []
    for row in range(rows):
        size = unit * (0.8 + 0.2 * row)
        for column in range(min(columns, count - len(poses))):
            x = left + spacing * (column + 0.5 * (row % 2)) + dice.bell(0.5) * unit
            one = max(size * dice.uniform(0.92, 1.08), MIN_FACE_PX / 2)
            poses.append(turn(dice, x, y + dice.bell(0.8) * unit, one))
        y += dice.uniform(1.7, 2.9) * size
    return [pose for pose in poses if 0 < pose.x < width and 0 < pose.y < height]


def turn(dice: Dice, x: float, y: float, unit_px: float) -> Pose:
    """Return a pose: most people look about into the camera, one in eight is seen from the side."""
    yaw = dice.pick((-1, 1)) * dice.uniform(50, 84) if dice.chance(0.12) else dice.bell(60)
    roll = dice.bell(110) if dice.chance(0.08) else dice.bell(28)
    return Pose(x, y, unit_px, float(round(yaw)), float(round(dice.bell(34))), float(round(roll)))


def _apart(pose: Pose, x: float, y: float, limit: float) -> bool:
    return (pose.x - x) ** 2 + (pose.y - y) ** 2 > limit * limit
