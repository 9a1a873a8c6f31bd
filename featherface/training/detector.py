"""Fit a detector to annotated photographs as a training section says; no workspace, no tracker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import nn

from featherface.data.loader import TrainingLoader
from featherface.data.reading import read_photograph
from featherface.data.widerface import Sample
from featherface.models.detector import FeatherFace
from featherface.parallel import (
    joined_processes,
    num_local_processes,
    num_processes,
    rank,
    share_batch_norms,
)
from featherface.training.loop import EpochReport, FitResult, StepLoss, StepReport, fit
from featherface.training.memory import keep_freed_memory
from featherface.training.state import Checkpointing, Recipe

if TYPE_CHECKING:
    from featherface.config import TrainConfig
    from featherface.imaging import RgbImage
    from featherface.structures import Batch

_MAX_LOADER_THREADS = 16


def fit_detector(
    model: FeatherFace,
    step_loss: StepLoss,
    samples: Sequence[Sample],
    *,
    train: TrainConfig,
    min_face_px: float,
    read: Callable[[Sample], RgbImage] = read_photograph,
    auxiliary: nn.Module | None = None,
    checkpointing: Checkpointing | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_epoch_end: Callable[[EpochReport], None] | None = None,
    description: str = "train",
) -> FitResult:
    """Train in place, and return the running average of the weights.

    Args:
        model: the detector.
        step_loss: weighted losses of a batch; calls the model.
        samples: the training photographs.
        train: views, schedule, optimizer, threads.
        min_face_px: faces smaller than this in a view are ignored.
        read: decodes the photograph of a sample.
        auxiliary: as of `fit`, like the arguments after it.
        checkpointing: see there.
        on_step: see there.
        on_epoch_end: see there.
        description: see there.

    Raises:
        DataError: there are no samples.
        ImageDecodeError: a photograph cannot be read.
        FeatherFaceError: the training broke down.
    """
    torch.set_num_threads(train.num_threads)
    keep_freed_memory()
    device = next(model.parameters()).device
    with joined_processes(device):
        if num_processes() > 1 and train.sync_batch_norm:
            share_batch_norms(model)
        part = (rank(), num_processes())
        loader = _loader(
            samples,
            train=train,
            min_face_px=min_face_px,
            read=read,
            part=part,
            num_threads=_num_loader_threads(device),
        )
        recipe = Recipe(
            epochs=train.epochs,
            steps_per_epoch=len(loader),
            optimizer=train.optimizer,
            lr=train.lr,
            weight_decay=train.weight_decay,
            schedule=train.schedule,
            warmup_fraction=train.warmup_fraction,
            grad_clip_norm=train.grad_clip_norm,
            ema_decay=train.ema_decay,
            ema_power=train.ema_power,
        )
        return fit(
            model,
            lambda epoch, first: loader.batches(epoch, start_batch=first),
            step_loss,
            recipe=recipe,
            auxiliary=auxiliary,
            checkpointing=checkpointing,
            on_step=on_step,
            on_epoch_end=on_epoch_end,
            description=description,
        )


def first_batches(
    samples: Sequence[Sample],
    *,
    train: TrainConfig,
    min_face_px: float,
    read: Callable[[Sample], RgbImage] = read_photograph,
    count: int = 16,
) -> Iterator[Batch]:
    """The first batches of a training, whole in every process; arguments as of `fit_detector`."""
    loader = _loader(samples, train=train, min_face_px=min_face_px, read=read, part=(0, 1))
    return islice(loader.batches(0), count)


def _num_loader_threads(device: torch.device) -> int:
    """One beside a training on CPUs, which needs them itself; a GPU waits for one, and leaves all cores."""
    if device.type == "cpu":
        return 1
    return max(1, min(_MAX_LOADER_THREADS, (os.cpu_count() or 1) // num_local_processes()))


def _loader(
    samples: Sequence[Sample],
    *,
    train: TrainConfig,
    min_face_px: float,
    read: Callable[[Sample], RgbImage],
    part: tuple[int, int],
    num_threads: int = 1,
) -> TrainingLoader:
    return TrainingLoader(
        samples,
        batch_size=train.batch_size,
        image_size_px=train.image_size_px,
        seed=train.seed,
        augment_config=train.augment,
        min_face_px=min_face_px,
        view_scales=train.view_scales,
        part=part,
        read=read,
        num_threads=num_threads,
    )
