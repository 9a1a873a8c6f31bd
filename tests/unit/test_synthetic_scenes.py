"""What the drawn scenes promise: exact boxes and landmarks, truthful flags, sizes over the whole range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featherface.data.synthetic_canvas import Dice, Surface, ellipse, hull, points, rectangle, smooth
from featherface.data.synthetic_faces import draw_head
from featherface.data.synthetic_heads import Pose
from featherface.data.synthetic_optics import Optics
from featherface.data.synthetic_people import Look, make_look
from featherface.data.synthetic_scenes import SCENES, SyntheticFace, kind_of, render_scene

HW = (240, 320)
SEED = 11
PLAIN = {
    "headwear": "none", "eyewear": "none", "hair": "bald", "beard": "none", "mouth": "neutral",
    "has_mask": False, "eye_open": 1.0, "gaze": 0.0, "age": 0.0,
    "skin": (231, 188, 160), "iris": (58, 36, 24), "lips": (150, 40, 50),
}  # fmt: skip


@pytest.fixture(scope="module")
def rendered() -> list[tuple[tuple[int, int], list[SyntheticFace]]]:
    """Shapes and faces of forty scenes in two sizes of image."""
    scenes = []
    for index in range(40):
        image, faces = render_scene(SEED, "train", index, HW if index % 2 else (480, 640))
        scenes.append((image.shape[:2], faces))
    return scenes


def plain_look(**changes: object) -> Look:
    return replace(make_look(Dice(3)), **{**PLAIN, **changes})


def draw(pose: Pose, look: Look | None = None, label: int = 1) -> tuple[Surface, tuple[float, ...]]:
    surface = Surface(np.full((200, 200, 3), 127, np.uint8))
    head = draw_head(surface, pose, look or plain_look(), side_light=0.0, label=label)
    return surface, head.box_xyxy


def test_equal_arguments_give_equal_pictures() -> None:
    first, faces = render_scene(SEED, "val", 2, HW)
    again, faces_again = render_scene(SEED, "val", 2, HW)
    np.testing.assert_array_equal(first, again)
    assert faces == faces_again


@pytest.mark.parametrize(
    ("seed", "split", "index"), [(SEED + 1, "val", 2), (SEED, "train", 2), (SEED, "val", 22)]
)
def test_seed_split_and_index_each_change_the_picture(seed: int, split: str, index: int) -> None:
    assert kind_of(index) == kind_of(2)
    other = render_scene(seed, split, index, HW, kind="crowd")[0]
    first = render_scene(SEED, "val", 2, HW, kind="crowd")[0]
    assert other.shape != first.shape or not np.array_equal(first, other)


def test_pictures_are_rgb_bytes_of_the_size_asked_for_or_turned(
    rendered: list[tuple[tuple[int, int], list[SyntheticFace]]],
) -> None:
    assert render_scene(SEED, "train", 0, HW)[0].dtype == np.uint8
    shapes = {shape for shape, _ in rendered}
    assert shapes == {(480, 640), (640, 480), (240, 320), (320, 240)}


def test_boxes_lie_inside_their_picture(rendered: list[tuple[tuple[int, int], list[SyntheticFace]]]) -> None:
    for (height, width), faces in rendered:
        for face in faces:
            left, top, box_width, box_height = face.box_xywh
            assert left >= 0
            assert top >= 0
            assert left + box_width <= width + 0.011
            assert top + box_height <= height + 0.011
            assert min(box_width, box_height) >= 3


def test_landmarks_of_whole_faces_lie_in_their_boxes(
    rendered: list[tuple[tuple[int, int], list[SyntheticFace]]],
) -> None:
    checked = 0
    for (height, width), faces in rendered:
        for face in faces:
            left, top, box_width, box_height = face.box_xywh
            is_cut = left <= 0 or top <= 0 or left + box_width >= width or top + box_height >= height
            if is_cut or face.pose:
                continue
            for x, y in face.landmarks_xy:
                assert left - 0.05 * box_width <= x <= left + 1.05 * box_width
                assert top - 0.05 * box_height <= y <= top + 1.05 * box_height
            checked += 1
    assert checked > 80


def test_flags_keep_the_ranges_of_wider_face_and_all_occur(
    rendered: list[tuple[tuple[int, int], list[SyntheticFace]]],
) -> None:
    faces = [face for _, faces in rendered for face in faces]
    for flag in ("blur", "occlusion"):
        assert {getattr(face, flag) for face in faces} == {0, 1, 2}, flag
    for flag in ("pose", "expression", "illumination"):
        assert {getattr(face, flag) for face in faces} == {0, 1}, flag
    assert {face.invalid for face in faces} <= {0, 1}


def test_sizes_cover_the_range_from_tiny_to_large(
    rendered: list[tuple[tuple[int, int], list[SyntheticFace]]],
) -> None:
    heights = np.array([face.box_xywh[3] for _, faces in rendered for face in faces])
    assert heights.min() >= 3
    assert heights.max() <= 420
    for low, high in ((8, 16), (16, 32), (32, 64), (64, 128), (128, 320)):
        assert ((heights >= low) & (heights < high)).mean() > 0.03, (low, high)


def test_eight_scenes_hold_every_kind_and_one_of_them_no_face() -> None:
    assert {kind_of(index) for index in range(8)} == set(SCENES)
    assert render_scene(SEED, "train", 7, HW)[1] == []


def test_the_box_of_a_frontal_face_is_its_silhouette() -> None:
    surface, (left, top, right, bottom) = draw(Pose(100, 100, 50))
    rows, columns = np.nonzero(surface.labels == 1)
    # Ears belong to the face's pixels but, as in WIDER FACE, not to its box.
    assert abs(rows.min() - top) <= 1.5
    assert abs(rows.max() + 1 - bottom) <= 1.5
    assert columns.min() <= left + 1
    assert columns.max() + 1 >= right - 1
    assert bottom - top == pytest.approx(2 * 50, rel=0.05)
    assert 0.6 < (right - left) / (bottom - top) < 0.85


@pytest.mark.parametrize("roll", [-60.0, 0.0, 35.0])
@pytest.mark.parametrize("yaw", [-25.0, 0.0, 25.0])
def test_landmarks_are_where_eyes_and_mouth_are_drawn(yaw: float, roll: float) -> None:
    pose = Pose(100, 100, 60, yaw=yaw, roll=roll)
    look = plain_look()
    surface = Surface(np.full((200, 200, 3), 127, np.uint8))
    head = draw_head(surface, pose, look, side_light=0.0, label=1)
    left_eye, right_eye, _, left_mouth, right_mouth = head.landmarks
    for eye in (left_eye, right_eye):
        x, y = (int(part) for part in eye)
        # The median: a glint lies beside the middle of the pupil.
        assert np.median(surface.rgb[y - 2 : y + 3, x - 2 : x + 3]) < 60, "the pupil is dark"
    x, y = ((left_mouth + right_mouth) / 2).astype(int)
    lips = surface.rgb[y - 4 : y + 12, x - 4 : x + 5].reshape(-1, 3).astype(int)
    assert (lips[:, 0] - lips[:, 1]).max() > 60, "the lips are red"


def test_turning_the_head_moves_the_nose_to_that_side_and_narrows_the_box() -> None:
    frontal, turned = (draw(Pose(100, 100, 50, yaw=yaw))[1] for yaw in (0.0, 80.0))
    assert turned[2] - turned[0] < 0.9 * (frontal[2] - frontal[0])
    surface = Surface(np.full((200, 200, 3), 127, np.uint8))
    head = draw_head(surface, Pose(100, 100, 50, yaw=80.0), plain_look(), side_light=0.0, label=1)
    assert head.landmarks[2, 0] == pytest.approx(head.box_xyxy[2], abs=4)


def test_a_mask_covers_about_half_of_the_face() -> None:
    bare, covered = (draw(Pose(100, 100, 50), plain_look(has_mask=mask))[0] for mask in (False, True))
    share = (covered.labels == 1).sum() / (bare.labels == 1).sum()
    assert 0.4 < share < 0.75


def test_a_person_in_front_takes_pixels_from_the_face_behind() -> None:
    surface, _ = draw(Pose(100, 100, 40))
    before = int((surface.labels == 1).sum())
    surface.polygon(rectangle(100, 0, 200, 200), (0, 0, 0))
    assert (surface.labels == 1).sum() == pytest.approx(before / 2, rel=0.1)


def test_a_small_head_keeps_its_mean_color() -> None:
    colors = []
    for unit in (4.0, 40.0):
        surface, (left, top, right, bottom) = draw(Pose(100, 100, unit))
        area = surface.rgb[round(top) : round(bottom), round(left) : round(right)]
        colors.append(area.reshape(-1, 3).mean(axis=0))
    np.testing.assert_allclose(colors[0], colors[1], atol=14)


def test_a_head_outside_of_the_picture_draws_nothing() -> None:
    surface, _ = draw(Pose(-500, 100, 20))
    assert (surface.rgb == 127).all()
    assert not surface.labels.any()


def test_skin_tones_come_in_equal_shares() -> None:
    brightness = np.array([sum(make_look(Dice(1, person)).skin) / 3 for person in range(600)])
    counts, _ = np.histogram(brightness, bins=[0, 75, 130, 185, 256])
    assert counts.min() > 90


def test_blur_is_judged_relative_to_the_face() -> None:
    optics = Optics(
        gain=1.0, cast=(255, 255, 255), defocus_px=1.5, motion_px=0, motion_degrees=0.0, grain=2,
        jpeg_quality=88, vignette=0.0,
    )  # fmt: skip
    assert [optics.blur_flag(0.0, height) for height in (200.0, 50.0, 20.0)] == [0, 1, 2]
    assert replace(optics, defocus_px=0.0, motion_px=9).blur_flag(0.0, 100.0) == 1
    assert replace(optics, defocus_px=0.0).blur_flag(3.0, 40.0) == 2


def test_dice_stay_in_their_range_and_respect_weights() -> None:
    dice = Dice(5)
    assert all(2.0 <= dice.uniform(2.0, 3.0) <= 3.0 for _ in range(200))
    assert all(8.0 <= dice.log_uniform(8.0, 300.0) <= 300.0 for _ in range(200))
    assert all(-1.0 <= dice.bell(1.0) <= 1.0 for _ in range(200))
    assert {dice.pick("abc", (1, 0, 1)) for _ in range(100)} == {"a", "c"}
    assert sum(dice.chance(0.25) for _ in range(2000)) == pytest.approx(500, rel=0.15)
    assert np.abs(dice.noise((50, 50), 4)).max() == 4


def test_the_hull_drops_inner_points_and_smoothing_keeps_the_ends_of_a_line() -> None:
    square = points((0.5, 0.5), (10.5, 0.5), (10.5, 10.5), (0.5, 10.5), (5.5, 5.5))
    assert {tuple(corner) for corner in hull(square).tolist()} == {
        (0.5, 0.5),
        (10.5, 0.5),
        (10.5, 10.5),
        (0.5, 10.5),
    }
    line = smooth(points((0, 0), (4, 0), (4, 4)), closed=False)
    np.testing.assert_array_equal(line[[0, -1]], [[0, 0], [4, 4]])
    assert len(ellipse(0, 0, 2, 1)) == 48
    np.testing.assert_allclose(ellipse(0, 0, 2, 1, 90)[0], [0, 2])
