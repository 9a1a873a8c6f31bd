"""Value types that cross module borders; no behavior beyond their own shape, no import of torch at run time.

Dimensions: `B` batch, `C` channels, `H W` of a feature map, `P` priors, `G` faces in the ground truth,
`N` detections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

MIRRORED_LANDMARKS = (1, 0, 2, 4, 3)
"""In a mirror the left eye is the right one, and so are the corners of the mouth."""


class HeadOutputs(NamedTuple):
    """What a detector says of every prior, before softmax and decoding.

    Priors are ordered by level, row, column, size, as `models.priors.make_priors` orders them.
    """

    cls_logits: Tensor
    """(B, P, 2): background, face."""
    box_deltas: Tensor
    """(B, P, 4): SSD encoding with variances (0.1, 0.2)."""
    landmark_deltas: Tensor
    """(B, P, 10): x, y of left eye, right eye, nose, left and right corner of the mouth."""


class DetectorFeatures(NamedTuple):
    """The maps on the way to the outputs, for distillation."""

    backbone: tuple[Tensor, Tensor, Tensor]
    """C3, C4, C5 at strides 8, 16, 32, before any attention."""
    neck: tuple[Tensor, Tensor, Tensor]
    """P3, P4, P5 as the heads read them."""


@dataclass(frozen=True)
class Detections:
    """The faces of one image as numpy arrays, best first, in the pixels of the image they were found in."""

    boxes_xyxy: npt.NDArray[np.float32]
    """(N, 4)."""
    scores: npt.NDArray[np.float32]
    """(N,) in [0, 1], falling."""
    landmarks_xy: npt.NDArray[np.float32]
    """(N, 5, 2)."""

    def __len__(self) -> int:
        return int(self.scores.shape[0])


@dataclass(frozen=True)
class Targets:
    """The ground truth of a batch in input pixels, padded to the image with most faces (G may be 0)."""

    gt_boxes_xyxy: Tensor
    """(B, G, 4) float32; zeros where `is_face` and `is_ignored` are both False."""
    gt_landmarks_xy: Tensor
    """(B, G, 5, 2) float32."""
    has_landmarks: Tensor
    """(B, G) bool."""
    is_face: Tensor
    """(B, G) bool: a face to learn."""
    is_ignored: Tensor
    """(B, G) bool: neither a positive nor a negative (too small, or flagged invalid)."""


@dataclass(frozen=True)
class Batch:
    """What one training step reads."""

    images: Tensor
    """(B, 3, H, W) float32 network input: BGR minus the mean."""
    targets: Targets
    sample_ids: tuple[str, ...]
    """B image names, for messages and caches."""
