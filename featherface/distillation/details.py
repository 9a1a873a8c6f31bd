"""A trained student whose details learn, and nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from featherface.distillation.settling import unsettle_student
from featherface.errors import ConfigError
from featherface.losses.matching import IGNORED, Matches
from featherface.models.folding import frozen_copy
from featherface.structures import HeadOutputs

if TYPE_CHECKING:
    from featherface.config import DistillConfig
    from featherface.models.details import Details
    from featherface.models.detector import FeatherFace


def check_details_can_learn(student: FeatherFace, distill: DistillConfig) -> None:
    """Before anything is computed.

    Raises:
        ConfigError: the network has no details, or is not trained; or a teacher is to take part.
    """
    if student.details is None or distill.initial_weights is None:
        raise ConfigError(
            "distill.learn: details are what a trained student of the architecture v2-ultra learns last; "
            "give one as distill.initial_weights, or learn the base"
        )
    if distill.enabled:
        raise ConfigError("distill.learn: details learn from annotations alone; set distill.enabled to false")


class DetailsTraining:
    """Answers of a student in training, all of which but its details are frozen.

    Args:
        student: trained, with what `check_details_can_learn` asks for. Its details start as the backbone's
            own layers unless they have learnt before. Their parameters ask for gradients from here on, those
            of all else for none.
        distill: says how it was settled before, which is undone.
    """

    def __init__(self, student: FeatherFace, distill: DistillConfig) -> None:
        details = cast("Details", student.details)
        if not details.has_learnt:
            details.start_as(student.backbone)
        unsettle_student(student, distill)
        student.requires_grad_(requires_grad=False)
        details.requires_grad_(requires_grad=True)
        self._details, self._head = details, student.head
        self._base = frozen_copy(student)

    def answer(self, images: Tensor, known: Sequence[Tensor]) -> HeadOutputs:
        """What the student says of network input; `known` as of `FeatherFace.forward_features`."""
        with torch.no_grad():
            shallow = self._base.shallow(images)
            _, levels = self._base.maps(images, known=known, shallow=shallow)
        answer: HeadOutputs = self._head(self._details(levels, shallow))
        return answer

    def matches(self, matches: Matches, images: Tensor) -> Matches:
        """Those of the level that the details change: the other priors have nothing to learn."""
        height, width = (side // self._base.strides[0] for side in images.shape[2:])
        first_of_others = height * width * len(self._base.min_sizes_px[0])
        labels, matched_gt_idx = matches.labels.clone(), matches.matched_gt_idx.clone()
        labels[:, first_of_others:] = IGNORED
        matched_gt_idx[:, first_of_others:] = -1
        return replace(matches, labels=labels, matched_gt_idx=matched_gt_idx)
