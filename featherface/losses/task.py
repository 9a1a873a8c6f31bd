"""The task's part of a training step: multibox losses of a batch of views, weighted by the configuration."""

import functools
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from featherface.losses.matching import Matches, match_priors
from featherface.losses.multibox import multibox_loss
from featherface.models.detector import FeatherFace
from featherface.models.priors import make_priors
from featherface.structures import Batch, HeadOutputs


@runtime_checkable
class TaskSettings(Protocol):
    """What of the configuration the losses read: the section `loss` of a training section."""

    @property
    def match_iou_threshold(self) -> float:
        """Of `match_priors`, like the next."""
        ...

    @property
    def min_priors_per_face(self) -> int:
        """See there."""
        ...

    @property
    def negatives_per_positive(self) -> float:
        """Of `multibox_loss`."""
        ...

    @property
    def cls(self) -> str:
        """Of `multibox_loss`, like the next."""
        ...

    @property
    def box(self) -> str:
        """See there."""
        ...

    @property
    def box_weight(self) -> float:
        """Factor of the box loss."""
        ...

    @property
    def cls_weight(self) -> float:
        """Factor of the classification loss."""
        ...

    @property
    def landmark_weight(self) -> float:
        """Factor of the landmark loss."""
        ...


def task_matches(model: FeatherFace, batch: Batch, settings: TaskSettings) -> Matches:
    """Which prior of the model learns which face of a batch.

    Args:
        model: whose priors.
        batch: views of any size, and their faces.
        settings: rules of matching.
    """
    return match_priors(
        _priors_of(model, batch),
        batch.targets,
        match_iou_threshold=settings.match_iou_threshold,
        min_priors_per_face=settings.min_priors_per_face,
    )


def task_losses(
    model: FeatherFace,
    outputs: HeadOutputs,
    batch: Batch,
    settings: TaskSettings,
    *,
    matches: Matches | None = None,
) -> dict[str, Tensor]:
    """Losses by name, with gradients for the outputs.

    Args:
        model: whose priors the outputs speak of.
        outputs: what it says of the views.
        batch: the views, of any size, and their faces.
        settings: weights and rules of matching.
        matches: of `task_matches`, where somebody needs them as well.
    """
    losses = multibox_loss(
        outputs,
        _priors_of(model, batch),
        batch.targets,
        matches or task_matches(model, batch, settings),
        negatives_per_positive=settings.negatives_per_positive,
        cls=settings.cls,
        box=settings.box,
    )
    return {
        "cls": losses.cls * settings.cls_weight,
        "box": losses.box * settings.box_weight,
        "landmark": losses.landmark * settings.landmark_weight,
    }


def _priors_of(model: FeatherFace, batch: Batch) -> Tensor:
    height, width = batch.images.shape[2:]
    return _priors(model.strides, model.min_sizes_px, height, width).to(batch.images.device)


@functools.lru_cache(maxsize=16)
def _priors(
    strides: tuple[int, ...], min_sizes_px: tuple[tuple[int, ...], ...], height: int, width: int
) -> Tensor:
    """(P, 4) priors of views, in pixels."""
    priors = make_priors((height, width), strides=strides, min_sizes_px=min_sizes_px)
    return torch.from_numpy(np.array(priors))
