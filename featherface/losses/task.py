"""The task's part of a training step: multibox losses of a batch of views, weighted by the configuration."""

import functools

import numpy as np
import torch
from torch import Tensor

from featherface.config import TrainConfig
from featherface.losses.multibox import multibox_loss
from featherface.models.detector import FeatherFace
from featherface.models.priors import make_priors
from featherface.structures import Batch, HeadOutputs


def task_losses(
    model: FeatherFace, outputs: HeadOutputs, batch: Batch, train: TrainConfig
) -> dict[str, Tensor]:
    """Losses by name, with gradients for the outputs.

    Args:
        model: whose priors the outputs speak of.
        outputs: what it says of the views.
        batch: the views, of any size, and their faces.
        train: weights and rules of matching.
    """
    height, width = batch.images.shape[2:]
    losses = multibox_loss(
        outputs,
        _priors(model.strides, model.min_sizes_px, height, width).to(outputs.box_deltas.device),
        batch.targets,
        match_iou_threshold=train.loss.match_iou_threshold,
        min_priors_per_face=train.loss.min_priors_per_face,
        negatives_per_positive=train.loss.negatives_per_positive,
    )
    return {
        "cls": losses.cls * train.loss.cls_weight,
        "box": losses.box * train.loss.box_weight,
        "landmark": losses.landmark * train.loss.landmark_weight,
    }


@functools.lru_cache(maxsize=16)
def _priors(
    strides: tuple[int, ...], min_sizes_px: tuple[tuple[int, ...], ...], height: int, width: int
) -> Tensor:
    """(P, 4) priors of views, in pixels."""
    priors = make_priors((height, width), strides=strides, min_sizes_px=min_sizes_px)
    return torch.from_numpy(np.array(priors))
