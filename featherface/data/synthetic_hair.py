"""Draws hair, hats and headscarves of the procedural data set's people."""

from __future__ import annotations

import numpy as np

from featherface.data.synthetic_canvas import (
    Color,
    Dice,
    Points,
    Surface,
    ellipse,
    hull,
    mix,
    points,
    scaled,
    smooth,
    turned,
)
from featherface.data.synthetic_heads import Head

_COVERING = ("turban", "scarf", "hood", "helmet", "beanie")


def draw_back_hair(surface: Surface, head: Head) -> None:
    """Draw what is behind the face: skull, falling hair, a bun, the cloth of a scarf."""
    look = head.look
    if look.headwear in ("scarf", "hood"):
        _cloth_behind(surface, head)
        return
    if look.hair == "bald":
        surface.polygon(head.skull(-0.02), scaled(look.skin, 0.92))
        return
    if look.hair == "buzz":
        surface.polygon(_cap_of_hair(head, 0.0), mix(look.skin, look.hair_color, 0.62))
        return
    if look.hair in ("long", "wavy", "bob"):
        _falling_hair(surface, head)
    if look.hair == "bun":
        bun = head.upright(points((0.0, -1.08)))[0]
        unit = head.pose.unit_px
        surface.polygon(ellipse(bun[0], bun[1], 0.34 * unit, 0.3 * unit), scaled(look.hair_color, 0.9))
    volume = {"curly": 0.3, "wavy": 0.14, "long": 0.1, "bob": 0.14}.get(look.hair, 0.07)
    if look.headwear in _COVERING:
        volume = min(volume, 0.05)
    surface.polygon(_cap_of_hair(head, volume), look.hair_color)
    if look.hair == "curly" and look.headwear not in _COVERING:
        _curls(surface, head, volume)
    elif look.headwear not in _COVERING:
        _strands(surface, head)


def draw_front_hair(surface: Surface, head: Head) -> None:
    """Draw what hangs over the forehead and, for long hair, over the edges of the face."""
    look = head.look
    if look.headwear in (*_COVERING, "cap", "brimmed") or look.hair in ("bald", "buzz"):
        return
    width = look.face_width
    if look.hair in ("short", "curly", "bob") and look.fringe > 0.15:
        low = -1.02 + look.fringe
        shape = points((-width, -0.5), (-width * 0.8, low + 0.06), (-0.3, low - 0.02), (0.0, low + 0.05),
                       (0.28, low - 0.03), (width * 0.8, low + 0.08), (width, -0.5), (width * 0.7, -1.02),
                       (0.0, -1.16), (-width * 0.7, -1.02))  # fmt: skip
        surface.polygon(head.on_face(smooth(shape, 1), 0.03), look.hair_color)
    elif look.hair == "receding":
        for side in (-1, 1):
            if head.is_far(side):
                continue
            edge = side * width
            inner = head.on_face(points((edge * 0.78, -0.86), (edge * 0.9, -0.4)))
            outer = head.at_depth(points((edge * 1.06, -0.3), (edge * 1.04, -0.66)), -0.24)
            surface.polygon(smooth(np.concatenate([inner, outer]), 1), look.hair_color)
        peak = points((-0.2, -1.04), (0.2, -1.04), (0.08, -0.84), (-0.08, -0.84))
        surface.polygon(head.on_face(smooth(peak)), look.hair_color)
    else:
        _parting(surface, head)


def draw_headwear(surface: Surface, head: Head) -> None:
    """Draw caps, hats, helmets, turbans and the front edge of scarves and hoods."""
    drawers = {"cap": _cap, "beanie": _beanie, "helmet": _helmet, "turban": _turban, "brimmed": _brimmed}
    drawer = drawers.get(head.look.headwear)
    if drawer is not None:
        drawer(surface, head)
    elif head.look.headwear in ("scarf", "hood"):
        _cloth_in_front(surface, head)


def _cap_of_hair(head: Head, volume: float) -> Points:
    """Return the round part of the head above the ears; in profile it reaches down to the neck."""
    shape = head.skull(volume)
    return _above(head, shape, 0.42 + 0.3 * abs(head.pose.yaw) / 90)


def _above(head: Head, shape: Points, level: float) -> Points:
    """Return the points that are higher on the tilted head than `level` below the skull's middle."""
    chord = head.upright(points((0.0, level)))[0]
    direction = turned(points((0.0, 1.0)), head.pose.roll)[0]
    down = (shape[:, 0] - chord[0]) * direction[0] + (shape[:, 1] - chord[1]) * direction[1]
    kept: Points = shape[down < 0.0]
    return kept


def _falling_hair(surface: Surface, head: Head) -> None:
    look = head.look
    length = {"bob": 0.95, "long": 2.0, "wavy": 1.7}[look.hair]
    shift = -0.5 * head.pose.yaw / 90
    flare = 0.24 if look.hair == "wavy" else 0.12
    width = look.face_width + 0.14
    shape = points(
        (-width, -0.3), (-width - flare, 0.6), (-width - flare * 0.5, length), (-0.3, length + 0.06),
        (0.3, length + 0.06), (width + flare * 0.5, length), (width + flare, 0.6), (width, -0.3),
    )  # fmt: skip
    around = (head.pose.x + shift * head.pose.unit_px, head.pose.y)
    surface.polygon(head.upright(smooth(shape), around), scaled(look.hair_color, 0.86))


def _parting(surface: Surface, head: Head) -> None:
    look, width = head.look, head.look.face_width
    side = 1 if look.seed % 2 else -1
    start = side * (0.0 if look.hair in ("long", "wavy") else 0.3)
    reach = 0.2 if look.hair in ("long", "wavy") else -0.42
    for sign in (-1, 1):
        if head.is_far(sign):
            continue
        edge = sign * width
        inner = points((start, -1.14), (start, -0.97), ((start + edge) * 0.55, -0.84 + look.fringe * 0.3),
                       (edge * 0.86, -0.5), (edge * 0.92, reach))  # fmt: skip
        outer = points((edge * 1.07, reach), (edge * 1.08, -0.6), (edge * 0.84, -1.02))
        # The outer edge lies behind the ears: seen from the side the lock covers the temple.
        lock = np.concatenate([head.on_face(inner, 0.03), head.at_depth(outer, -0.24)])
        surface.polygon(smooth(lock, 1), look.hair_color)


def _strands(surface: Surface, head: Head) -> None:
    dice = Dice(head.look.seed)
    x, y = head.skull_center
    unit = head.pose.unit_px
    for _ in range(9):
        angle, radius = dice.uniform(150, 390), dice.uniform(0.82, 0.98)
        bend = ellipse(x, y, (head.look.face_width + 0.1) * radius * unit, radius * unit, head.pose.roll)
        begin = int(angle / 7.5) % 48
        line = np.roll(bend, -begin, axis=0)[:5]
        surface.stroke(line, scaled(head.look.hair_color, dice.uniform(0.7, 1.45)), 0.025 * unit)


def _curls(surface: Surface, head: Head, volume: float) -> None:
    dice = Dice(head.look.seed)
    unit = head.pose.unit_px
    rim = head.skull(volume - 0.06)
    middle = np.array([*head.skull_center])
    for step in range(22, 51):
        place = rim[(step + 24) % 48 if step < 24 else step % 48]
        for depth in (1.0, 0.84):
            at = middle + (place - middle) * depth
            curl = dice.uniform(0.09, 0.17) * unit
            if at[1] < middle[1] + 0.35 * unit:
                shade = scaled(head.look.hair_color, dice.uniform(0.75, 1.35))
                surface.polygon(ellipse(at[0], at[1], curl, curl), shade)


def _dome(head: Head, volume: float, brow: float) -> Points:
    """Return a cap-like shape from the top of the head down to the height `brow`."""
    width = head.look.face_width + 0.04
    edge = points(
        (-width, brow),
        (-width * 0.6, brow + 0.02),
        (0.0, brow + 0.04),
        (width * 0.6, brow + 0.02),
        (width, brow),
    )
    front = head.on_face(edge, 0.06)
    return hull(np.concatenate([front, _above(head, head.skull(volume), brow + 0.37)]))


def _band(surface: Surface, head: Head, low: float, high: float, color: Color) -> None:
    width = head.look.face_width + 0.02
    band = points(
        (-width, low), (0.0, low + 0.04), (width, low), (width, high), (0.0, high + 0.02), (-width, high)
    )
    surface.polygon(head.on_face(smooth(band, 1), 0.08), color)


def _cap(surface: Surface, head: Head) -> None:
    color = head.look.headwear_color
    surface.polygon(_dome(head, 0.1, -0.62), color)
    visor = points((-0.55, -0.66), (0.0, -0.6), (0.55, -0.66), (0.42, -0.44), (0.0, -0.34), (-0.42, -0.44))
    x, y = visor[:, 0], visor[:, 1]
    lift = np.array([0.1, 0.1, 0.1, 0.45, 0.55, 0.45])
    surface.polygon(smooth(head.project(x, y, head.surface_z(x, y) + lift), 1), scaled(color, 0.72))


def _beanie(surface: Surface, head: Head) -> None:
    color = head.look.headwear_color
    surface.polygon(_dome(head, 0.16, -0.62), color)
    _band(surface, head, -0.5, -0.76, scaled(color, 0.8))
    if head.look.seed % 3 == 0:
        top = head.upright(points((0.0, -1.16)))[0]
        surface.polygon(
            ellipse(top[0], top[1], 0.2 * head.pose.unit_px, 0.2 * head.pose.unit_px), scaled(color, 1.25)
        )


def _helmet(surface: Surface, head: Head) -> None:
    color = mix(head.look.headwear_color, (240, 200, 60), 0.5)
    surface.polygon(_dome(head, 0.2, -0.62), color)
    _band(surface, head, -0.54, -0.68, scaled(color, 0.75))
    stripe = points((-0.09, -1.05), (0.09, -1.05), (0.09, -0.68), (-0.09, -0.68))
    surface.detail(head.on_face(stripe, 0.16), scaled(color, 1.25))


def _turban(surface: Surface, head: Head) -> None:
    color = head.look.headwear_color
    surface.polygon(_dome(head, 0.26, -0.66), color)
    for low, high in ((-0.6, -0.98), (-0.98, -0.62), (-0.8, -1.2)):
        fold = points((-head.look.face_width, low), (0.0, (low + high) / 2), (head.look.face_width, high))
        surface.stroke(
            head.on_face(smooth(fold, closed=False), 0.2), scaled(color, 0.75), 0.04 * head.pose.unit_px
        )


def _brimmed(surface: Surface, head: Head) -> None:
    color, unit = head.look.headwear_color, head.pose.unit_px
    surface.polygon(_dome(head, 0.12, -0.66), color)
    middle = head.on_face(points((0.0, -0.66)), -0.2)[0]
    brim = ellipse(
        middle[0], middle[1], 1.35 * unit, (0.16 + 0.004 * abs(head.pose.pitch)) * unit, head.pose.roll
    )
    surface.polygon(brim, scaled(color, 0.84))
    _band(surface, head, -0.7, -0.84, scaled(color, 0.5))


def _cloth_behind(surface: Surface, head: Head) -> None:
    look = head.look
    shape = points(
        (-0.95, -0.4), (-1.02, 0.5), (-1.2, 1.6), (0.0, 1.9), (1.2, 1.6), (1.02, 0.5), (0.95, -0.4)
    )
    surface.polygon(head.upright(smooth(shape), (head.pose.x, head.pose.y)), scaled(look.headwear_color, 0.8))
    surface.polygon(head.skull(0.18), look.headwear_color)


def _cloth_in_front(surface: Surface, head: Head) -> None:
    """Draw a ring of cloth around the face: outer edge the silhouette, inner edge the open oval."""
    look, width = head.look, head.look.face_width
    for side in (-1, 1):
        if head.is_far(side):
            continue
        edge = side * width
        outer = points(
            (0.0, -1.22), (edge * 0.9, -1.05), (edge * 1.16, -0.3), (edge * 1.12, 0.4), (edge * 0.8, 1.0),
            (0.0, 1.3),
        )  # fmt: skip
        inner = points(
            (0.0, 1.0), (edge * 0.55, 0.84), (edge * 0.86, 0.35), (edge * 0.9, -0.2), (edge * 0.66, -0.7),
            (0.0, -0.84),
        )  # fmt: skip
        ring = np.concatenate([head.at_depth(outer, -0.24), head.at_depth(inner, 0.04)])
        surface.polygon(smooth(ring, 1), look.headwear_color)
        seam = smooth(head.at_depth(inner, 0.04), closed=False)
        surface.stroke(seam, scaled(look.headwear_color, 0.7), 0.03 * head.pose.unit_px)
