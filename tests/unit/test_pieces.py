"""Faces cut out, turned upright and blurred."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherface.errors import OptionError
from featherface.inference.pieces import TEMPLATE_XY, align_face, blur_faces, crop_face, similarity


def noise(height: int = 120, width: int = 160, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_crop_is_the_pixels_that_the_box_touches() -> None:
    image = noise()
    np.testing.assert_array_equal(crop_face(image, np.asarray([10.2, 20.0, 30.0, 39.9])), image[20:40, 10:30])
    with_margin = crop_face(image, np.asarray([10.0, 20, 30, 40]), margin=0.5)
    np.testing.assert_array_equal(with_margin, image[10:50, 0:40])
    with_margin[:] = 0
    np.testing.assert_array_equal(image, noise(), "a crop is a copy")
    with pytest.raises(OptionError, match="margin must be a number of at least 0, got -1"):
        crop_face(image, np.zeros(4), margin=-1)


@given(
    box=st.lists(st.floats(-500, 500), min_size=4, max_size=4),
    margin=st.floats(0, 2),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_a_crop_of_any_box_has_a_pixel_and_stays_in_the_image(
    box: list[float], margin: float, height: int, width: int
) -> None:
    crop = crop_face(noise(height, width), np.asarray(box), margin=margin)
    assert 1 <= crop.shape[0] <= height
    assert 1 <= crop.shape[1] <= width


@given(angle=st.floats(-3.1, 3.1), scale=st.floats(0.1, 20), x=st.floats(-300, 300), y=st.floats(-300, 300))
def test_a_similarity_is_found_again(angle: float, scale: float, x: float, y: float) -> None:
    turn = scale * np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = TEMPLATE_XY @ turn.T + (x, y)
    matrix = similarity(TEMPLATE_XY, moved)
    np.testing.assert_allclose(matrix, np.column_stack([turn, (x, y)]), atol=1e-6 * (1 + scale))
    back = similarity(moved, TEMPLATE_XY)
    np.testing.assert_allclose(moved @ back[:, :2].T + back[:, 2], TEMPLATE_XY, atol=1e-6)


def test_points_that_coincide_are_only_moved() -> None:
    matrix = similarity(np.full((5, 2), 7.0), TEMPLATE_XY)
    np.testing.assert_allclose(matrix[:, :2], np.eye(2))
    assert np.isfinite(matrix).all()


def test_a_face_at_the_template_stays_as_it_is() -> None:
    image = noise(112, 112)
    np.testing.assert_array_equal(align_face(image, TEMPLATE_XY), image)
    assert align_face(image, TEMPLATE_XY, size_px=56).shape == (56, 56, 3)


def test_a_turned_face_is_upright_again() -> None:
    image = np.zeros((200, 200, 3), dtype=np.uint8)
    # A face upside down, twice as large: eyes below, a white nose.
    points = 200 - (TEMPLATE_XY * 1.5 + 10)
    nose = points[2].astype(int)
    image[nose[1] - 6 : nose[1] + 6, nose[0] - 6 : nose[0] + 6] = 255
    aligned = align_face(image, points)
    row, column = np.argwhere(aligned[..., 0] > 128).mean(axis=0)
    assert (column, row) == pytest.approx(TEMPLATE_XY[2], abs=1.0)
    with pytest.raises(OptionError, match="size_px must be a whole number of at least 1, got 0"):
        align_face(image, points, size_px=0)


def turned(angle: float, scale: float, middle_xy: tuple[float, float]) -> np.ndarray:
    """The template so many times as large, turned about the middle of its square, which is moved."""
    turn = scale * np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (TEMPLATE_XY - 56) @ turn.T + middle_xy


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.8, 3.0])
def test_a_large_face_is_averaged_not_sampled(angle: float) -> None:
    image = noise(2240, 2240)
    # Noise of 73.9 around its mean, averaged over 20 x 20 pixels, is noise of 3.7; between them it is less.
    std = align_face(image, turned(angle, 20, (1120, 1120)))[30:-30, 30:-30].astype(float).std()
    assert 1.8 < std < 4
    # Where bytes lie in memory says nothing.
    mirrored = np.ascontiguousarray(image[:, ::-1, ::-1])[:, ::-1, ::-1]
    points = turned(angle, 5, (1200.3, 900.7))
    np.testing.assert_array_equal(align_face(mirrored, points), align_face(image, points))


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(-3.1, 3.1), scale=st.floats(0.5, 2.5), x=st.floats(199, 201), y=st.floats(199, 201))
def test_nothing_moves_while_a_face_is_averaged(angle: float, scale: float, x: float, y: float) -> None:
    # Brighter from left to right in red, from top to bottom in green; noise, so that rounding evens out.
    ramp = np.tile(np.linspace(10, 245, 400), (400, 1))
    dither = np.random.default_rng(0).uniform(-3, 3, (400, 400, 1))
    image = (np.dstack((ramp, ramp.T, ramp)) + dither).round().astype(np.uint8)
    points = turned(angle, scale, (x, y))
    columns, rows = np.meshgrid(*[np.arange(56) + 0.5] * 2)
    matrix = similarity(TEMPLATE_XY / 2, points)
    source_xy = np.dstack((columns, rows)) @ matrix[:, :2].T + matrix[:, 2]
    error = align_face(image, points, size_px=56)[:, :, :2] - (10 + (source_xy - 0.5) * (235 / 399))
    # Of each quarter by itself: neither moved nor scaled. Half a pixel of an averaged face is at least 0.44.
    quarters = error.reshape(2, 28, 2, 28, 2).mean(axis=(1, 3))
    assert np.abs(quarters).max() < 0.3


def test_a_large_face_that_leans_out_of_the_image_is_black_there() -> None:
    white = np.full((450, 500, 3), 255, dtype=np.uint8)
    aligned = align_face(white, turned(0, 4, (0, 224)))
    assert aligned[:, :56].max() == 0
    assert aligned[:, 56:].min() >= 254
    aligned = align_face(white, turned(0, 4, (500, 450)))
    assert aligned[:56, :56].min() >= 254
    assert max(aligned[56:].max(), aligned[:, 56:].max()) <= 1
    assert align_face(white[:1, :1], turned(1, 4, (0, 0))).shape == (112, 112, 3)
    for middle_xy in ((-2000, 200), (9000, 9000), (1e12, 0)):
        assert align_face(white, turned(1, 4, middle_xy)).max() == 0


def test_a_blurred_face_keeps_36_patches_and_the_rest_of_the_image() -> None:
    image = noise(300, 300)
    box = np.asarray([[100.0, 100.0, 200.0, 200.0]])
    blurred = blur_faces(image, box)
    changed = np.argwhere((blurred != image).any(axis=2))
    assert changed.min() == 85
    assert changed.max() == 214
    # Noise of 73 around its mean, averaged over 20 x 20 pixels, is noise of less than 10.
    assert blurred[110:190, 110:190].astype(float).std() < 10
    assert image[110:190, 110:190].astype(float).std() > 60, "the image itself is not changed"
    np.testing.assert_array_equal(blur_faces(image, np.empty((0, 4))), image)
    # Of six stripes across the face and its margin each patch sees as much dark as bright.
    stripes = np.zeros((130, 390, 3), dtype=np.uint8)
    stripes[:, (np.arange(390) // 32) % 2 == 1] = 255
    hidden = blur_faces(stripes, np.asarray([[45.0, 15.0, 345.0, 115.0]]))
    assert np.ptp(hidden[20:110, 60:330].astype(int)) < 60
