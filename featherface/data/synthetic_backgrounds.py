"""Paints the places of the procedural data set: textured, cluttered and empty of people."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featherface.data.synthetic_canvas import (
    Color,
    Dice,
    Surface,
    ellipse,
    mix,
    points,
    rectangle,
    scaled,
    smooth,
)
from featherface.data.synthetic_props import CLUTTER, FACE_LIKE, draw_car_front, draw_clock, leaf_shape

Painter = Callable[[Surface, Dice], None]
Area = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


def paint_street(surface: Surface, dice: Dice) -> None:
    """Paint a sky, a row of houses with windows, a road with parked cars."""
    height, width = surface.hw
    fill_vertical(
        surface, dice.pick(((150, 190, 226), (206, 212, 220), (236, 200, 170))), (236, 236, 234), 0, height
    )
    horizon = round(height * dice.uniform(0.5, 0.66))
    left = -dice.integer(0, 60)
    while left < width:
        right = left + dice.integer(70, 190)
        _house(surface, dice, (left, round(height * dice.uniform(0.02, 0.3)), right, horizon))
        left = right
    road = dice.jitter((112, 112, 114), 14)
    fill_vertical(surface, scaled(road, 1.25), scaled(road, 0.8), horizon, height)
    for _ in range(dice.integer(0, 5)):
        size = dice.uniform(0.05, 0.13) * height
        draw_car_front(surface, dice, dice.uniform(0, width), horizon + size * 0.4, size)
    roughen(surface, dice, 14, 40)
    roughen(surface, dice, 8, 5)


def paint_stand(surface: Surface, dice: Dice) -> None:
    """Paint the steps of a stand or the folds of a curtain."""
    height, width = surface.hw
    color = dice.color(40, 190)
    fill_vertical(surface, scaled(color, 0.7), color, 0, height)
    if dice.chance(0.5):
        step = dice.integer(18, 46)
        for top in range(0, height, step):
            surface.detail(rectangle(0, top, width, top + step * 0.3), scaled(color, dice.uniform(0.6, 1.3)))
    else:
        left = 0.0
        while left < width:
            right = left + dice.uniform(8, 50)
            surface.detail(rectangle(left, 0, right, height), scaled(color, dice.uniform(0.65, 1.2)))
            left = right
    roughen(surface, dice, 20, 24)


def paint_studio(surface: Surface, dice: Dice) -> None:
    """Paint large soft spots of color, as a background far out of focus."""
    height, width = surface.hw
    base = dice.color()
    fill_vertical(surface, base, scaled(base, dice.uniform(0.5, 1.3)), 0, height)
    for _ in range(dice.integer(0, 40)):
        radius = dice.log_uniform(6, 90)
        color = mix(base, dice.color(20, 250), dice.uniform(0.2, 0.9))
        surface.detail(ellipse(dice.uniform(0, width), dice.uniform(0, height), radius, radius), color)
    roughen(surface, dice, 24, 60)


def paint_office(surface: Surface, dice: Dice) -> None:
    """Paint a wall with shelves, pictures, a clock and windows."""
    height, width = surface.hw
    wall = dice.jitter(dice.pick(((214, 206, 190), (190, 204, 206), (226, 222, 214), (170, 150, 126))), 14)
    fill_vertical(surface, wall, scaled(wall, 0.85), 0, height)
    for _ in range(dice.integer(2, 5)):
        left, top = dice.uniform(-40, width), dice.uniform(0, height * 0.5)
        right, bottom = left + dice.uniform(60, 190), top + dice.uniform(50, 170)
        painter = dice.pick((_shelf, _picture, _window, _screen))
        painter(surface, dice, (left, top, right, bottom))
    if dice.chance(0.5):
        draw_clock(
            surface, dice, dice.uniform(0, width), dice.uniform(20, height * 0.3), dice.uniform(12, 40)
        )
    _floor(surface, dice, 0.78)
    roughen(surface, dice, 8, 50)


def paint_night(surface: Surface, dice: Dice) -> None:
    """Paint a dark street with lit windows and lamps."""
    height, width = surface.hw
    base = dice.pick(((36, 38, 62), (52, 36, 54), (30, 44, 48), (60, 48, 40)))
    fill_vertical(surface, base, scaled(base, 1.6), 0, height)
    if dice.chance(0.5):
        left = 0
        while left < width:
            right = left + dice.integer(60, 170)
            top = round(height * dice.uniform(0.05, 0.35))
            _house(surface, dice, (left, top, right, round(height * 0.69)), lit=True)
            left = right
    for _ in range(dice.integer(12, 60)):
        radius = dice.log_uniform(2, 26)
        lamp = dice.pick(((255, 214, 140), (255, 240, 220), (230, 80, 70), (110, 170, 255), (130, 230, 160)))
        color = mix(base, lamp, dice.uniform(0.25, 1.0))
        surface.detail(ellipse(dice.uniform(0, width), dice.uniform(0, height * 0.66), radius, radius), color)
    fill_vertical(surface, scaled(base, 1.1), scaled(base, 2.0), round(height * 0.68), height)
    roughen(surface, dice, 12, 30)


def paint_park(surface: Surface, dice: Dice) -> None:
    """Paint hills, trees with leaves, a lawn with flowers' colors."""
    height, width = surface.hw
    fill_vertical(surface, dice.jitter((140, 186, 228), 20), (230, 236, 236), 0, height)
    horizon = round(height * dice.uniform(0.4, 0.6))
    ridge = [(step * width / 6, horizon - dice.uniform(0, 0.2) * height) for step in range(-1, 9)]
    surface.detail(
        smooth(points(*ridge, (width * 1.4, height), (-width * 0.2, height))),
        dice.jitter((112, 142, 116), 16),
    )
    lawn = dice.jitter((104, 146, 70), 22)
    fill_vertical(surface, lawn, scaled(lawn, 0.7), horizon, height)
    for _ in range(dice.integer(2, 6)):
        _tree(surface, dice, dice.uniform(0, width), horizon + dice.uniform(0, 40), dice.uniform(50, 170))
    for _ in range(160):
        y = dice.uniform(horizon + 6, height)
        size = 2 + 8 * (y - horizon) / height
        color = scaled(lawn, dice.uniform(0.7, 1.3))
        surface.detail(leaf_shape(dice, dice.uniform(0, width), y, size), color)
    roughen(surface, dice, 16, 24)


def paint_market(surface: Surface, dice: Dice) -> None:
    """Paint boards full of round goods in the colors of skin, wood and fruit."""
    height, width = surface.hw
    wood = dice.jitter((142, 104, 68), 20)
    fill_vertical(surface, scaled(wood, 0.7), wood, 0, height)
    top = dice.uniform(10, 60)
    while top < height * 0.75:
        radius = dice.uniform(9, 26)
        goods = dice.pick(
            ((206, 120, 50), (190, 50, 44), (120, 160, 60), (222, 190, 140), (150, 100, 70), (236, 214, 120))
        )
        surface.detail(rectangle(0, top + radius * 0.7, width, top + radius * 1.4), scaled(wood, 1.25))
        x = -dice.uniform(0, radius)
        while x < width:
            color = scaled(goods, dice.uniform(0.8, 1.15))
            surface.detail(ellipse(x, top, radius, radius * 0.95), color)
            surface.detail(
                ellipse(x - 0.3 * radius, top - 0.35 * radius, 0.25 * radius, 0.2 * radius),
                scaled(color, 1.3),
            )
            surface.detail(ellipse(x, top - 0.1 * radius, 0.1 * radius, 0.08 * radius), scaled(color, 0.4))
            x += radius * dice.uniform(1.7, 2.3)
        top += radius * dice.uniform(2.6, 4.0)
    _floor(surface, dice, 0.8)
    roughen(surface, dice, 14, 30)


def scatter(surface: Surface, dice: Dice, count: int, *, low_px: float = 8, high_px: float = 70) -> None:
    """Draw things at random places, two thirds of them face-like; these sizes are radii."""
    height, width = surface.hw
    for _ in range(count):
        prop = dice.pick(FACE_LIKE if dice.chance(0.67) else CLUTTER)
        prop(
            surface,
            dice,
            dice.uniform(0, width),
            dice.uniform(0.05, 0.95) * height,
            dice.log_uniform(low_px, high_px),
        )


def fill_vertical(surface: Surface, top_color: Color, bottom_color: Color, top: int, bottom: int) -> None:
    """Fill rows top to bottom with a gradient."""
    share = np.arange(bottom - top, dtype=np.int32)[:, None] * 256 // max(1, bottom - top)
    first, last = np.array(top_color, np.int32), np.array(bottom_color, np.int32)
    surface.rgb[top:bottom] = ((first * (256 - share) + last * share) >> 8)[:, None, :].astype(np.uint8)


def roughen(surface: Surface, dice: Dice, amplitude: int, cell_px: int) -> None:
    """Add uneven light or dirt: smooth hills of this height and period."""
    hills = (dice.clouds(surface.hw, cell_px).astype(np.int16) - 128) * amplitude // 128
    surface.rgb[:] = np.clip(surface.rgb + hills[..., None], 0, 255)


def _house(surface: Surface, dice: Dice, area: tuple[int, int, int, int], *, lit: bool = False) -> None:
    left, top, right, bottom = area
    color = scaled(dice.color(70, 210), 0.3 if lit else 1.0)
    surface.detail(rectangle(left, top, right, bottom), color)
    step_x, step_y = dice.integer(18, 40), dice.integer(24, 50)
    for y in range(top + 10, bottom - 16, step_y):
        for x in range(left + 8, right - 12, step_x):
            pane = (60, 76, 92) if dice.chance(0.7) else (150, 170, 180)
            if lit:
                pane = (226, 190, 110) if dice.chance(0.35) else (26, 28, 36)
            surface.detail(rectangle(x, y, x + step_x * 0.5, y + step_y * 0.55), pane)
    if dice.chance(0.4):
        _bricks(surface, dice, left, bottom - 14, right)
    surface.detail(rectangle(left, bottom - 16, right, bottom), scaled(color, 0.7))


def _floor(surface: Surface, dice: Dice, share: float) -> None:
    """Paint boards or tiles from this share of the height down, wider the nearer they are."""
    height, width = surface.hw
    top = round(height * share)
    color = dice.jitter(dice.pick(((150, 112, 78), (128, 128, 126), (176, 166, 150), (92, 72, 60))), 16)
    fill_vertical(surface, scaled(color, 0.85), scaled(color, 1.1), top, height)
    middle, step = dice.uniform(0.3, 0.7) * width, dice.uniform(14, 36)
    for line in range(-24, 25):
        seam = points((middle + line * step, top), (middle + line * step * 2.4, height))
        surface.stroke(seam, scaled(color, 0.78), 1.0)
    surface.detail(rectangle(0, top - 5, width, top), scaled(color, 0.6))


def _bricks(surface: Surface, dice: Dice, left: int, top: int, right: int | None = None) -> None:
    height, width = surface.hw
    color = dice.jitter((150, 86, 66), 16)
    for row, y in enumerate(range(top, min(height, top + 60), 9)):
        for x in range(left - 12 * (row % 2), right or width, 24):
            surface.detail(rectangle(x, y, x + 22, y + 8), scaled(color, dice.uniform(0.8, 1.15)))


def _shelf(surface: Surface, dice: Dice, area: Area) -> None:
    left, top, right, bottom = area
    surface.detail(rectangle(left, top, right, bottom), dice.jitter((106, 76, 50), 20))
    row_height = (bottom - top) / 3
    for row in range(3):
        x, floor = left + 4, top + (row + 1) * row_height - 4
        while x < right - 8:
            thick, tall = dice.uniform(4, 12), dice.uniform(0.5, 0.9) * row_height
            surface.detail(rectangle(x, floor - tall, min(x + thick, right - 3), floor), dice.color())
            x += thick + 1


def _picture(surface: Surface, dice: Dice, area: Area) -> None:
    left, top, right, bottom = area
    surface.detail(rectangle(left, top, right, bottom), dice.color(20, 120))
    surface.detail(rectangle(left + 6, top + 6, right - 6, bottom - 6), dice.color(90, 240))
    for _ in range(6):
        x, y = dice.uniform(left + 16, right - 16), dice.uniform(top + 16, bottom - 16)
        surface.detail(ellipse(x, y, dice.uniform(4, 10), dice.uniform(4, 10)), dice.color())


def _window(surface: Surface, dice: Dice, area: Area) -> None:
    left, top, right, bottom = area
    surface.detail(rectangle(left, top, right, bottom), (236, 236, 232))
    sky = dice.jitter((184, 210, 230), 24)
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    for x0, x1 in ((left + 5, middle_x - 3), (middle_x + 3, right - 5)):
        for y0, y1 in ((top + 5, middle_y - 3), (middle_y + 3, bottom - 5)):
            surface.detail(rectangle(x0, y0, x1, y1), scaled(sky, dice.uniform(0.85, 1.1)))


def _screen(surface: Surface, dice: Dice, area: Area) -> None:
    left, top, right, bottom = area
    surface.detail(rectangle(left, top, right, bottom), (28, 28, 32))
    surface.detail(rectangle(left + 4, top + 4, right - 4, bottom - 8), dice.color(60, 230))
    for row in range(5):
        y = top + 14 + row * 14
        if y < bottom - 18:
            surface.detail(
                rectangle(left + 12, y, left + dice.uniform(0.3, 0.9) * (right - left), y + 5),
                (236, 236, 240),
            )


def _tree(surface: Surface, dice: Dice, x: float, y: float, size: float) -> None:
    surface.detail(rectangle(x - size * 0.06, y - size, x + size * 0.06, y), (92, 68, 48))
    green = dice.jitter((68, 112, 56), 24)
    for _ in range(60):
        place_x, place_y = x + dice.bell(size * 0.9), y - size * 1.15 + dice.bell(size * 0.8)
        surface.detail(leaf_shape(dice, place_x, place_y, size * 0.17), scaled(green, dice.uniform(0.6, 1.4)))
