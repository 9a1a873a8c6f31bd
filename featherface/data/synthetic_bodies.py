"""Draws what is below and behind the heads: necks, clothes, legs, and people seen from behind."""

from __future__ import annotations

from collections.abc import Callable

from featherface.data.synthetic_canvas import (
    Color,
    Dice,
    Points,
    Surface,
    ellipse,
    points,
    scaled,
    smooth,
    turned,
)
from featherface.data.synthetic_heads import Pose
from featherface.data.synthetic_people import Look

Placer = Callable[[Points], Points]


def draw_body(surface: Surface, pose: Pose, look: Look, *, standing: bool) -> None:
    """Draw the neck and clothes below a head, with legs if the person is standing; heads come after bodies."""
    unit = pose.unit_px
    # A tilted head sits beside the middle of its shoulders; a turned one in front of it.
    x = pose.x - pose.yaw / 90 * 0.3 * unit - pose.roll / 60 * 0.5 * unit
    y = pose.y

    def place(shape: Points) -> Points:
        return shape * unit + (x, y)

    if standing:
        _legs(surface, place, look)
    shoulders = 1.62 if look.beard == "none" else 1.78
    bottom = 6.2 if standing else 9.0
    torso = points((-0.36, 1.36), (-shoulders * 0.75, 1.6), (-shoulders, 2.0), (-shoulders * 1.04, 3.4),
                   (-shoulders * 0.82, bottom), (shoulders * 0.82, bottom), (shoulders * 1.04, 3.4), (shoulders, 2.0),
                   (shoulders * 0.75, 1.6), (0.36, 1.36))  # fmt: skip
    surface.polygon(place(smooth(torso, 1)), look.clothes)
    for side in (-1, 1):
        sleeve = points((side * shoulders * 0.62, 2.6), (side * shoulders * 0.74, 5.4))
        surface.stroke(place(sleeve), scaled(look.clothes, 0.72), 0.09 * unit)
    _pattern(surface, place, look, unit)
    neck = points((-0.36, 0.5), (0.36, 0.5), (0.38, 1.35), (0.16, 1.66), (-0.16, 1.66), (-0.38, 1.35))
    surface.polygon(place(smooth(neck, 1)), scaled(look.skin, 0.72))


def _legs(surface: Surface, place: Placer, look: Look) -> None:
    color = scaled(look.pattern_color, 0.5)
    for side in (-1, 1):
        leg = points((side * 0.05, 5.8), (side * 1.3, 5.8), (side * 1.1, 12.6), (side * 0.3, 12.6))
        surface.polygon(place(leg), color)
        surface.polygon(place(ellipse(side * 0.75, 12.7, 0.6, 0.25)), (30, 26, 26))


def _pattern(surface: Surface, place: Placer, look: Look, unit: float) -> None:
    color = look.pattern_color
    if look.pattern == "stripes":
        for row in range(4):
            y = 2.2 + 0.7 * row
            surface.detail(place(points((-1.5, y), (1.5, y), (1.5, y + 0.3), (-1.5, y + 0.3))), color)
    elif look.pattern == "buttons":
        for y in (2.1, 2.7, 3.3, 3.9):
            surface.detail(place(ellipse(0.0, y, 0.09, 0.09)), color)
    elif look.pattern == "tie":
        surface.detail(place(points((-0.4, 1.4), (0.4, 1.4), (0.0, 2.7))), (236, 236, 234))
        surface.detail(
            place(points((-0.12, 1.62), (0.12, 1.62), (0.22, 3.4), (0.0, 3.7), (-0.22, 3.4))), color
        )
    elif look.pattern == "zip":
        surface.stroke(place(points((0.0, 1.6), (0.0, 6.0))), scaled(look.clothes, 0.5), 0.07 * unit)
    elif look.pattern == "print":
        surface.detail(place(ellipse(0.0, 2.9, 0.62, 0.55)), color)
        surface.detail(place(ellipse(0.0, 2.9, 0.36, 0.3)), look.clothes)


def draw_back_of_head(surface: Surface, pose: Pose, look: Look) -> None:
    """Draw a person who looks away: hair, ears, nape and shoulders, but no face."""
    unit = pose.unit_px

    def place(shape: Points) -> Points:
        return shape * unit + (pose.x, pose.y)

    draw_body(surface, pose, look, standing=False)
    for side in (-1, 1):
        surface.polygon(place(ellipse(side * 0.76, 0.0, 0.1, 0.2)), scaled(look.skin, 0.86))
    color = look.skin if look.hair == "bald" else look.hair_color
    surface.polygon(place(smooth(points((-0.5, 0.2), (0.5, 0.2), (0.4, 1.3), (-0.4, 1.3)), 1)), look.skin)
    surface.polygon(place(ellipse(0.0, -0.25, 0.8, 0.98)), color)
    if look.hair in ("long", "wavy", "bob"):
        surface.polygon(place(smooth(points((-0.8, -0.3), (0.8, -0.3), (0.9, 1.6), (-0.9, 1.6)))), color)
    dice = Dice(look.seed)
    for _ in range(7):
        bend = dice.uniform(-0.6, 0.6)
        line = smooth(points((bend * 0.3, -1.1), (bend, -0.6), (bend * 1.1, 0.4)), closed=False)
        surface.stroke(place(line), scaled(color, dice.uniform(0.75, 1.3)), 0.04 * unit)


def draw_hand(surface: Surface, x: float, y: float, size: float, skin: Color, degrees: float) -> None:
    """Draw an open hand and a forearm; size is the width of the palm in pixels."""

    def place(shape: Points) -> Points:
        return turned(shape, degrees) * size + (x, y)

    surface.polygon(place(points((-0.32, 0.4), (0.32, 0.4), (0.36, 2.6), (-0.36, 2.6))), scaled(skin, 0.86))
    surface.polygon(place(smooth(points((-0.5, -0.4), (0.5, -0.4), (0.42, 0.6), (-0.42, 0.6)))), skin)
    for finger, length in enumerate((0.8, 1.0, 0.96, 0.72)):
        left = -0.46 + 0.235 * finger
        shape = points((left, -0.1), (left, -length), (left + 0.2, -length), (left + 0.2, -0.1))
        surface.polygon(place(smooth(shape, 2)), skin)
        surface.stroke(
            place(points((left + 0.21, -0.1), (left + 0.21, -0.5))), scaled(skin, 0.7), 0.04 * size
        )
    surface.polygon(place(smooth(points((0.3, 0.3), (0.8, -0.2), (0.95, -0.1), (0.5, 0.5)))), skin)
