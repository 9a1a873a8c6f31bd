"""Looking at an image more than once: mirrored, and at several scales. Every result says that it was done so.

A detector that looks six times costs six times as much, and its numbers are not to be compared with those of
one that looks once. So this is never the default, and the name of it goes wherever the numbers go.

Dimensions: `M` detections of all views, `N` that remain.

Reference:
    Gidaris, Komodakis: Object detection via a multi-region & semantic segmentation-aware CNN model,
    arXiv:1505.01749: box voting; Deng et al., RetinaFace, arXiv:1905.00641: flip and scales, joined by box
    voting at 0.4, on WIDER FACE. We differ in that a box votes once, for the winner that it overlaps most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherface.errors import OptionError
from featherface.imaging import RgbImage, resize_long_side
from featherface.inference.overlap import box_iou
from featherface.inference.postprocess import non_maximum_suppression
from featherface.structures import MIRRORED_LANDMARKS, Detections

if TYPE_CHECKING:
    import numpy.typing as npt

    Detect = Callable[[RgbImage], Detections]
    Floats = npt.NDArray[np.float32]

MAX_SCALE = 8.0
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Views:
    """How often a detector looks at an image, and how what it saw is joined."""

    flip: bool = False
    """Look at the mirror image too, at every scale."""
    scales: tuple[float, ...] = (1.0,)
    """Of the image's own size."""
    iou_threshold: float = 0.4
    """Boxes of several views that overlap more are one face."""
    max_faces: int | None = None
    """Best faces that are kept of an image; None: all."""

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale <= MAX_SCALE for scale in self.scales):
            raise OptionError(f"scales must be numbers above 0 and up to {MAX_SCALE:g}, got {self.scales}")
        if len(set(self.scales)) < len(self.scales):
            raise OptionError(f"scales must differ, got {self.scales}")

    @property
    def is_plain(self) -> bool:
        """Whether an image is looked at once, as it is."""
        return not self.flip and self.scales == (1.0,)

    def __str__(self) -> str:
        if self.is_plain:
            return "single scale"
        scales = "" if self.scales == (1.0,) else f"scales {', '.join(f'{each:g}' for each in self.scales)}"
        return " + ".join(filter(None, ("flip" if self.flip else "", scales)))

    @property
    def slug(self) -> str:
        """The name as a tracker takes it, such as `flip-scales-0.5-1-2`."""
        return str(self).replace(" + ", "-").replace(", ", "-").replace(" ", "-")

    def wrap(self, detect: Detect) -> Detect:
        """A detector that looks as often as this says; the same one if that is once."""
        return detect if self.is_plain else lambda image: self._look(detect, image)

    def _look(self, detect: Detect, image: RgbImage) -> Detections:
        found = []
        for scale in self.scales:
            long_side_px = max(1, round(scale * max(image.shape[:2])))
            view, scale_xy = resize_long_side(image, long_side_px)
            found.append(_scaled(detect(view), scale_xy))
            if self.flip:
                mirrored = detect(np.ascontiguousarray(view[:, ::-1]))
                found.append(_scaled(_mirrored(mirrored, view.shape[1]), scale_xy))
        return vote(_joined(found), iou_threshold=self.iou_threshold, max_faces=self.max_faces)


SINGLE_SCALE = Views()


def parse_scales(text: str) -> tuple[float, ...]:
    """The scales of a list such as `0.5,1,2`.

    Raises:
        OptionError: something in it is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"scales must be numbers such as 0.5,1,2, got '{text}'") from None


def vote(found: Detections, *, iou_threshold: float, max_faces: int | None = None) -> Detections:
    """One detection a face: the surest one's score, and the mean of all its boxes weighted by their scores.

    Args:
        found: in any order, several for a face.
        iou_threshold: boxes that overlap a surer one more are the same face.
        max_faces: at most so many of the best are kept.
    """
    winners = non_maximum_suppression(
        found.boxes_xyxy, found.scores, iou_threshold=iou_threshold, max_faces=max_faces
    )
    if not len(winners):
        return Detections(found.boxes_xyxy[winners], found.scores[winners], found.landmarks_xy[winners])
    overlap = box_iou(found.boxes_xyxy, found.boxes_xyxy[winners])  # (M, N)
    choice = overlap.argmax(axis=1)
    choice[winners] = np.arange(len(winners))  # a box without area does not overlap even itself
    weight = np.maximum(found.scores.astype(np.float64), _TINY)
    weight[overlap.max(axis=1) <= iou_threshold] = 0.0  # those that the limit left out
    weight[winners] = np.maximum(found.scores[winners], _TINY)
    return Detections(
        _weighted_mean(found.boxes_xyxy, weight, choice, len(winners)),
        found.scores[winners],
        _weighted_mean(found.landmarks_xy, weight, choice, len(winners)),
    )


def _weighted_mean(
    values: Floats, weight: npt.NDArray[np.float64], choice: npt.NDArray[np.intp], num_winners: int
) -> Floats:
    """(N, ...) mean of the (M, ...) values that chose each winner."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    total = np.zeros((num_winners, flat.shape[1]))
    np.add.at(total, choice, flat * weight[:, None])
    mean = total / np.bincount(choice, weights=weight, minlength=num_winners)[:, None]
    return mean.reshape(num_winners, *values.shape[1:]).astype(np.float32)


def _mirrored(found: Detections, width_px: int) -> Detections:
    boxes, landmarks = found.boxes_xyxy.copy(), found.landmarks_xy[:, MIRRORED_LANDMARKS].copy()
    boxes[:, [0, 2]] = width_px - boxes[:, [2, 0]]
    landmarks[..., 0] = width_px - landmarks[..., 0]
    return Detections(boxes, found.scores, landmarks)


def _scaled(found: Detections, scale_xy: tuple[float, float]) -> Detections:
    """Boxes in the pixels of the image, from those of a view of it."""
    scale: Floats = np.asarray(scale_xy, dtype=np.float32)
    corners = found.boxes_xyxy.reshape(-1, 2, 2) / scale
    return Detections(corners.reshape(-1, 4), found.scores, found.landmarks_xy / scale)


def _joined(found: list[Detections]) -> Detections:
    return Detections(
        np.concatenate([each.boxes_xyxy for each in found]),
        np.concatenate([each.scores for each in found]),
        np.concatenate([each.landmarks_xy for each in found]),
    )
