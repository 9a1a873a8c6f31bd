"""An image with its faces, as views are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherface.data.widerface import Annotation
from featherface.imaging import RgbImage

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class LabeledImage:
    """An image and its faces in its own pixels."""

    image: RgbImage
    """(H, W, 3)."""
    boxes_xyxy: npt.NDArray[np.float32]
    """(G, 4)."""
    landmarks_xy: npt.NDArray[np.float32]
    """(G, 5, 2); may lie outside the image; zeros where unknown."""
    has_landmarks: npt.NDArray[np.bool_]
    """(G,)."""
    is_ignored: npt.NDArray[np.bool_]
    """(G,) neither a face to learn nor background."""

    def __len__(self) -> int:
        return int(self.boxes_xyxy.shape[0])


def label_image(
    image: RgbImage, annotation: Annotation, *, scale_xy: tuple[float, float] = (1.0, 1.0)
) -> LabeledImage:
    """Join an image with its annotation; invalid faces are ignored, boxes without an area are left out.

    Args:
        image: (H, W, 3), the photograph or a resized copy of it.
        annotation: in the pixels of the photograph.
        scale_xy: pixels of `image` over pixels of the photograph.
    """
    has_area = (annotation.boxes_xywh[:, 2:] > 0).all(axis=1)
    scale = np.asarray(scale_xy, dtype=np.float32)
    return LabeledImage(
        image=image,
        boxes_xyxy=annotation.boxes_xyxy[has_area] * np.tile(scale, 2),
        landmarks_xy=annotation.landmarks_xy[has_area] * scale,
        has_landmarks=annotation.has_landmarks[has_area],
        is_ignored=annotation.is_invalid[has_area],
    )
