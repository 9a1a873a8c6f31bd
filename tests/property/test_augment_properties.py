"""What must hold for views of any image."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from featherface.config import AugmentConfig
from featherface.data.augment import augment, flip_horizontally
from featherface.data.labeled import LabeledImage


@st.composite
def labeled_images(draw: st.DrawFn) -> LabeledImage:
    height, width = draw(st.integers(8, 120)), draw(st.integers(8, 120))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    num_faces = draw(st.integers(0, 6))
    left_top = generator.integers(-5, (width - 3, height - 3), size=(num_faces, 2))
    sides_px = generator.integers(1, 60, size=(num_faces, 2))
    has_landmarks = generator.random(num_faces) < 0.5
    landmarks_xy = left_top[:, None] + generator.integers(0, 60, size=(num_faces, 5, 2))
    return LabeledImage(
        image=generator.integers(0, 256, (height, width, 3), dtype=np.uint8),
        boxes_xyxy=np.concatenate([left_top, left_top + sides_px], axis=1).astype(np.float32),
        landmarks_xy=np.where(has_landmarks[:, None, None], landmarks_xy, 0).astype(np.float32),
        has_landmarks=has_landmarks,
        is_ignored=generator.random(num_faces) < 0.2,
    )


@settings(max_examples=40, deadline=None)
@given(labeled_images())
def test_mirror_of_the_mirror_is_the_image(labeled: LabeledImage) -> None:
    twice = flip_horizontally(flip_horizontally(labeled))
    np.testing.assert_array_equal(twice.image, labeled.image)
    np.testing.assert_array_equal(twice.boxes_xyxy, labeled.boxes_xyxy)
    np.testing.assert_array_equal(twice.landmarks_xy, labeled.landmarks_xy)


@settings(max_examples=80, deadline=None)
@given(
    labeled=labeled_images(),
    seed=st.integers(0, 1000),
    scales=st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)).map(sorted),
    size_px=st.sampled_from([32, 64, 96]),
    min_face_px=st.floats(0, 12),
    harder=st.sets(st.sampled_from(["rotation", "occlusion", "grey", "degrade"])),
)
def test_views_are_well_formed(  # noqa: PLR0917 - hypothesis gives each by its name
    labeled: LabeledImage,
    seed: int,
    scales: list[float],
    size_px: int,
    min_face_px: float,
    harder: set[str],
) -> None:
    view = augment(
        labeled,
        np.random.default_rng(seed),
        image_size_px=size_px,
        settings=AugmentConfig(
            crop_scale_min=scales[0],
            crop_scale_max=scales[1],
            **{f"{kind}_probability": 1.0 for kind in harder},
        ),
        min_face_px=min_face_px,
    )
    assert view.image.shape == (size_px, size_px, 3)
    assert view.image.dtype == np.uint8
    assert len(view) <= len(labeled)
    assert view.landmarks_xy.shape == (len(view), 5, 2)
    assert view.boxes_xyxy.dtype == view.landmarks_xy.dtype == np.float32
    assert ((view.boxes_xyxy >= 0) & (view.boxes_xyxy <= size_px)).all()
    sides_px = view.boxes_xyxy[:, 2:] - view.boxes_xyxy[:, :2]
    assert (sides_px > 0).all()
    assert (sides_px[~view.is_ignored] >= min_face_px).all()
    assert not view.landmarks_xy[~view.has_landmarks].any()
