"""Turned, covered, worse and colorless views: where the faces go, and what stays as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featherface.config import AugmentConfig
from featherface.data.augment import augment, crop_and_resize
from featherface.data.harder_views import (
    cover_faces,
    degrade,
    mix,
    sharpen,
    side_before_turning,
    turn_faces,
    turn_image,
    without_colors,
)
from featherface.data.labeled import LabeledImage
from featherface.imaging import MEAN_RGB, RgbImage


def labeled(image: RgbImage, boxes_xyxy: list[list[float]]) -> LabeledImage:
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    return LabeledImage(
        image=image,
        boxes_xyxy=boxes,
        landmarks_xy=np.repeat(middles[:, None], 5, axis=1),
        has_landmarks=np.ones(len(boxes), np.bool_),
        is_ignored=np.zeros(len(boxes), np.bool_),
    )


def spot(hw: tuple[int, int], center_xy: tuple[float, float], radius: float) -> RgbImage:
    """A white disk on black."""
    rows, columns = np.mgrid[: hw[0], : hw[1]] + 0.5
    inside = np.hypot(columns - center_xy[0], rows - center_xy[1]) <= radius
    return np.repeat((255 * inside)[:, :, None], 3, axis=2).astype(np.uint8)


def box_of_spot(image: RgbImage) -> list[float]:
    bright = image[:, :, 0] > 127
    columns, rows = np.flatnonzero(bright.any(axis=0)), np.flatnonzero(bright.any(axis=1))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_a_quarter_turn_is_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 33, 3), dtype=np.uint8)
    np.testing.assert_array_equal(turn_image(image, 90, 33), np.rot90(image, -1))
    source = labeled(image, [[3, 5, 9, 25]])
    turned = turn_faces(source, (16.5, 16.5), 90)
    # Clockwise: what was left is on top, what was at the bottom is left.
    np.testing.assert_allclose(turned.boxes_xyxy, [[8, 3, 28, 9]], atol=1e-5)
    np.testing.assert_allclose(turned.landmarks_xy[0], [[18, 6]] * 5, atol=1e-5)
    unknown = replace(source, has_landmarks=np.array([False]), landmarks_xy=np.zeros((1, 5, 2), np.float32))
    assert not turn_faces(unknown, (16.5, 16.5), 90).landmarks_xy.any()


@pytest.mark.parametrize("degrees", [-45.0, -20.0, 7.0, 30.0])
@pytest.mark.parametrize(("left", "top", "side"), [(20, 30, 100), (-30, -10, 170), (41, 23, 61)])
def test_boxes_turn_with_the_picture(degrees: float, left: int, top: int, side: int) -> None:
    center, radius = (75.0, 70.0), 12.0
    source = labeled(
        spot((150, 180), center, radius),
        [[center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius]],
    )
    view = crop_and_resize(source, left=left, top=top, side=side, size_px=128, degrees=degrees)
    # A disk stays a disk, so its box is known from the pixels.
    np.testing.assert_allclose(view.boxes_xyxy[0], box_of_spot(view.image), atol=1.6)


def test_the_box_of_an_ellipse_is_that_of_the_turned_ellipse() -> None:
    source = labeled(np.zeros((9, 9, 3), np.uint8), [[-2, -1, 2, 1]])
    turned = turn_faces(source, (0, 0), 30)
    angles = np.linspace(0, 2 * np.pi, 100_000)
    x, y = 2 * np.cos(angles), np.sin(angles)
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    half_wh = (np.abs(x * cosine - y * sine).max(), np.abs(x * sine + y * cosine).max())
    np.testing.assert_allclose(turned.boxes_xyxy[0, 2:], half_wh, rtol=1e-6)


def test_a_turned_view_shows_no_padding_inside_the_picture() -> None:
    assert side_before_turning(0) == 1
    assert side_before_turning(45) == pytest.approx(2**0.5)
    image = np.full((300, 300, 3), 200, np.uint8)
    view = crop_and_resize(labeled(image, []), left=100, top=100, side=100, size_px=64, degrees=40)
    assert (view.image == 200).all()
    corner = crop_and_resize(labeled(image, []), left=0, top=0, side=100, size_px=64, degrees=40)
    np.testing.assert_array_equal(corner.image[0, 0], MEAN_RGB)


def test_a_covered_face_keeps_its_label_and_only_its_surroundings_change() -> None:
    image = np.full((100, 100, 3), 99, np.uint8)
    source = labeled(image, [[20, 20, 60, 60], [80, 80, 90, 90]])
    changed = []
    for seed in range(20):
        view = cover_faces(source, np.random.default_rng(seed), 1.0)
        np.testing.assert_array_equal(view.boxes_xyxy, source.boxes_xyxy)
        differs = (view.image != image).any(axis=2)
        changed.append(differs[20:60, 20:60].mean())
        assert not differs[78:, 78:].any(), "too small to be covered"
        ignored = replace(source, is_ignored=np.array([True, False]))
        np.testing.assert_array_equal(cover_faces(ignored, np.random.default_rng(seed), 1.0).image, image)
    assert max(changed) < 0.6
    assert np.mean([share > 0.02 for share in changed]) > 0.5
    assert (source.image == 99).all()


def test_worse_pictures_stay_the_picture() -> None:
    image = spot((64, 64), (30, 30), 14)
    seen = set()
    for seed in range(30):
        worse = degrade(image, np.random.default_rng(seed))
        assert worse.shape == image.shape
        assert worse.dtype == np.uint8
        difference = np.abs(worse.astype(int) - image).mean()
        assert 0 < difference < 20
        seen.add(round(difference, 3))
    assert len(seen) > 10


def test_sharp_edges_are_steeper_and_what_is_flat_stays() -> None:
    ramp = np.tile(np.clip(np.arange(64) * 16 - 384, 64, 192), (64, 1))
    image = np.repeat(ramp[:, :, None], 3, axis=2).astype(np.uint8)
    sharp = sharpen(image, np.random.default_rng(0))
    assert sharp.min() < 64
    assert sharp.max() > 192
    np.testing.assert_array_equal(sharp[:, :8], image[:, :8])
    assert (image >= 64).all()


def test_a_mixture_shows_both_views_and_asks_for_no_face() -> None:
    dark, bright = np.full((32, 32, 3), 40, np.uint8), np.full((32, 32, 3), 240, np.uint8)
    mixed = mix(labeled(dark, [[1, 2, 9, 12]]), labeled(bright, [[20, 3, 30, 14]]), np.random.default_rng(3))
    assert len(np.unique(mixed.image)) == 1
    assert 40 < mixed.image[0, 0, 0] <= 140, "the first view keeps at least half of the weight"
    np.testing.assert_array_equal(mixed.boxes_xyxy, [[1, 2, 9, 12], [20, 3, 30, 14]])
    np.testing.assert_array_equal(mixed.landmarks_xy[:, 0], [[5, 7], [25, 8.5]])
    assert mixed.is_ignored.all()
    assert (dark == 40).all()


def test_without_colors_all_channels_are_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    grey = without_colors(image)
    assert (grey == grey[:, :, :1]).all()


def test_what_is_switched_off_changes_no_view() -> None:
    source = labeled(
        np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8), [[9, 9, 40, 50]]
    )
    views = [
        augment(source, np.random.default_rng(5), image_size_px=64, settings=settings, min_face_px=4)
        for settings in (
            AugmentConfig(),
            AugmentConfig(rotation_max_degrees=45),
            AugmentConfig(rotation_probability=1.0),
        )
    ]
    np.testing.assert_array_equal(views[0].image, views[1].image)
    assert (views[0].image != views[2].image).any()
