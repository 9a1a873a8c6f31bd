"""Draws what is below and behind the heads: necks, clothes, legs, and people seen from behind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featherface.data.synthetic_canvas import (
    Color,
    Dice,
    Points,
    Surface,
    ellipse,
    moved,
    points,
    scaled,
    smooth,
    turned,
)
from featherface.data.synthetic_heads import Pose
from featherface.data.synthetic_people import Look

Placer = Callable[[Points], Points]
FEET = 12.8
"""How far the soles of an adult are below the middle of the face, in halves of the face's height."""

# The right arm; x is a share of the width of the shoulders.
_HANGING_ARM = points((0.62, 1.75), (1.02, 1.9), (1.3, 4.2), (1.2, 6.0), (0.95, 6.0), (0.96, 4.3))
_RAISED_ARM = points((0.62, 2.3), (0.7, 1.6), (1.3, 2.4), (1.5, -0.2), (1.8, -0.1), (1.65, 3.1))
_HANGING_HAND, _RAISED_HAND = points((1.08, 6.3)), points((1.65, -0.55))
_HAND = ellipse(0.0, 0.0, 0.34, 0.48)


def draw_body(surface: Surface, pose: Pose, look: Look) -> None:
    """Draw neck, clothes, arms and legs of the person whose head is drawn next."""
    unit = pose.unit_px
    # A tilted head sits beside the middle of its shoulders; a turned one in front of it.
    x = pose.x - pose.yaw / 90 * 0.3 * unit - pose.roll / 60 * 0.5 * unit
    y = pose.y

    def place(shape: Points) -> Points:
        return moved(shape, x, y, unit)

    if y + 5.5 * unit < surface.hw[0]:
        _legs(surface, place, look)
    half = look.shoulder_width
    if look.arms != "folded":
        _hanging_arms(surface, place, look)
    side = (
        (0.34, 1.32),
        (half * 0.66, 1.58),
        (half * 0.94, 1.78),
        (half, 2.2),
        (half * 0.78, 4.6),
        (half * 0.84, 6.3),
    )
    torso = points(*side, *((-across, down) for across, down in reversed(side)))
    surface.polygon(place(smooth(torso)), look.clothes)
    _pattern(surface, place, look, unit)
    if look.arms == "folded":
        _folded_arms(surface, place, look)
    neck = points((-0.36, 0.5), (0.36, 0.5), (0.38, 1.35), (0.16, 1.66), (-0.16, 1.66), (-0.38, 1.35))
    surface.polygon(place(smooth(neck, 1)), scaled(look.skin, 0.72))


def _legs(surface: Surface, place: Placer, look: Look) -> None:
    color = scaled(look.pattern_color, 0.55)
    surface.detail(place(ellipse(0.0, FEET, 2.0, 0.3)), (58, 58, 60))
    for side in (-1, 1):
        leg = points((side * 0.05, 5.6), (side * 1.25, 5.6), (side * 1.0, 12.5), (side * 0.3, 12.5))
        surface.polygon(place(leg), look.skin if look.has_skirt else color)
        surface.polygon(place(ellipse(side * 0.72, 12.6, 0.55, 0.24)), (34, 28, 28))
    if look.has_skirt:
        skirt = points((-1.15, 5.4), (1.15, 5.4), (1.75, 9.3), (-1.75, 9.3))
        surface.polygon(place(smooth(skirt, 1)), color)


def _hanging_arms(surface: Surface, place: Placer, look: Look) -> None:
    raised_side = (1 if look.seed % 2 else -1) if look.arms == "raised" else 0
    for side in (-1, 1):
        stretch = np.array([side * look.shoulder_width, 1.0])
        shape, hand = (_RAISED_ARM, _RAISED_HAND) if side == raised_side else (_HANGING_ARM, _HANGING_HAND)
        surface.polygon(place(moved(_HAND, *(hand * stretch)[0].tolist())), look.skin)
        surface.polygon(place(smooth(shape * stretch)), scaled(look.clothes, 0.84))


def _folded_arms(surface: Surface, place: Placer, look: Look) -> None:
    half = look.shoulder_width
    for side in (-1, 1):
        edge = side * half
        arm = points((edge * 0.72, 1.8), (edge, 2.0), (edge * 1.12, 4.3), (-side * 0.5, 4.5),
                     (-side * 0.5, 3.9), (edge * 0.7, 3.7))  # fmt: skip
        surface.polygon(place(smooth(arm)), scaled(look.clothes, 0.8 if side > 0 else 0.9))
        surface.polygon(place(ellipse(-side * 0.7, 4.15, 0.42, 0.3)), look.skin)


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
        return moved(shape, pose.x, pose.y, unit)

    draw_body(surface, pose, look)
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


def draw_hand(surface: Surface, x: float, y: float, size: float, *, skin: Color, degrees: float) -> None:
    """Draw an open hand and a forearm; size is the width of the palm in pixels."""

    def place(shape: Points) -> Points:
        return moved(turned(shape, degrees), x, y, size)

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
