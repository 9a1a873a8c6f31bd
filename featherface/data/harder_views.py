"""Views that few photographs show: turned heads, hidden parts, blur, compression, no colors, two at once.

Each changes what is seen and keeps what is asked for: a covered face is still a face. All randomness comes
from the generator.

Reference:
    Zhong et al., "Random Erasing Data Augmentation" (arXiv:1708.04896) for the patches, here one a face.
"""

from __future__ import annotations

from dataclasses import replace
from math import cos, radians, sin
from typing import TYPE_CHECKING

import cv2
import numpy as np

from featherface.data.labeled import LabeledImage
from featherface.imaging import MEAN_RGB, RgbImage

if TYPE_CHECKING:
    import numpy.typing as npt

# A smaller face would be gone behind a patch.
_MIN_COVERED_PX = 16.0
_COVERED_SIDE = (0.3, 0.7)
_BLUR_SIGMA_PX = (0.5, 2.0)
_JPEG_QUALITY = (25, 80)
_NOISE_DEVIATION = (3.0, 15.0)
_SHARPEN_SIGMA_PX = (0.7, 1.5)
_SHARPEN_AMOUNT = (0.3, 1.5)


def turn_faces(labeled: LabeledImage, center_xy: tuple[float, float], degrees: float) -> LabeledImage:
    """Boxes and landmarks of the image turned about a point; the pixels are left to `turn_image`.

    A head is taken for the ellipse in its box, whose turned box is smaller than that of the box's corners.

    Args:
        labeled: the image and its faces.
        center_xy: the point, in pixels.
        degrees: clockwise as seen on the screen.
    """
    cosine, sine = cos(radians(degrees)), sin(radians(degrees))
    matrix = np.asarray([[cosine, -sine], [sine, cosine]], dtype=np.float32)
    center = np.asarray(center_xy, dtype=np.float32)
    middles = (labeled.boxes_xyxy[:, :2] + labeled.boxes_xyxy[:, 2:]) / 2
    halves = (labeled.boxes_xyxy[:, 2:] - labeled.boxes_xyxy[:, :2]) / 2
    turned_middles = (middles - center) @ matrix.T + center
    turned_halves = np.stack(
        (
            np.hypot(halves[:, 0] * cosine, halves[:, 1] * sine),
            np.hypot(halves[:, 0] * sine, halves[:, 1] * cosine),
        ),
        axis=1,
    )
    points = (labeled.landmarks_xy - center) @ matrix.T + center
    return replace(
        labeled,
        boxes_xyxy=np.concatenate((turned_middles - turned_halves, turned_middles + turned_halves), axis=1),
        landmarks_xy=np.where(labeled.has_landmarks[:, None, None], points, 0).astype(np.float32),
    )


def side_before_turning(degrees: float) -> float:
    """How much larger a square must be that holds a square of side 1 after it is turned."""
    return abs(cos(radians(degrees))) + abs(sin(radians(degrees)))


def turn_image(image: RgbImage, degrees: float, size_px: int) -> RgbImage:
    """The middle square of an image that is turned about its center; the mean color where it ends.

    Args:
        image: (H, W, 3).
        degrees: clockwise as seen on the screen.
        size_px: side of the square.
    """
    height, width = image.shape[:2]
    # Of pixel centers, which lie half a pixel from the corners that coordinates count from.
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    matrix[:, 2] += ((size_px - width) / 2, (size_px - height) / 2)
    turned = cv2.warpAffine(image, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderValue=MEAN_RGB)
    return np.asarray(turned, dtype=np.uint8)


def cover_faces(labeled: LabeledImage, generator: np.random.Generator, probability: float) -> LabeledImage:
    """A patch of noise, of one color or of the image itself over a part of some faces.

    Args:
        labeled: the view and its faces; not changed.
        generator: all randomness.
        probability: of each face that is large enough.
    """
    image = labeled.image.copy()
    for box, is_ignored in zip(labeled.boxes_xyxy, labeled.is_ignored, strict=True):
        width, height = float(box[2] - box[0]), float(box[3] - box[1])
        if is_ignored or min(width, height) < _MIN_COVERED_PX or generator.random() >= probability:
            continue
        patch_w, patch_h = (
            max(1, round(side * generator.uniform(*_COVERED_SIDE))) for side in (width, height)
        )
        left = round(float(generator.uniform(box[0] - patch_w / 2, box[2] - patch_w / 2)))
        top = round(float(generator.uniform(box[1] - patch_h / 2, box[3] - patch_h / 2)))
        place = image[max(top, 0) : top + patch_h, max(left, 0) : left + patch_w]
        place[:] = _patch(labeled.image, place.shape, generator)
    return replace(labeled, image=image)


def degrade(image: RgbImage, generator: np.random.Generator) -> RgbImage:
    """One of blur, sensor noise and compression, of random strength."""
    kind = int(generator.integers(3))
    if kind == 0:
        sigma = float(generator.uniform(*_BLUR_SIGMA_PX))
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.uint8)
    if kind == 1:
        noise = generator.normal(0, generator.uniform(*_NOISE_DEVIATION), image.shape)
        return np.asarray(np.clip(np.rint(image + noise), 0, 255), dtype=np.uint8)
    quality = int(generator.integers(*_JPEG_QUALITY))
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)


def sharpen(image: RgbImage, generator: np.random.Generator) -> RgbImage:
    """Edges made steeper by a random amount (unsharp masking)."""
    amount = float(generator.uniform(*_SHARPEN_AMOUNT))
    blurred = cv2.GaussianBlur(image, (0, 0), float(generator.uniform(*_SHARPEN_SIGMA_PX)))
    return np.asarray(cv2.addWeighted(image, 1 + amount, blurred, -amount, 0), dtype=np.uint8)


def mix(view: LabeledImage, other: LabeledImage, generator: np.random.Generator) -> LabeledImage:
    """Two views of one size laid over each other; the faces of both are ignored.

    How well a face must still be seen to be one, nobody annotated: the places of the faces are left to a
    teacher. What is background in both is background.

    Args:
        view: keeps at least half of the weight.
        other: gets the rest.
        generator: draws the weight, evenly.

    Reference:
        mixup, arXiv:1710.09412, with the teacher's answer to the mixture as the only label, as in Beyer et
        al., "Knowledge distillation: a good teacher is patient and consistent", arXiv:2106.05237.
    """
    weight = float(generator.uniform(0.5, 1.0))
    image = cv2.addWeighted(view.image, weight, other.image, 1 - weight, 0)
    return LabeledImage(
        image=np.asarray(image, dtype=np.uint8),
        boxes_xyxy=np.concatenate((view.boxes_xyxy, other.boxes_xyxy)),
        landmarks_xy=np.concatenate((view.landmarks_xy, other.landmarks_xy)),
        has_landmarks=np.concatenate((view.has_landmarks, other.has_landmarks)),
        is_ignored=np.ones(len(view) + len(other), dtype=np.bool_),
    )


def without_colors(image: RgbImage) -> RgbImage:
    """As a black-and-white photograph."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def _patch(image: RgbImage, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    height, width = shape[:2]
    kind = int(generator.integers(3))
    if kind == 0:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if kind == 1:
        return np.broadcast_to(generator.integers(0, 256, 3, dtype=np.uint8), shape)
    top = int(generator.integers(image.shape[0] - height + 1))
    left = int(generator.integers(image.shape[1] - width + 1))
    return image[top : top + height, left : left + width]
