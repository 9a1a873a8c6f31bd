"""What must hold for images and boxes of any size."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from featherface.imaging import letterbox, to_network_input, unletterbox_boxes, unletterbox_landmarks

sides = st.integers(1, 400)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, size_px=st.one_of(st.none(), st.integers(1, 300)))
def test_boxes_return_from_the_letterbox(height: int, width: int, size_px: int | None) -> None:
    boxed = letterbox(np.zeros((height, width, 3), np.uint8), size_px)
    source_xyxy = np.asarray([[0, 0, width, height], [0, 0, width / 3, height / 2]], np.float32)
    input_xyxy = source_xyxy * np.asarray(boxed.scale_xy * 2, np.float32)
    np.testing.assert_allclose(unletterbox_boxes(input_xyxy, boxed), source_xyxy, rtol=1e-5)
    landmarks_xy = np.repeat(input_xyxy[:, None, 2:], 5, axis=1)
    returned = unletterbox_landmarks(landmarks_xy, boxed)
    np.testing.assert_allclose(returned, np.repeat(source_xyxy[:, None, 2:], 5, axis=1), rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, size_px=st.integers(1, 300))
def test_letterbox_is_a_multiple_of_32_with_less_than_32_padded(
    height: int, width: int, size_px: int
) -> None:
    boxed = letterbox(np.zeros((height, width, 3), np.uint8), size_px)
    padded_height, padded_width = boxed.image.shape[:2]
    right, bottom = boxed.pad_right_bottom_px
    assert padded_height % 32 == 0
    assert padded_width % 32 == 0
    assert max(padded_width - right, padded_height - bottom) == size_px
    assert max(right, bottom) < 32


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 1000))
def test_network_input_gives_the_pixels_back(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    bgr = to_network_input(image).transpose(1, 2, 0) + np.asarray((104, 117, 123))
    np.testing.assert_array_equal(bgr[:, :, ::-1], image)
