"""Composes one photograph of the procedural data set: a place, people, things that resemble and things that hide faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from featherface.data.synthetic_backgrounds import (
    Painter,
    paint_market,
    paint_night,
    paint_office,
    paint_park,
    paint_stand,
    paint_street,
    paint_studio,
    scatter,
)
from featherface.data.synthetic_bodies import draw_back_of_head, draw_body
from featherface.data.synthetic_canvas import Bytes, Dice, Surface, rectangle
from featherface.data.synthetic_faces import draw_head
from featherface.data.synthetic_heads import Head, Pose
from featherface.data.synthetic_optics import Optics, defocus, make_optics, photograph
from featherface.data.synthetic_people import make_look
from featherface.data.synthetic_props import draw_occluder

Split = Literal["train", "val"]
SceneKind = Literal["street", "crowd", "portrait", "office", "night", "park", "market", "still_life"]

MIN_FACE_PX, MAX_FACE_PX = 8.0, 300.0
# Visible share of the face below which it counts as partly or heavily occluded, as unusable, as absent.
_PARTLY, _HEAVILY, _UNUSABLE, _ABSENT = 0.74, 0.45, 0.22, 0.1


@dataclass(frozen=True)
class Scene:
    """What is typical of one kind of photograph."""

    event: str
    """Folder, in the manner of WIDER FACE."""
    paint: Painter
    faces: tuple[int, int]
    face_px: tuple[float, float]
    """Heights of faces."""
    distractors: tuple[int, int]
    backdrop_blur_px: tuple[float, float]
    standing: bool = False
    weight: int = 1
    """Images of this kind among 20."""


SCENES: dict[SceneKind, Scene] = {
    "street": Scene("0--Street", paint_street, (1, 10), (8, 90), (1, 5), (0.0, 1.5), standing=True, weight=3),
    "crowd": Scene("1--Crowd", paint_stand, (10, 25), (10, 48), (0, 4), (0.0, 1.0), weight=3),
    "portrait": Scene("2--Portrait", paint_studio, (1, 3), (90, 300), (0, 3), (1.0, 7.0), weight=3),
    "office": Scene("3--Office", paint_office, (2, 7), (22, 120), (1, 5), (0.0, 1.5), weight=3),
    "night": Scene("4--Night", paint_night, (1, 6), (14, 170), (0, 4), (0.0, 4.0), weight=3),
    "park": Scene("5--Park", paint_park, (2, 10), (8, 110), (2, 7), (0.0, 1.5), standing=True, weight=2),
    "market": Scene("6--Market", paint_market, (1, 5), (16, 150), (4, 10), (0.0, 1.0), weight=2),
    "still_life": Scene("7--Still_Life", paint_office, (0, 0), (8, 9), (6, 14), (0.0, 1.5), weight=1),
}
# Interleaved by hand so that even eight images hold most kinds.
_CYCLE: tuple[SceneKind, ...] = (
    "street", "portrait", "crowd", "office", "night", "park", "market", "still_life", "portrait", "crowd",
    "street", "night", "office", "park", "market", "crowd", "portrait", "street", "night", "office",
)  # fmt: skip
_SPLIT_KEYS: dict[Split, int] = {"train": 1, "val": 2}


@dataclass(frozen=True)
class SyntheticFace:
    """One annotated face; the flags have the meaning and values of WIDER FACE."""

    box_xywh: tuple[float, float, float, float]
    """Pixels, inside the image."""
    landmarks_xy: tuple[tuple[float, float], ...]
    """Left and right eye as seen, tip of the nose, left and right corner of the mouth; may be covered or outside."""
    blur: int
    expression: int
    illumination: int
    occlusion: int
    invalid: int
    pose: int


def kind_of(index: int) -> SceneKind:
    """Return the kind of the image with this number."""
    return _CYCLE[index % len(_CYCLE)]


def render_scene(
    seed: int, split: Split, index: int, image_hw: tuple[int, int], kind: SceneKind | None = None
) -> tuple[Bytes, list[SyntheticFace]]:
    """Return an (H, W, 3) RGB image and its faces; equal arguments give equal bytes.

    Args:
        seed: of the data set.
        split: train and val never share a scene.
        index: number of the image in its split.
        image_hw: height and width; one image in six is turned to the other format.
        kind: of scene; by default it follows from the index.
    """
    image, faces, _ = render_photograph(seed, split, index, image_hw, kind)
    return image, faces


def render_photograph(
    seed: int, split: Split, index: int, image_hw: tuple[int, int], kind: SceneKind | None = None
) -> tuple[Bytes, list[SyntheticFace], Optics]:
    """Return what `render_scene` returns and the conditions the photograph was taken in."""
    kind = kind or kind_of(index)
    scene = SCENES[kind]
    dice = Dice(seed, _SPLIT_KEYS[split], index)
    height, width = image_hw if dice.chance(5 / 6) else image_hw[::-1]
    surface = Surface(np.zeros((height, width, 3), np.uint8))
    paint = paint_market if kind == "still_life" and dice.chance(0.4) else scene.paint
    paint(surface, dice)
    scatter(surface, dice, dice.integer(*scene.distractors))
    surface.rgb[:] = defocus(surface.rgb, dice.uniform(*scene.backdrop_blur_px))
    optics = make_optics(dice, is_night=kind == "night")
    people = (
        _place_crowd(dice, scene, (height, width))
        if kind == "crowd"
        else _place(dice, scene, (height, width))
    )
    drawn = _draw_people(surface, dice, scene, people, is_night=kind == "night")
    if kind == "office" and people:
        _draw_desk(surface, dice, people)
    for person in drawn:
        if dice.chance(0.09):
            draw_occluder(surface, dice, person.head.box_xyxy, person.head.look.skin)
    return photograph(surface.rgb, optics, dice), _annotate(surface, drawn, optics), optics


@dataclass(frozen=True)
class _Person:
    head: Head
    label: int
    side_light: float
    sigma_px: float
    """Blur by distance from the plane of focus."""


def _place(dice: Dice, scene: Scene, hw: tuple[int, int]) -> list[Pose]:
    """Return poses, far (small) first; few of them overlap."""
    height, width = hw
    poses: list[Pose] = []
    for _ in range(dice.integer(*scene.faces)):
        for _attempt in range(6):
            unit = _face_px(dice, scene, hw) / 2
            margin = 0.3 * unit
            x, y = dice.uniform(margin, width - margin), dice.uniform(0.9 * unit, height - 1.2 * unit)
            if scene.standing:
                # People on the ground: the nearer, the larger and the lower their feet.
                y = min(
                    height - 1.1 * unit, height * dice.uniform(0.36, 0.56) + unit * dice.uniform(0.0, 2.0)
                )
            reach = dice.uniform(0.9, 1.9)
            if all(_apart(pose, x, y, unit, reach) for pose in poses):
                poses.append(_turn(dice, x, y, unit))
                break
    return sorted(poses, key=lambda pose: pose.unit_px)


def _apart(pose: Pose, x: float, y: float, unit: float, reach: float) -> bool:
    limit = reach * max(pose.unit_px, unit)
    return (pose.x - x) ** 2 + (pose.y - y) ** 2 > limit**2


def _place_crowd(dice: Dice, scene: Scene, hw: tuple[int, int]) -> list[Pose]:
    """Return rows of people that overlap, the last row first."""
    height, width = hw
    count, rows = dice.integer(*scene.faces), dice.integer(2, 4)
    columns = -(-count // rows)
    largest = min(scene.face_px[1], 0.8 * width / columns)
    unit = dice.log_uniform(min(scene.face_px[0] * 1.3, largest * 0.8), largest) / 2
    spacing = min(dice.uniform(2.6, 4.6) * unit, width / columns)
    start_x = dice.uniform(0.5, 1.0) * (width - spacing * (columns - 1)) * dice.uniform(0.3, 1.0)
    y = dice.uniform(0.15, 0.5) * height
    poses: list[Pose] = []
    for row in range(rows):
        size = unit * (0.8 + 0.2 * row)
        for column in range(min(columns, count - len(poses))):
            x = start_x + spacing * (column + 0.5 * (row % 2)) + dice.bell(0.5) * unit
            poses.append(_turn(dice, x, y + dice.bell(0.8) * unit, max(size * dice.uniform(0.92, 1.08), 4.0)))
        y += dice.uniform(1.7, 2.9) * size
    return [pose for pose in poses if 0 < pose.x < width and 0 < pose.y < height]


def _face_px(dice: Dice, scene: Scene, hw: tuple[int, int]) -> float:
    low, high = scene.face_px
    return min(dice.log_uniform(max(low, MIN_FACE_PX), min(high, MAX_FACE_PX)), 0.75 * min(hw))


def _turn(dice: Dice, x: float, y: float, unit: float) -> Pose:
    """Return a pose: most people look about into the camera, one in eight is seen from the side."""
    yaw = dice.pick((-1, 1)) * dice.uniform(50, 84) if dice.chance(0.12) else dice.bell(60)
    roll = dice.bell(110) if dice.chance(0.08) else dice.bell(28)
    return Pose(x, y, unit, float(round(yaw)), float(round(dice.bell(34))), float(round(roll)))


def _draw_people(
    surface: Surface, dice: Dice, scene: Scene, poses: list[Pose], *, is_night: bool
) -> list[_Person]:
    drawn: list[_Person] = []
    far_sigma = dice.uniform(0.5, 1.8) if dice.chance(0.25) else 0.0
    focus = dice.integer(1, max(1, len(poses) - 1))
    for number, pose in enumerate(poses):
        if number == focus and far_sigma:
            surface.rgb[:] = defocus(surface.rgb, far_sigma)
            drawn = [_Person(person.head, person.label, person.side_light, far_sigma) for person in drawn]
        look = make_look(dice)
        if dice.chance(0.08):
            draw_back_of_head(surface, pose, look)
            continue
        side_light = (
            dice.pick((-1, 1)) * dice.uniform(0.2, 0.95) if dice.chance(0.6 if is_night else 0.2) else 0.0
        )
        draw_body(surface, pose, look, standing=scene.standing)
        head = draw_head(surface, pose, look, side_light=side_light, label=number + 1)
        drawn.append(_Person(head, number + 1, side_light, 0.0))
    return drawn


def _draw_desk(surface: Surface, dice: Dice, people: list[Pose]) -> None:
    """Draw a table that hides the bodies of the people nearest to it."""
    height, width = surface.hw
    top = max(pose.y + 2.4 * pose.unit_px for pose in people)
    if top < height - 8:
        color = dice.jitter(dice.pick(((146, 104, 66), (200, 196, 190), (90, 66, 52))), 14)
        surface.polygon(rectangle(0, top, width, height), color)
        surface.polygon(rectangle(0, top, width, top + 7), dice.jitter(color, 20))


def _annotate(surface: Surface, drawn: list[_Person], optics: Optics) -> list[SyntheticFace]:
    height, width = surface.hw
    counts = np.bincount(surface.labels.ravel(), minlength=256)
    faces = []
    for person in drawn:
        left, top, right, bottom = person.head.box_xyxy
        visible = float(counts[person.label]) / person.head.area_px
        inside = (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
        box_width, box_height = round(inside[2] - inside[0], 2), round(inside[3] - inside[1], 2)
        if visible < _ABSENT or min(box_width, box_height) < 3:
            continue
        box = (round(inside[0], 2), round(inside[1], 2), box_width, box_height)
        faces.append(
            SyntheticFace(
                box_xywh=box,
                landmarks_xy=tuple((round(x, 2), round(y, 2)) for x, y in person.head.landmarks.tolist()),
                blur=optics.blur_flag(person.sigma_px, bottom - top),
                expression=int(person.head.look.is_expressive),
                illumination=int(optics.is_extreme or abs(person.side_light) > 0.6),
                occlusion=2 if visible < _HEAVILY else int(visible < _PARTLY),
                invalid=int(visible < _UNUSABLE),
                pose=int(person.head.pose.is_atypical),
            )
        )
    return faces
