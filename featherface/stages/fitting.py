"""From a training section of params.yaml to a fitted network: what both training stages share."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from featherface.config import DataConfig, Section, TrainConfig
from featherface.data.loader import TrainingLoader
from featherface.data.widerface import open_widerface
from featherface.losses.multibox import multibox_loss
from featherface.models.detector import FeatherFace
from featherface.models.priors import make_priors
from featherface.stages.base import CHECKPOINT_FILE, Workspace
from featherface.structures import Batch, HeadOutputs
from featherface.tracking.provenance import data_md5
from featherface.training.loop import EpochReport, FitResult, StepReport, fit
from featherface.training.memory import keep_freed_memory
from featherface.training.state import Checkpointing, Recipe

StepLoss = Callable[[Batch, float], Mapping[str, Tensor]]
LOG_EVERY_STEPS = 10


def train_detector(
    model: FeatherFace,
    step_loss: StepLoss,
    *,
    stage: str,
    train: TrainConfig,
    data: DataConfig,
    workspace: Workspace,
    sections: Sequence[Section],
    extra_identity: str = "",
    auxiliary: nn.Module | None = None,
) -> FitResult:
    """Fit a detector on the training images; checkpoints go to `state/<stage>`, curves to the tracker.

    Args:
        model: trained in place.
        step_loss: weighted losses of a batch, by name.
        stage: whose checkpoints and whose label on the progress bar.
        train: how.
        data: which images.
        workspace: where.
        sections: parameters that make this training what it is: a checkpoint of others is not gone on with.
        extra_identity: what else does, for instance the digest of the teacher's weights.
        auxiliary: trained beside the model and dropped afterwards.
    """
    torch.set_num_threads(train.num_threads)
    keep_freed_memory()
    loader = TrainingLoader(
        open_widerface(workspace.root / data.root, "train"),
        batch_size=train.batch_size,
        image_size_px=train.image_size_px,
        seed=train.seed,
        augment_config=train.augment,
        min_face_px=data.min_face_px,
        view_scales=train.view_scales,
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
    )
    identity = [section.model_dump_json() for section in sections] + [
        data_md5(workspace.root),
        extra_identity,
    ]
    checkpointing = Checkpointing(
        path=workspace.state_dir(stage) / CHECKPOINT_FILE,
        fingerprint=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
    )

    def note_step(report: StepReport) -> None:
        if report.step % LOG_EVERY_STEPS == 0:
            losses = {f"step/loss_{name}": value for name, value in report.losses.items()}
            workspace.tracker.log_metrics(
                {**losses, "step/lr": report.lr, "step/grad_norm": report.grad_norm}, step=report.step
            )

    def note_epoch(report: EpochReport) -> None:
        workspace.tracker.log_metrics(
            {**epoch_metrics(report.losses), "train/images_per_s": report.images_per_s}, step=report.epoch + 1
        )

    return fit(
        model,
        lambda epoch, first: loader.batches(epoch, start_batch=first),
        step_loss,
        recipe=recipe,
        auxiliary=auxiliary,
        checkpointing=checkpointing,
        on_step=note_step,
        on_epoch_end=note_epoch,
        description=stage,
    )


def task_losses(
    model: FeatherFace, outputs: HeadOutputs, batch: Batch, train: TrainConfig
) -> dict[str, Tensor]:
    """Multibox losses of a batch, weighted by the configuration."""
    height, width = batch.images.shape[2:]
    losses = multibox_loss(
        outputs,
        _priors(model.strides, model.min_sizes_px, height, width),
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


def epoch_metrics(losses: Mapping[str, float]) -> dict[str, float]:
    """Losses of an epoch under their names in MLflow and in the history file."""
    return {"train/loss" if name == "loss" else f"train/loss_{name}": value for name, value in losses.items()}


def history_csv(history: Sequence[Mapping[str, float]]) -> str:
    """One line an epoch, counted from 1, as CSV."""
    rows = [
        {"epoch": int(entry["epoch"]) + 1, "lr": entry["lr"]}
        | epoch_metrics({name: value for name, value in entry.items() if name not in ("epoch", "lr")})
        for entry in history
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@functools.lru_cache(maxsize=16)
def _priors(
    strides: tuple[int, ...], min_sizes_px: tuple[tuple[int, ...], ...], height: int, width: int
) -> Tensor:
    """(P, 4) priors of views, in pixels."""
    priors = make_priors((height, width), strides=strides, min_sizes_px=min_sizes_px)
    return torch.from_numpy(np.array(priors))
