"""Views of training images: where faces go, what is ignored, what colors do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featherface.config import AugmentConfig
from featherface.data.augment import (
    augment,
    crop_and_resize,
    distort_colors,
    flip_horizontally,
    ignore_small_faces,
)
from featherface.data.labeled import LabeledImage, label_image
from featherface.data.widerface import Annotation
from featherface.imaging import MEAN_RGB

POINTS = [[12.0, 14.0], [18.0, 14.0], [15.0, 16.0], [13.0, 18.0], [17.0, 18.0]]


def labeled(boxes_xyxy: list[list[float]], *, hw: tuple[int, int] = (100, 200)) -> LabeledImage:
    num_faces = len(boxes_xyxy)
    return LabeledImage(
        image=np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8),
        boxes_xyxy=np.asarray(boxes_xyxy, np.float32).reshape(-1, 4),
        landmarks_xy=np.asarray([POINTS] * num_faces, np.float32).reshape(-1, 5, 2),
        has_landmarks=np.ones(num_faces, np.bool_),
        is_ignored=np.zeros(num_faces, np.bool_),
    )


def annotation() -> Annotation:
    attributes = np.zeros((3, 6), np.int8)
    attributes[1, 3] = 1
    return Annotation(
        image="e/a.jpg",
        boxes_xywh=np.asarray([[10, 20, 30, 40], [0, 0, 5, 5], [7, 7, 0, 9]], np.float32),
        attributes=attributes,
        landmarks_xy=np.ones((3, 5, 2), np.float32),
        has_landmarks=np.asarray([True, False, True]),
    )


def test_annotations_are_scaled_invalid_faces_ignored_and_flat_boxes_left_out() -> None:
    view = label_image(np.zeros((50, 100, 3), np.uint8), annotation(), scale_xy=(0.5, 0.25))
    np.testing.assert_allclose(view.boxes_xyxy, [[5, 5, 20, 15], [0, 0, 2.5, 1.25]])
    np.testing.assert_allclose(view.landmarks_xy[0], [[0.5, 0.25]] * 5)
    assert view.is_ignored.tolist() == [False, True]
    assert view.has_landmarks.tolist() == [True, False]
    assert view.boxes_xyxy.dtype == view.landmarks_xy.dtype == np.float32


def test_crop_inside_the_image_is_that_part_of_it() -> None:
    source = labeled([[10, 10, 20, 20]])
    view = crop_and_resize(source, left=4, top=6, side=32, size_px=32)
    np.testing.assert_array_equal(view.image, source.image[6:38, 4:36])
    np.testing.assert_allclose(view.boxes_xyxy, [[6, 4, 16, 14]])
    np.testing.assert_allclose(view.landmarks_xy[0], np.asarray(POINTS) - (4, 6))
    assert view.is_ignored.tolist() == [False]


def test_zoom_scales_boxes_and_landmarks() -> None:
    view = crop_and_resize(labeled([[10, 10, 20, 20]]), left=0, top=0, side=40, size_px=80)
    np.testing.assert_allclose(view.boxes_xyxy, [[20, 20, 40, 40]])
    np.testing.assert_allclose(view.landmarks_xy[0], np.asarray(POINTS) * 2)


def test_crop_beyond_the_image_is_padded_with_the_mean() -> None:
    source = labeled([[10, 10, 20, 20]], hw=(40, 60))
    view = crop_and_resize(source, left=-20, top=-50, side=100, size_px=100)
    expected = np.empty((100, 100, 3), np.uint8)
    expected[:] = MEAN_RGB
    expected[50:90, 20:80] = source.image
    np.testing.assert_array_equal(view.image, expected)
    np.testing.assert_allclose(view.boxes_xyxy, [[30, 60, 40, 70]])


def test_faces_stay_on_their_pixels_when_a_padded_crop_is_shrunk() -> None:
    source = labeled([[20, 8, 36, 24]], hw=(40, 60))
    image = np.zeros_like(source.image)
    image[8:24, 20:36] = 255
    view = crop_and_resize(replace(source, image=image), left=-7, top=-9, side=83, size_px=64)
    left, top, right, bottom = view.boxes_xyxy[0]
    white = np.argwhere(view.image.min(axis=2) > 127)
    assert abs(white[:, 0].min() - top) <= 1
    assert abs(white[:, 0].max() + 1 - bottom) <= 1
    assert abs(white[:, 1].min() - left) <= 1
    assert abs(white[:, 1].max() + 1 - right) <= 1


def test_shrunk_view_averages_instead_of_picking_pixels() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 200  # a quarter of the pixels: of half of them even an interpolation sees the mean
    view = crop_and_resize(replace(labeled([]), image=stripes), left=0, top=0, side=64, size_px=16)
    np.testing.assert_array_equal(view.image, np.full((16, 16, 3), 50))


def test_faces_are_kept_by_center_ignored_when_half_seen_dropped_when_hardly() -> None:
    # In a crop of (50, 0)-(100, 50): center inside; a third seen; a tenth seen; not at all; without an area.
    boxes_xyxy = [[45, 10, 59, 20], [44, 10, 53, 20], [32, 10, 52, 20], [150, 10, 170, 20], [60, 9, 60, 20]]
    view = crop_and_resize(labeled(boxes_xyxy), left=50, top=0, side=50, size_px=50)
    np.testing.assert_allclose(view.boxes_xyxy, [[0, 10, 9, 20], [0, 10, 3, 20]])
    assert view.is_ignored.tolist() == [False, True]


def test_a_face_whose_center_two_crops_share_is_learnt_in_one_of_them() -> None:
    source = labeled([[40, 10, 60, 20]])
    views = [crop_and_resize(source, left=left, top=0, side=50, size_px=50) for left in (0, 50)]
    assert [view.is_ignored.tolist() for view in views] == [[True], [False]]


def test_faces_of_which_too_little_is_left_are_ignored_if_asked() -> None:
    # In a crop of (50, 0)-(100, 50): whole; four fifths seen; two thirds seen, and its center.
    boxes_xyxy = [[60, 10, 70, 20], [48, 10, 58, 20], [46, 30, 58, 40]]
    view = crop_and_resize(labeled(boxes_xyxy), left=50, top=0, side=50, size_px=50, min_visible_fraction=0.7)
    np.testing.assert_allclose(view.boxes_xyxy, [[10, 10, 20, 20], [0, 10, 8, 20], [0, 30, 8, 40]])
    assert view.is_ignored.tolist() == [False, False, True]


def test_crop_that_misses_the_image_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"a crop at \(500, 0\) of side 10 misses the image of 200x100"):
        crop_and_resize(labeled([]), left=500, top=0, side=10, size_px=10)


def test_mirror_swaps_eyes_and_corners_of_the_mouth() -> None:
    source = labeled([[10, 10, 20, 22]])
    view = flip_horizontally(source)
    np.testing.assert_array_equal(view.image, source.image[:, ::-1])
    np.testing.assert_allclose(view.boxes_xyxy, [[180, 10, 190, 22]])
    np.testing.assert_allclose(view.landmarks_xy[0], [[182, 14], [188, 14], [185, 16], [183, 18], [187, 18]])


def test_mirror_leaves_its_input_and_unknown_landmarks_alone() -> None:
    source = replace(labeled([[10, 10, 20, 22]]), has_landmarks=np.zeros(1, np.bool_))
    source = replace(source, landmarks_xy=np.zeros((1, 5, 2), np.float32))
    view = flip_horizontally(source)
    assert not view.landmarks_xy.any()
    assert source.boxes_xyxy.tolist() == [[10, 10, 20, 22]]


def test_faces_below_the_smallest_side_are_ignored() -> None:
    view = ignore_small_faces(labeled([[0, 0, 6, 20], [0, 0, 5.9, 20], [0, 0, 20, 2]]), 6)
    assert view.is_ignored.tolist() == [False, True, True]
    assert ignore_small_faces(view, 0).is_ignored.tolist() == [False, True, True], "what is ignored stays so"


def test_no_faces_are_fine() -> None:
    view = ignore_small_faces(flip_horizontally(labeled([])), 6)
    assert view.boxes_xyxy.shape == (0, 4)
    assert view.landmarks_xy.shape == (0, 5, 2)


def test_colors_change_and_stay_within_a_byte() -> None:
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    distorted = distort_colors(image, np.random.default_rng(2))
    assert distorted.dtype == np.uint8
    assert distorted.shape == image.shape
    assert (distorted != image).mean() > 0.5


def test_hue_and_saturation_leave_grey_grey() -> None:
    grey = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[None, :, None], 3, axis=2)
    for seed in range(5):
        distorted = distort_colors(grey, np.random.default_rng(seed)).astype(int)
        assert np.ptp(distorted, axis=2).max() <= 1


def test_colors_are_brightened_stretched_and_turned_as_drawn() -> None:
    image = np.random.default_rng(1).integers(96, 160, (16, 16, 3), dtype=np.uint8)
    to_yiq = np.asarray([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    for seed in range(5):
        draws = np.random.default_rng(seed)
        brightness, contrast = draws.uniform(-32, 32), draws.uniform(0.6, 1.4)
        saturation, hue = draws.uniform(0.5, 1.5), draws.uniform(-np.pi / 10, np.pi / 10)
        before, after = (
            np.moveaxis(each @ to_yiq.T, 2, 0)
            for each in (image.astype(float), distort_colors(image, np.random.default_rng(seed)))
        )
        np.testing.assert_allclose(after[0], contrast * before[0] + brightness, atol=0.6)
        chroma_before, chroma_after = (each[1] + 1j * each[2] for each in (before, after))
        turned = contrast * saturation * np.exp(1j * hue) * chroma_before
        np.testing.assert_allclose(chroma_after, turned, atol=0.9)


def view_of(seed: int, source: LabeledImage, **changes: float) -> LabeledImage:
    return augment(
        source,
        np.random.default_rng(seed),
        image_size_px=64,
        settings=AugmentConfig(**changes),
        min_face_px=2,
    )


def test_equal_generators_give_equal_views_and_others_do_not() -> None:
    source = labeled([[40, 40, 60, 70]])
    first, second, other = view_of(1, source), view_of(1, source), view_of(2, source)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.boxes_xyxy, second.boxes_xyxy)
    assert (first.image != other.image).any()


def test_larger_view_shows_more_at_the_same_zoom_up_to_the_long_side() -> None:
    source = labeled([[50, 50, 52, 52]])
    height, width = source.image.shape[:2]
    settings = AugmentConfig(crop_scale_min=0.5, crop_scale_max=0.5, flip_probability=0)

    def zoom(image_size_px: int, extent: float) -> float:
        view = augment(
            source,
            np.random.default_rng(0),
            image_size_px=image_size_px,
            settings=settings,
            min_face_px=0,
            extent=extent,
        )
        left, _, right, _ = view.boxes_xyxy[0]
        return float(right - left) / 2

    assert zoom(32, 1.0) == pytest.approx(32 / (0.5 * height), rel=0.05)
    assert zoom(64, 2.0) == pytest.approx(zoom(32, 1.0), rel=0.05)
    assert zoom(320, 10.0) == pytest.approx(320 / width, rel=0.05)


def test_crops_are_as_large_as_the_settings_let_them() -> None:
    # Three times the short side, which is more than the long one: the face has a thirtieth of the view.
    view = view_of(0, labeled([[40, 40, 50, 50]], hw=(100, 200)), crop_scale_min=3.0, crop_scale_max=3.0)
    assert view.boxes_xyxy[0, 2] - view.boxes_xyxy[0, 0] == pytest.approx(64 * 10 / 300, rel=0.02)


def test_faces_that_are_cut_are_learnt_only_as_far_as_the_settings_allow() -> None:
    source = labeled([[40, 20, 100, 80]])

    def learnt_heights(**changes: float) -> list[float]:
        crops = {"crop_scale_min": 0.6, "crop_scale_max": 0.6}
        views = [view_of(seed, source, **crops, **changes) for seed in range(20)]
        return [float(box[3] - box[1]) for view in views for box in view.boxes_xyxy[~view.is_ignored]]

    assert min(learnt_heights(min_visible_fraction=0.0)) < 50
    # Of 60 px on 60 px, a tenth cut off at most.
    assert min(learnt_heights(min_visible_fraction=0.9)) > 0.9 * 64 - 0.1


def test_what_has_no_chance_draws_no_number() -> None:
    generator, spent = np.random.default_rng(3), np.random.default_rng(3)
    settings = AugmentConfig(photometric_probability=0)
    augment(labeled([]), generator, image_size_px=64, settings=settings, min_face_px=2)
    spent.random(1 + 2 * 10 + 2)  # the zoom, ten places, whether there are other colors and a mirror
    assert generator.random() == spent.random()


def test_source_is_not_changed() -> None:
    source = labeled([[40, 40, 60, 70]])
    before = source.image.copy()
    for seed in range(10):
        view_of(seed, source, photometric_probability=1, flip_probability=1)
    np.testing.assert_array_equal(source.image, before)
    assert source.boxes_xyxy.tolist() == [[40, 40, 60, 70]]


def count_views_with_face(source: LabeledImage) -> int:
    # One place in fourteen holds the face: 7 views of 100 by chance, 54 with ten tries each.
    small = {"crop_scale_min": 0.3, "crop_scale_max": 0.3}
    return sum(len(view_of(seed, source, **small)) > 0 for seed in range(100))


def test_small_crops_seek_faces_but_also_show_background() -> None:
    assert 40 <= count_views_with_face(labeled([[104, 35, 106, 37]])) <= 70


def test_ignored_faces_are_not_sought() -> None:
    ignored = replace(labeled([[104, 35, 106, 37]]), is_ignored=np.ones(1, np.bool_))
    assert count_views_with_face(ignored) <= 20


def test_probabilities_of_zero_and_one_are_kept() -> None:
    # Left black, right white: the colors tell which way round the view is.
    image = np.zeros((50, 50, 3), np.uint8)
    image[:, 25:] = 255
    source = replace(labeled([], hw=(50, 50)), image=image)
    exact = {"crop_scale_min": 1.0, "crop_scale_max": 1.0, "photometric_probability": 0.0}
    for seed in range(5):
        assert view_of(seed, source, flip_probability=0, **exact).image[:, :28].max() == 0
        assert view_of(seed, source, flip_probability=1, **exact).image[:, :28].min() == 255
