"""Draws a head: skin, eyes, nose, mouth. Hair and hats: `synthetic_hair`; shadows: `synthetic_light`."""

from __future__ import annotations

import numpy as np

from featherface.data.synthetic_canvas import (
    Surface,
    ellipse,
    mix,
    points,
    scaled,
    smooth,
)
from featherface.data.synthetic_hair import draw_back_hair, draw_front_hair, draw_headwear
from featherface.data.synthetic_heads import EYE_X, EYE_Y, MOUTH_Y, NOSE_Y, Head, Pose
from featherface.data.synthetic_light import light_from_one_side, model_skin
from featherface.data.synthetic_people import Look

_ENLARGED_FACE_PX = 90
_MAX_ENLARGEMENT = 6
_REACH = 2.3


def draw_head(surface: Surface, pose: Pose, look: Look, *, side_light: float, label: int) -> Head:
    """Draw a head into the picture and return its geometry.

    Small heads are drawn several times larger and averaged down: eyes of a pixel keep their tone.

    Args:
        surface: the picture; its pixels below the face get the label.
        pose: position, size and angles.
        look: the person.
        side_light: -1 lit from the left only, 0 from the front, 1 from the right only.
        label: number of the face in the map of labels, 1 to 255.
    """
    head = Head(pose, look)
    factor = min(_MAX_ENLARGEMENT, max(1, round(_ENLARGED_FACE_PX / (2 * pose.unit_px))))
    reach = _REACH * pose.unit_px + 2
    height, width = surface.hw
    window = (
        max(0, int(pose.x - reach)),
        max(0, int(pose.y - reach)),
        min(width, int(pose.x + reach) + 1),
        min(height, int(pose.y + reach) + 1),
    )
    if window[0] >= window[2] or window[1] >= window[3]:
        return head
    part = surface.enlarged(window, factor)
    _draw(part, Head(pose.within(window[0], window[1], factor), look), side_light, label)
    surface.put_back(window, factor, part)
    return head


def _draw(surface: Surface, head: Head, side_light: float, label: int) -> None:
    look, before = head.look, surface.rgb.copy()
    draw_back_hair(surface, head)
    _ears(surface, head, label)
    surface.polygon(head.skin, look.skin, label=label)
    if abs(head.pose.yaw) > 25:
        _nose_in_profile(surface, head, label)
    _age_lines(surface, head)
    _beard(surface, head)
    for side in (-1, 1):
        if head.is_seen(side * (EYE_X + 0.06), EYE_Y):
            _eye(surface, head, side)
    _nose(surface, head)
    _mouth(surface, head)
    model_skin(surface, head)
    draw_front_hair(surface, head)
    if look.has_mask:
        _mask(surface, head)
    if look.eyewear != "none":
        _glasses(surface, head)
    draw_headwear(surface, head)
    if side_light:
        light_from_one_side(surface, head, side_light, (surface.rgb != before).any(axis=2))


def _ears(surface: Surface, head: Head, label: int) -> None:
    if head.look.hair in ("long", "wavy", "bob") or head.look.headwear in ("scarf", "hood"):
        return
    unit, width = head.pose.unit_px, head.look.face_width
    for side in (-1, 1):
        # An ear is hidden once the head turns away from its side.
        if side * head.pose.yaw > 22:
            continue
        inward = 0.3 * max(0.0, abs(head.pose.yaw) - 30) / 60
        x, y = head.at_depth(points((side * (width + 0.02 - inward), -0.02)), -0.12)[0].tolist()
        surface.polygon(
            ellipse(x, y, 0.11 * unit, 0.2 * unit, head.pose.roll), scaled(head.look.skin, 0.9), label=label
        )
        surface.detail(ellipse(x, y, 0.055 * unit, 0.12 * unit, head.pose.roll), scaled(head.look.skin, 0.74))
        if head.look.has_earrings:
            lobe = head.upright(points((0.0, 0.24)), (x, y))[0]
            surface.detail(ellipse(lobe[0], lobe[1], 0.055 * unit, 0.07 * unit), (226, 196, 110))


def _nose_in_profile(surface: Surface, head: Head, label: int) -> None:
    ridge = points((0.0, -0.12), (0.0, 0.02), (0.0, NOSE_Y - 0.04), (0.0, NOSE_Y + 0.06), (0.0, NOSE_Y + 0.1))
    heights = np.array([0.0, 0.09, 0.21, 0.16, 0.0])
    x, y = ridge[:, 0], ridge[:, 1]
    shape = head.project(x, y, head.surface_z(x, y) + heights)
    base = head.on_face(points((-0.12, NOSE_Y + 0.08), (0.12, NOSE_Y + 0.08)))
    surface.polygon(smooth(np.concatenate([shape, base]), 1), scaled(head.look.skin, 0.97), label=label)


def _age_lines(surface: Surface, head: Head) -> None:
    look, unit = head.look, head.pose.unit_px
    if look.age < 0.5:
        return
    color = mix(look.skin, scaled(look.skin, 0.62), look.age)
    for side in (-1, 1):
        if head.is_seen(side * 0.3, 0.3):
            fold = smooth(points((side * 0.17, 0.24), (side * 0.3, 0.4), (side * 0.33, 0.55)), closed=False)
            surface.stroke(head.on_face(fold), color, 0.028 * unit)
            bag = smooth(points((side * 0.18, 0.0), (side * 0.32, 0.05), (side * 0.45, -0.02)), closed=False)
            surface.stroke(head.on_face(bag), color, 0.02 * unit)
    if look.age > 0.75:
        for y in (-0.62, -0.72):
            crease = points((-0.3, y), (-0.1, y - 0.02), (0.1, y + 0.01), (0.3, y))
            surface.stroke(head.on_face(crease), color, 0.018 * unit)


def _beard(surface: Surface, head: Head) -> None:
    look = head.look
    if look.beard == "none":
        return
    if look.beard in ("stubble", "full"):
        color = mix(look.skin, look.hair_color, 0.28 if look.beard == "stubble" else 0.93)
        width = look.face_width
        jaw = points(
            (-width, 0.05), (-width * 0.92, 0.45), (-width * look.jaw_width, 0.78), (-0.28, 1.03),
            (0.0, 1.09), (0.28, 1.03), (width * look.jaw_width, 0.78), (width * 0.92, 0.45),
            (width, 0.05), (width * 0.84, 0.2), (0.36, 0.42), (0.2, 0.38), (0.0, 0.36), (-0.2, 0.38),
            (-0.36, 0.42), (-width * 0.84, 0.2),
        )  # fmt: skip
        surface.detail(head.on_face(smooth(jaw)), color)
        return
    if look.beard == "goatee":
        chin = points((-0.24, 0.66), (0.24, 0.66), (0.22, 0.92), (0.0, 1.04), (-0.22, 0.92))
        surface.detail(head.on_face(smooth(chin)), look.hair_color)
    whiskers = points((-0.3, 0.47), (-0.14, 0.37), (0.0, 0.38), (0.14, 0.37), (0.3, 0.47), (0.0, 0.46))
    surface.detail(head.on_face(smooth(whiskers, 1)), look.hair_color)


def _eye(surface: Surface, head: Head, side: int) -> None:
    look, unit = head.look, head.pose.unit_px
    width, height = 0.165 * look.eye_size, 0.085 * look.eye_size * look.eye_open
    x, dark = side * EYE_X, mix(scaled(look.skin, 0.42), (20, 14, 14), 0.5)
    surface.detail(
        head.on_face(ellipse(x, EYE_Y - 0.03, width * 1.35, 0.15)), scaled(look.skin, 0.86)
    )  # fmt: skip
    if look.eye_open > 0.2:
        almond = points(
            (x - width, EYE_Y + 0.01), (x - width * 0.45, EYE_Y - height), (x + width * 0.45, EYE_Y - height),
            (x + width, EYE_Y + 0.01), (x + width * 0.45, EYE_Y + height), (x - width * 0.45, EYE_Y + height),
        )  # fmt: skip
        surface.detail(head.on_face(smooth(almond)), (238, 236, 232))
        iris_x = x + look.gaze * 0.055
        tall = min(0.088 * look.eye_size, height * 1.05)
        surface.detail(head.on_face(ellipse(iris_x, EYE_Y, 0.088 * look.eye_size, tall)), look.iris)
        surface.detail(head.on_face(ellipse(iris_x, EYE_Y, 0.045, min(0.045, tall))), (10, 8, 8))
        surface.detail(head.on_face(ellipse(iris_x + 0.03, EYE_Y - 0.03, 0.016, 0.016)), (250, 250, 250))
    lid = points(
        (x - width * 1.05, EYE_Y + 0.015),
        (x - width * 0.4, EYE_Y - height - 0.015),
        (x + width * 0.4, EYE_Y - height - 0.015),
        (x + width * 1.05, EYE_Y + 0.015),
    )
    surface.stroke(head.on_face(smooth(lid, closed=False)), dark, 0.045 * unit)
    _brow(surface, head, side)


def _brow(surface: Surface, head: Head, side: int) -> None:
    look = head.look
    raised = 0.06 if look.mouth in ("open", "laugh") else 0.0
    slant = -0.05 if look.mouth == "sad" else 0.02
    thick, y = 0.05 * look.brow_weight, EYE_Y - 0.22 - raised
    brow = points(
        (side * 0.12, y + slant), (side * 0.3, y - 0.05), (side * 0.5, y + 0.02),
        (side * 0.3, y - 0.05 + thick), (side * 0.13, y + slant + thick),
    )  # fmt: skip
    surface.detail(head.on_face(smooth(brow, 1)), scaled(mix(look.hair_color, look.skin, 0.12), 0.72))


def _nose(surface: Surface, head: Head) -> None:
    look, unit = head.look, head.pose.unit_px
    shadow, width = scaled(look.skin, 0.7), look.nose_width
    lean = 1 if head.pose.yaw >= 0 else -1
    side = points((-lean * 0.06, -0.08), (-lean * 0.07, 0.1), (-lean * width, NOSE_Y))
    x, y = side[:, 0], side[:, 1]
    bridge = head.project(x, y, head.surface_z(x, y) + np.array([0.03, 0.1, 0.04]))
    surface.stroke(smooth(bridge, closed=False), mix(look.skin, shadow, 0.6), 0.03 * unit)
    under = points((-width, NOSE_Y + 0.02), (0.0, NOSE_Y + 0.075), (width, NOSE_Y + 0.02))
    surface.stroke(head.on_face(smooth(under, closed=False), 0.06), shadow, 0.04 * unit)
    for sign in (-1, 1):
        if head.is_seen(sign * 0.16, NOSE_Y):
            nostril = ellipse(sign * width * 0.5, NOSE_Y + 0.035, 0.036, 0.02)
            surface.detail(head.on_face(nostril, 0.1), scaled(look.skin, 0.38))


def _mouth(surface: Surface, head: Head) -> None:
    look, unit, width = head.look, head.pose.unit_px, head.look.mouth_width
    curve = {"neutral": 0.0, "smile": -0.05, "laugh": -0.07, "open": 0.0, "sad": 0.05}[look.mouth]
    y = MOUTH_Y + curve
    drop = {"laugh": 0.2, "open": 0.24}.get(look.mouth, 0.0)
    top = points((-width, y), (-width * 0.35, MOUTH_Y - 0.055), (0.0, MOUTH_Y - 0.035),
                 (width * 0.35, MOUTH_Y - 0.055), (width, y))  # fmt: skip
    middle = points((-width * 0.5, MOUTH_Y + 0.01 - curve * 0.3), (width * 0.5, MOUTH_Y + 0.01 - curve * 0.3))
    bottom = points((width * 0.5, MOUTH_Y + 0.09 + drop), (-width * 0.5, MOUTH_Y + 0.09 + drop))
    surface.detail(head.on_face(smooth(np.concatenate([top, bottom]))), look.lips)
    if drop:
        inner = smooth(np.concatenate([top[[0, 2, 4]], bottom - np.array([0.0, 0.05])])) * np.array(
            [0.86, 1.0]
        )
        surface.detail(head.on_face(inner), (74, 22, 26))
        if look.mouth == "laugh":
            teeth = points((-width * 0.7, y + 0.03), (width * 0.7, y + 0.03), (width * 0.5, MOUTH_Y + 0.1),
                           (-width * 0.5, MOUTH_Y + 0.1))  # fmt: skip
            surface.detail(head.on_face(smooth(teeth, 1)), (244, 240, 230))
        return
    line = smooth(np.concatenate([top[:1], middle, top[-1:]]), closed=False)
    surface.stroke(head.on_face(line), scaled(look.lips, 0.5), 0.035 * unit)


def _mask(surface: Surface, head: Head) -> None:
    color, width = head.look.mask_color, head.look.face_width
    cloth = points(
        (-width * 0.86, 0.12), (-0.2, 0.02), (0.0, -0.02), (0.2, 0.02), (width * 0.86, 0.12),
        (width * 0.8, 0.62), (0.26, 0.94), (0.0, 1.0), (-0.26, 0.94), (-width * 0.8, 0.62),
    )  # fmt: skip
    surface.polygon(head.on_face(smooth(cloth, 1), 0.06), color)
    for y in (0.28, 0.44, 0.6):
        fold = points((-width * 0.8, y), (0.0, y + 0.05), (width * 0.8, y))
        surface.stroke(
            head.on_face(smooth(fold, closed=False), 0.06), scaled(color, 0.84), 0.02 * head.pose.unit_px
        )


def _glasses(surface: Surface, head: Head) -> None:
    look, unit = head.look, head.pose.unit_px
    thickness = {"thin": 0.028, "thick": 0.07, "sun": 0.04}[look.eyewear] * unit
    for side in (-1, 1):
        if not head.is_seen(side * (EYE_X + 0.02), EYE_Y):
            continue
        x = side * 0.32
        lens = smooth(points((x - 0.25, EYE_Y - 0.16), (x + 0.25, EYE_Y - 0.16), (x + 0.22, EYE_Y + 0.17),
                             (x - 0.22, EYE_Y + 0.17)), 2)  # fmt: skip
        shape = head.on_face(lens * np.array([1.0, 1.0]), 0.1)
        if look.eyewear == "sun":
            surface.polygon(shape, (26, 24, 30))
            glint = points((x - 0.14, EYE_Y - 0.08), (x - 0.02, EYE_Y - 0.1), (x - 0.12, EYE_Y + 0.04))
            surface.detail(head.on_face(glint, 0.1), (92, 100, 116))
        surface.stroke(shape, look.eyewear_color, thickness, closed=True)
    surface.stroke(
        head.on_face(points((-0.09, EYE_Y - 0.06), (0.09, EYE_Y - 0.06)), 0.14), look.eyewear_color, thickness
    )
