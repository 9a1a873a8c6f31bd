"""Composes one photograph of the procedural data set: a place, people, things that resemble or hide faces."""

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
from featherface.data.synthetic_bodies import FEET, draw_back_of_head, draw_body
from featherface.data.synthetic_canvas import Bytes, Dice, Surface, rectangle, scaled
from featherface.data.synthetic_casting import place_group, place_rows
from featherface.data.synthetic_faces import draw_head
from featherface.data.synthetic_heads import Head, Pose
from featherface.data.synthetic_optics import Optics, defocus, make_optics, photograph
from featherface.data.synthetic_people import make_look
from featherface.data.synthetic_props import draw_occluder

Split = Literal["train", "val"]
SceneKind = Literal["street", "crowd", "portrait", "office", "night", "park", "market", "still_life"]

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
    ground: float | None = None
    """Where the ground begins, as a share of the image's height; None: people are seen without feet."""


SCENES: dict[SceneKind, Scene] = {
    "street": Scene("0--Street", paint_street, (2, 12), (8, 100), (1, 5), (0.0, 1.5), ground=0.64),
    "crowd": Scene("1--Crowd", paint_stand, (12, 25), (12, 56), (0, 4), (0.0, 1.0)),
    "portrait": Scene("2--Portrait", paint_studio, (1, 3), (90, 300), (0, 3), (1.0, 7.0)),
    "office": Scene("3--Office", paint_office, (3, 8), (20, 120), (1, 5), (0.0, 1.5), ground=0.8),
    "night": Scene("4--Night", paint_night, (2, 7), (14, 170), (0, 4), (0.0, 4.0), ground=0.7),
    "park": Scene("5--Park", paint_park, (3, 12), (8, 110), (2, 7), (0.0, 1.5), ground=0.6),
    "market": Scene("6--Market", paint_market, (1, 6), (16, 150), (4, 10), (0.0, 1.0), ground=0.8),
    "still_life": Scene("7--Still_Life", paint_office, (0, 0), (8, 9), (6, 14), (0.0, 1.5)),
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
    """Left and right eye as seen, tip of the nose, left and right corner of the mouth; covered ones too."""
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
    count, image_hw = dice.integer(*scene.faces), surface.hw
    if kind == "crowd":
        poses = place_rows(dice, count=count, face_px=scene.face_px, image_hw=image_hw)
    else:
        poses = place_group(dice, count=count, face_px=scene.face_px, image_hw=image_hw, ground=scene.ground)
    drawn = _draw_people(surface, dice, scene, poses, is_night=kind == "night")
    if kind == "crowd" or (kind == "office" and dice.chance(0.5)):
        _draw_barrier(surface, dice, poses)
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
        draw_body(surface, pose, look)
        head = draw_head(surface, pose, look, side_light=side_light, label=number + 1)
        drawn.append(_Person(head, number + 1, side_light, 0.0))
        if scene.ground and pose.y + FEET * pose.unit_px < (scene.ground - 0.02) * surface.hw[0]:
            _draw_counter(surface, dice, pose)
    return drawn


def _draw_counter(surface: Surface, dice: Dice, pose: Pose) -> None:
    """Draw a counter, balcony or wall in front of somebody who would float in the air."""
    unit, color = pose.unit_px, dice.color(50, 210)
    left, right = pose.x - dice.uniform(2.2, 4.0) * unit, pose.x + dice.uniform(2.2, 4.0) * unit
    top = pose.y + dice.uniform(2.2, 4.2) * unit
    surface.polygon(rectangle(left, top, right, pose.y + (FEET + 0.5) * unit), color)
    surface.polygon(
        rectangle(left - 0.2 * unit, top, right + 0.2 * unit, top + 0.5 * unit), scaled(color, 1.2)
    )


def _draw_barrier(surface: Surface, dice: Dice, poses: list[Pose]) -> None:
    """Draw a table or a fence of boards that hides the bodies of the people nearest to it."""
    height, width = surface.hw
    if not poses:
        return
    front = max(poses, key=lambda pose: pose.y)
    top = front.y + dice.uniform(2.0, 3.6) * front.unit_px
    bottom = top + dice.uniform(9.0, 14.0) * front.unit_px
    color = dice.pick(
        (dice.jitter((146, 104, 66), 20), dice.jitter((196, 192, 186), 20), dice.color(40, 200))
    )
    left = 0.0
    while left < width and top < height:
        right = left + dice.uniform(40, 220)
        surface.polygon(rectangle(left, top, right, bottom), scaled(color, dice.uniform(0.85, 1.15)))
        left = right
    surface.polygon(rectangle(0, top, width, top + max(2.0, 0.3 * front.unit_px)), scaled(color, 0.7))


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
