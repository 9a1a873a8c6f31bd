"""Random views of a training image: square crop, colors, mirror; numpy and OpenCV, randomness passed in.

The crop follows SSD (arXiv:1512.02325, sec. 2.2) and RetinaFace (arXiv:1905.00641, sec. 3.4) with two
changes: its side is drawn from a range instead of a list, beyond the short side too, so that large faces are
also seen small; and faces that are cut in half become `is_ignored` instead of background.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, cos, pi, sin
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from featherface.data.harder_views import (
    cover_faces,
    degrade,
    sharpen,
    side_before_turning,
    turn_faces,
    turn_image,
    without_colors,
)
from featherface.data.labeled import LabeledImage
from featherface.imaging import MEAN_RGB, RgbImage
from featherface.structures import MIRRORED_LANDMARKS

if TYPE_CHECKING:
    from featherface.config import AugmentConfig

# A face that is no face to learn but of which this much is seen is no background either.
_IGNORED_VISIBLE_FRACTION = 0.2
_CROP_TRIALS = 10
# SSD's ranges.
_BRIGHTNESS = 32.0
_CONTRAST = (0.6, 1.4)
_SATURATION = (0.5, 1.5)
_HUE_RADIANS = 18 / 180 * pi
_LUMA = np.asarray((0.299, 0.587, 0.114))
_RGB_TO_YIQ = np.asarray([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


def augment(
    labeled: LabeledImage,
    generator: np.random.Generator,
    *,
    image_size_px: int,
    settings: AugmentConfig,
    min_face_px: float,
    extent: float = 1.0,
) -> LabeledImage:
    """A random square view of `image_size_px`: turn, crop and zoom, then colors, then mirror.

    What has the probability 0 draws no random number, so that views stay as they were before it came.

    Args:
        labeled: the image and its faces; not changed.
        generator: all randomness; the same state gives the same view.
        image_size_px: side of the view.
        settings: ranges and probabilities.
        min_face_px: faces whose shorter side is less in the view are ignored.
        extent: factor of the side of the crop: a view with twice the pixels that shows twice as much keeps
            the zoom. Beyond the largest crop of extent 1 it ends at the longer side of the image, so that
            large views are not mostly padding.
    """
    side, left, top = _draw_crop(labeled, generator, settings, extent)
    degrees = 0.0
    if settings.rotation_probability and generator.random() < settings.rotation_probability:
        degrees = float(generator.uniform(-settings.rotation_max_degrees, settings.rotation_max_degrees))
    view = crop_and_resize(
        labeled,
        left=left,
        top=top,
        side=side,
        size_px=image_size_px,
        min_visible_fraction=settings.min_visible_fraction,
        degrees=degrees,
    )
    if settings.occlusion_probability:
        view = cover_faces(view, generator, settings.occlusion_probability)
    if generator.random() < settings.photometric_probability:
        view = replace(view, image=distort_colors(view.image, generator))
    if settings.grey_probability and generator.random() < settings.grey_probability:
        view = replace(view, image=without_colors(view.image))
    if settings.degrade_probability and generator.random() < settings.degrade_probability:
        view = replace(view, image=degrade(view.image, generator))
    if settings.sharpen_probability and generator.random() < settings.sharpen_probability:
        view = replace(view, image=sharpen(view.image, generator))
    if generator.random() < settings.flip_probability:
        view = flip_horizontally(view)
    return ignore_small_faces(view, min_face_px)


def flip_horizontally(labeled: LabeledImage) -> LabeledImage:
    """The mirror image; left and right landmarks change places. Twice gives the same again."""
    width = labeled.image.shape[1]
    boxes_xyxy = labeled.boxes_xyxy.copy()
    boxes_xyxy[:, [0, 2]] = width - labeled.boxes_xyxy[:, [2, 0]]
    landmarks_xy = labeled.landmarks_xy[:, MIRRORED_LANDMARKS, :]
    # Unknown points stay zero.
    landmarks_xy[..., 0] = np.where(labeled.has_landmarks[:, None], width - landmarks_xy[..., 0], 0)
    image = np.asarray(cv2.flip(labeled.image, 1), dtype=np.uint8)
    return replace(labeled, image=image, boxes_xyxy=boxes_xyxy, landmarks_xy=landmarks_xy)


def ignore_small_faces(labeled: LabeledImage, min_face_px: float) -> LabeledImage:
    """The same with faces ignored whose shorter side is less than `min_face_px`."""
    sides_px = labeled.boxes_xyxy[:, 2:] - labeled.boxes_xyxy[:, :2]
    return replace(
        labeled, is_ignored=labeled.is_ignored | (sides_px.min(axis=1, initial=np.inf) < min_face_px)
    )


def crop_and_resize(
    labeled: LabeledImage,
    *,
    left: int,
    top: int,
    side: int,
    size_px: int,
    min_visible_fraction: float = 0.0,
    degrees: float = 0.0,
) -> LabeledImage:
    """The square of `side` pixels at (left, top), resized; the mean color where it leaves the image.

    Faces whose center is inside and of which enough is seen are kept, cut to the view; others of which at
    least a fifth is seen are kept as ignored; the rest is dropped. Landmarks are not cut: they say where the
    hidden part of a face is.

    Args:
        labeled: the image and its faces; not changed.
        left: of the square, in pixels of the image; may be negative, like `top`.
        top: see `left`.
        side: of the square in pixels of the image.
        size_px: side of the view.
        min_visible_fraction: share of a face's box that must be in the view for it to be learnt. Who learns
            cut faces finds faces in parts of a large one.
        degrees: by which the image is turned clockwise about the center of the square first.
    """
    if degrees:
        center = (left + side / 2, top + side / 2)
        # As much on both sides, so that both squares have one center.
        margin = ceil(side * (side_before_turning(degrees) - 1) / 2)
        wide = side + 2 * margin
        around, _, _ = _cut(labeled.image, left - margin, top - margin, wide, round(size_px * wide / side))
        image = turn_image(around, degrees, size_px)
        scale_xy = np.full(2, size_px / side, dtype=np.float32)
        offset_xy = -scale_xy * np.asarray([left, top], dtype=np.float32)
        labeled = turn_faces(labeled, center, degrees)
    else:
        image, scale_xy, offset_xy = _cut(labeled.image, left, top, side, size_px)
    return _move_faces(labeled, image, scale_xy, offset_xy, min_visible_fraction)


def _cut(
    source: RgbImage, left: int, top: int, side: int, size_px: int
) -> tuple[RgbImage, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A square of an image, resized, and where its pixels come to lie: scale and offset of x and y."""
    height, width = source.shape[:2]
    scale = size_px / side
    # What is seen of the image, and where it comes to lie; whole pixels on both sides.
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + side, width), min(top + side, height)
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"a crop at ({left}, {top}) of side {side} misses the image of {width}x{height}")
    u0, v0 = round((x0 - left) * scale), round((y0 - top) * scale)
    u1, v1 = max(u0 + 1, round((x1 - left) * scale)), max(v0 + 1, round((y1 - top) * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    seen = cv2.resize(source[y0:y1, x0:x1], (u1 - u0, v1 - v0), interpolation=interpolation)
    if seen.shape[:2] == (size_px, size_px):
        image = np.asarray(seen, dtype=np.uint8)
    else:
        image = np.empty((size_px, size_px, 3), dtype=np.uint8)
        image[:] = MEAN_RGB
        image[v0:v1, u0:u1] = seen[: size_px - v0, : size_px - u0]
    scale_xy = np.asarray([(u1 - u0) / (x1 - x0), (v1 - v0) / (y1 - y0)], dtype=np.float32)
    offset_xy = np.asarray([u0, v0], dtype=np.float32) - np.asarray([x0, y0], dtype=np.float32) * scale_xy
    return image, scale_xy, offset_xy


def distort_colors(image: RgbImage, generator: np.random.Generator) -> RgbImage:
    """Random brightness, contrast, saturation and hue as one affine map of colors, so in one pass."""
    brightness = generator.uniform(-_BRIGHTNESS, _BRIGHTNESS)
    contrast = generator.uniform(*_CONTRAST)
    saturation = generator.uniform(*_SATURATION)
    hue = generator.uniform(-_HUE_RADIANS, _HUE_RADIANS)
    # Hue turns and saturation scales the chroma plane of YIQ; both leave greys alone.
    chroma = np.asarray(
        [
            [1.0, 0.0, 0.0],
            [0.0, saturation * cos(hue), -saturation * sin(hue)],
            [0.0, saturation * sin(hue), saturation * cos(hue)],
        ]
    )
    colors = contrast * (_YIQ_TO_RGB @ chroma @ _RGB_TO_YIQ)
    affine = np.concatenate([colors, np.full((3, 1), brightness)], axis=1).astype(np.float32)  # (3, 4)
    return np.asarray(cv2.transform(image, affine), dtype=np.uint8)


def _draw_crop(
    labeled: LabeledImage, generator: np.random.Generator, settings: AugmentConfig, extent: float
) -> tuple[int, int, int]:
    """Side, left and top of a random square; of ten places the first with the center of a face to learn.

    The side is drawn once: redrawing it too would favor large crops. Where no place has a face, the first one
    gives a view of background.
    """
    height, width = labeled.image.shape[:2]
    short_side, long_side = sorted((height, width))
    scale_min, scale_max = settings.crop_scale_min, settings.crop_scale_max
    scale = extent * (scale_min + generator.random() * (scale_max - scale_min))
    side = max(1, min(round(scale * short_side), max(round(scale_max * short_side), long_side)))
    draws_xy = generator.random((_CROP_TRIALS, 2))
    # A crop smaller than the image stays inside it; a larger one contains it.
    lefts, tops = np.rint(draws_xy * (np.asarray([width, height]) - side)).T
    boxes_xyxy = labeled.boxes_xyxy[~labeled.is_ignored]
    centers_x, centers_y = boxes_xyxy[:, [0, 2]].mean(axis=1), boxes_xyxy[:, [1, 3]].mean(axis=1)
    has_face = (
        (centers_x >= lefts[:, None])
        & (centers_x < lefts[:, None] + side)
        & (centers_y >= tops[:, None])
        & (centers_y < tops[:, None] + side)
    ).any(axis=1)
    chosen = int(has_face.argmax())
    return side, int(lefts[chosen]), int(tops[chosen])


def _move_faces(
    labeled: LabeledImage,
    image: RgbImage,
    scale_xy: npt.NDArray[np.float32],
    offset_xy: npt.NDArray[np.float32],
    min_visible_fraction: float,
) -> LabeledImage:
    size_px = image.shape[0]
    boxes_xyxy = labeled.boxes_xyxy * np.tile(scale_xy, 2) + np.tile(offset_xy, 2)
    cut_xyxy = boxes_xyxy.clip(0, size_px)
    centers_xy = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    seen_area = np.prod(cut_xyxy[:, 2:] - cut_xyxy[:, :2], axis=1)
    area = np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)
    is_inside = ((centers_xy >= 0) & (centers_xy < size_px)).all(axis=1)
    is_inside &= seen_area >= min_visible_fraction * area
    is_kept = (is_inside | (seen_area >= _IGNORED_VISIBLE_FRACTION * area)) & (seen_area > 0)
    landmarks_xy = labeled.landmarks_xy * scale_xy + offset_xy
    landmarks_xy = np.where(labeled.has_landmarks[:, None, None], landmarks_xy, 0)
    return LabeledImage(
        image=image,
        boxes_xyxy=cut_xyxy[is_kept],
        landmarks_xy=landmarks_xy[is_kept].astype(np.float32, copy=False),
        has_landmarks=labeled.has_landmarks[is_kept],
        is_ignored=(labeled.is_ignored | ~is_inside)[is_kept],
    )
