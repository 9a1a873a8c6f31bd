"""The annotated faces of many photographs end to end, as the protocol's arrays hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherface.data.widerface import ATTRIBUTES, Sample
from featherface.evaluation.ground_truth import image_key

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class AnnotatedFaces:
    """G faces of I photographs."""

    names: tuple[str, ...]
    """I names `<event>/<image>` without suffix."""
    boxes_xywh: npt.NDArray[np.float64]
    """(G, 4) in pixels of the photograph, grouped by photograph."""
    offsets: npt.NDArray[np.int64]
    """(I + 1,): the faces of photograph i are `offsets[i]` to `offsets[i + 1]`."""
    is_valid: npt.NDArray[np.bool_]
    """(G,) not flagged invalid, and with an area."""
    attributes: npt.NDArray[np.int8]
    """(G, 6) in the order of `data.widerface.ATTRIBUTES`."""

    def attribute(self, name: str) -> npt.NDArray[np.int8]:
        """(G,) values of one attribute."""
        return self.attributes[:, ATTRIBUTES.index(name)]


def annotated_faces(samples: Sequence[Sample]) -> AnnotatedFaces:
    """Join the faces of photographs."""
    annotations = [sample.annotation for sample in samples]
    boxes_xywh = np.concatenate([np.zeros((0, 4)), *(each.boxes_xywh for each in annotations)])
    attributes = np.concatenate(
        [np.zeros((0, len(ATTRIBUTES)), np.int8), *(each.attributes for each in annotations)]
    )
    is_invalid = np.concatenate([np.zeros(0, np.bool_), *(each.is_invalid for each in annotations)])
    counts = [len(each.boxes_xywh) for each in annotations]
    return AnnotatedFaces(
        names=tuple(image_key(each.image) for each in annotations),
        boxes_xywh=boxes_xywh.astype(np.float64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        is_valid=~is_invalid & (boxes_xywh[:, 2:] > 0).all(axis=1),
        attributes=attributes,
    )
