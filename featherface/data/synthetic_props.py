"""Draws things that are not faces: some resemble them, some hide them, the rest is clutter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from featherface.data.synthetic_bodies import draw_hand
from featherface.data.synthetic_canvas import (
    Color,
    Dice,
    Points,
    Surface,
    cos_sin,
    ellipse,
    mix,
    moved,
    points,
    rectangle,
    scaled,
    smooth,
    turned,
)
from featherface.data.synthetic_people import SKIN_TONES

Prop = Callable[[Surface, Dice, float, float, float], None]
"""Draws itself about (x, y) with this radius in pixels."""


def draw_ball(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw a ball with panels: round and patchy like a head."""
    color = dice.pick(((238, 238, 234), (222, 130, 52), dice.color()))
    surface.polygon(ellipse(x, y, radius, radius), color)
    patch = scaled(color, 0.25) if dice.chance(0.6) else dice.color()
    for turn in range(5):
        cosine, sine = cos_sin(72 * turn + dice.integer(0, 30))
        surface.detail(
            ellipse(x + 0.66 * radius * cosine, y + 0.66 * radius * sine, 0.2 * radius, 0.2 * radius), patch
        )
    surface.detail(ellipse(x, y, 0.22 * radius, 0.22 * radius), patch)
    surface.detail(ellipse(x - 0.35 * radius, y - 0.4 * radius, 0.14 * radius, 0.1 * radius), (250, 250, 250))


def draw_clock(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw a wall clock."""
    surface.polygon(ellipse(x, y, radius, radius), dice.color(10, 120))
    surface.detail(ellipse(x, y, 0.86 * radius, 0.86 * radius), dice.jitter((236, 232, 220), 12))
    for hour in range(12):
        cosine, sine = cos_sin(30 * hour)
        mark = ellipse(x + 0.72 * radius * cosine, y + 0.72 * radius * sine, 0.05 * radius, 0.05 * radius)
        surface.detail(mark, (40, 40, 44))
    for length in (0.45, 0.65):
        cosine, sine = cos_sin(dice.integer(0, 359))
        hand = points((x, y), (x + length * radius * cosine, y + length * radius * sine))
        surface.stroke(hand, (30, 30, 34), 0.07 * radius)


def draw_flower(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw a flower: petals around a disc, like hair around a face."""
    surface.stroke(points((x, y), (x + dice.bell(radius), y + 4 * radius)), (58, 110, 52), 0.14 * radius)
    petal, petals = dice.color(90, 250), dice.integer(7, 12)
    for turn in range(petals):
        degrees = 360 * turn / petals
        cosine, sine = cos_sin(degrees)
        place = x + 0.66 * radius * cosine, y + 0.66 * radius * sine
        surface.polygon(
            ellipse(*place, 0.36 * radius, 0.19 * radius, degrees), scaled(petal, dice.uniform(0.85, 1.1))
        )
    surface.polygon(ellipse(x, y, 0.4 * radius, 0.4 * radius), dice.pick(((208, 160, 40), (96, 58, 30))))


def draw_mannequin(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw the head of a shop-window dummy: outline and color of a face, nothing in it."""
    color = dice.pick((*SKIN_TONES[:7], (232, 232, 230), (60, 60, 64)))
    surface.polygon(ellipse(x, y + 1.3 * radius, 1.3 * radius, 0.55 * radius), scaled(color, 0.85))
    surface.polygon(rectangle(x - 0.3 * radius, y, x + 0.3 * radius, y + 1.3 * radius), scaled(color, 0.75))
    egg = points(
        (0.0, -1.0),
        (0.6, -0.8),
        (0.74, -0.1),
        (0.55, 0.6),
        (0.0, 1.0),
        (-0.55, 0.6),
        (-0.74, -0.1),
        (-0.6, -0.8),
    )
    surface.polygon(moved(smooth(egg), x, y, radius), color)
    surface.detail(
        ellipse(x - 0.25 * radius, y - 0.3 * radius, 0.16 * radius, 0.3 * radius), scaled(color, 1.08)
    )


def draw_smiley(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw a sign with two dots and a curve; by the convention of this data set a sign is not a face."""
    color = dice.pick(((246, 206, 50), (244, 244, 240), (120, 200, 130)))
    surface.polygon(ellipse(x, y, radius, radius), color)
    surface.stroke(ellipse(x, y, radius, radius), (30, 30, 30), 0.08 * radius, closed=True)
    for side in (-1, 1):
        surface.detail(
            ellipse(x + side * 0.35 * radius, y - 0.25 * radius, 0.11 * radius, 0.17 * radius), (30, 30, 30)
        )
    curve = points((-0.55, 0.2), (-0.3, 0.55), (0.3, 0.55), (0.55, 0.2)) * (
        radius,
        radius * dice.pick((1.0, 0.5)),
    )
    surface.stroke(moved(smooth(curve, closed=False), x, y), (30, 30, 30), 0.09 * radius)


def draw_balloon(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw a balloon: the outline of a head in one color."""
    color = dice.color(60, 250)
    surface.stroke(points((x, y + radius), (x + dice.bell(radius), y + 4 * radius)), (90, 90, 90), 1.0)
    surface.polygon(ellipse(x, y, 0.84 * radius, radius), color)
    surface.polygon(
        points(
            (x - 0.12 * radius, y + 1.12 * radius),
            (x, y + 0.95 * radius),
            (x + 0.12 * radius, y + 1.12 * radius),
        ),
        color,
    )
    surface.detail(
        ellipse(x - 0.35 * radius, y - 0.4 * radius, 0.14 * radius, 0.24 * radius, 20),
        mix(color, (255, 255, 255), 0.7),
    )


def draw_socket(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw a wall socket: two dark holes in a pale round field."""
    pale = dice.jitter((232, 230, 222), 10)
    surface.polygon(rectangle(x - radius, y - radius, x + radius, y + radius), pale)
    surface.detail(ellipse(x, y, 0.75 * radius, 0.75 * radius), scaled(pale, 0.88))
    for side in (-1, 1):
        surface.detail(ellipse(x + side * 0.32 * radius, y, 0.12 * radius, 0.12 * radius), (40, 38, 38))


def draw_plate(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw a plate with food in skin-like colors."""
    surface.polygon(ellipse(x, y, radius, radius), dice.jitter((232, 232, 230), 14))
    surface.stroke(ellipse(x, y, 0.72 * radius, 0.72 * radius), (196, 196, 194), 0.05 * radius, closed=True)
    for _ in range(dice.integer(2, 5)):
        place = x + dice.bell(0.6 * radius), y + dice.bell(0.6 * radius)
        food = dice.pick(((200, 146, 100), (176, 60, 44), (90, 130, 60), (226, 190, 120)))
        surface.detail(
            ellipse(*place, dice.uniform(0.12, 0.35) * radius, 0.2 * radius, dice.integer(0, 180)), food
        )


def draw_open_hand(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw a raised hand: skin, but no face."""
    draw_hand(surface, x, y, 0.9 * radius, skin=dice.pick(SKIN_TONES), degrees=dice.bell(40))


def draw_traffic_light(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw three lamps in a dark case."""
    surface.polygon(rectangle(x - 0.5 * radius, y - radius, x + 0.5 * radius, y + radius), (36, 38, 36))
    lit = dice.integer(0, 2)
    for lamp, color in enumerate(((226, 50, 40), (240, 180, 40), (60, 200, 90))):
        bright = color if lamp == lit else scaled(color, 0.3)
        surface.detail(ellipse(x, y + (lamp - 1) * 0.6 * radius, 0.26 * radius, 0.26 * radius), bright)


def draw_car_front(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw the front of a car: two lamps and a grille in the places of eyes and mouth."""
    color = dice.color()
    roof = points((-0.7, -0.9), (0.7, -0.9), (0.95, -0.2), (-0.95, -0.2))
    surface.polygon(moved(roof, x, y, radius), scaled(color, 0.8))
    surface.detail(moved(roof * np.array([0.82, 0.8]), x, y - 0.06 * radius, radius), (150, 172, 186))
    surface.polygon(moved(smooth(rectangle(-1.1, -0.25, 1.1, 0.7), 1), x, y, radius), color)
    for side in (-1, 1):
        surface.polygon(
            moved(rectangle(side * 0.7 - 0.2, 0.6, side * 0.7 + 0.2, 1.0), x, y, radius), (24, 24, 26)
        )
        surface.detail(
            ellipse(x + side * 0.75 * radius, y + 0.1 * radius, 0.2 * radius, 0.15 * radius), (246, 244, 220)
        )
    surface.detail(moved(smooth(rectangle(-0.45, 0.1, 0.45, 0.45), 1), x, y, radius), (40, 42, 46))


def draw_box_stack(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw a few parcels or books."""
    for level in range(3):
        half = dice.uniform(0.6, 1.0) * radius
        top = y + (1 - level) * 0.66 * radius - 0.33 * radius
        color = dice.pick(((176, 132, 84), (150, 106, 66), dice.color()))
        surface.polygon(rectangle(x - half, top, x + half, top + 0.64 * radius), color)
        surface.detail(
            rectangle(x - 0.1 * radius, top, x + 0.1 * radius, top + 0.64 * radius), scaled(color, 1.2)
        )


def draw_sign(surface: Surface, dice: Dice, x: float, y: float, radius: float) -> None:
    """Draw a board with lines like writing."""
    color = dice.color()
    ink = scaled(color, 0.3) if sum(color) > 330 else (240, 240, 236)
    surface.polygon(moved(turned(rectangle(-1.0, -0.6, 1.0, 0.6), dice.bell(12)), x, y, radius), color)
    for row in range(3):
        left = -0.8
        while left < 0.7:
            right = min(0.8, left + dice.uniform(0.08, 0.4))
            shape = rectangle(left, -0.4 + row * 0.3, right, -0.25 + row * 0.3)
            surface.detail(moved(shape, x, y, radius), ink)
            left = right + 0.08


FACE_LIKE: tuple[Prop, ...] = (
    draw_ball, draw_clock, draw_flower, draw_mannequin, draw_smiley, draw_balloon, draw_socket, draw_plate,
    draw_open_hand, draw_traffic_light, draw_car_front,
)  # fmt: skip
CLUTTER: tuple[Prop, ...] = (draw_box_stack, draw_sign)


def draw_occluder(
    surface: Surface, dice: Dice, box_xyxy: tuple[float, float, float, float], skin: Color
) -> None:
    """Draw something in front of a face: a hand, a phone, a microphone, a leaf, a pole, a sheet of paper."""
    left, top, right, bottom = box_xyxy
    width, height = right - left, bottom - top
    x, y = (left + right) / 2 + dice.bell(0.5) * width, (top + bottom) / 2 + dice.uniform(-0.05, 0.5) * height
    kind = dice.pick(("hand", "phone", "microphone", "leaf", "pole", "paper", "cup"))
    if kind == "hand":
        draw_hand(surface, x, y + 0.1 * height, 0.42 * width, skin=skin, degrees=dice.bell(50))
    elif kind == "phone":
        shape = turned(smooth(rectangle(-0.2, -0.38, 0.2, 0.38), 1), dice.bell(40)) * height
        surface.polygon(moved(shape, x, y), dice.pick(((24, 24, 28), (230, 230, 232), (160, 40, 60))))
        draw_hand(surface, x, y + 0.4 * height, 0.3 * width, skin=skin, degrees=dice.bell(30))
    elif kind == "microphone":
        surface.polygon(
            points(
                (x - 0.07 * width, y), (x + 0.07 * width, y), (x + 0.12 * width, y + height), (x, y + height)
            ),
            (40, 40, 44),
        )
        surface.polygon(ellipse(x, y, 0.17 * width, 0.19 * width), (84, 86, 92))
    elif kind == "leaf":
        for _ in range(5):
            place = x + dice.bell(0.8) * width, y + dice.bell(0.8) * height
            green = dice.jitter((62, 112, 50), 22)
            surface.polygon(ellipse(*place, 0.34 * width, 0.12 * width, dice.integer(0, 179)), green)
    elif kind == "pole":
        half = dice.uniform(0.08, 0.2) * width
        surface.polygon(rectangle(x - half, 0.0, x + half, float(surface.hw[0])), dice.color(40, 160))
    elif kind == "paper":
        sheet = turned(rectangle(-0.6, -0.3, 0.6, 0.6), dice.bell(20)) * width + np.array(
            [x, y + 0.2 * height]
        )
        surface.polygon(sheet, dice.jitter((234, 232, 224), 10))
    else:
        cup = points((-0.2, -0.3), (0.2, -0.3), (0.15, 0.3), (-0.15, 0.3)) * height + np.array(
            [x, y + 0.2 * height]
        )
        surface.polygon(cup, dice.color(60, 240))


def leaf_shape(dice: Dice, x: float, y: float, size: float) -> Points:
    """Return a leaf-shaped polygon for foliage."""
    shape = points((0.0, -1.0), (0.35, 0.0), (0.0, 1.0), (-0.35, 0.0)) * size
    return moved(turned(shape, dice.integer(0, 359)), x, y)
