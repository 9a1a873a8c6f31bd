"""From a training section of params.yaml to a fitted network: what both training stages share."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from torch import nn

from featherface.config import DataConfig, Section, TrainConfig
from featherface.data.widerface import open_widerface
from featherface.models.detector import FeatherFace
from featherface.stages.base import Workspace
from featherface.stages.resuming import checkpointing_of
from featherface.training.detector import fit_detector
from featherface.training.loop import EpochReport, FitResult, StepLoss, StepReport
from featherface.training.notes import epoch_metrics, step_metrics

NO_HISTORY = "epoch,lr,train/loss,train/loss_cls,train/loss_box,train/loss_landmark\n"
"""Of a stage that took weights over instead of training."""


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
        sections: other parameters that make this training what it is: a checkpoint of others is not gone
            on with.
        extra_identity: what else does, for instance the digest of the teacher's weights.
        auxiliary: trained beside the model and dropped afterwards.
    """

    def note_step(report: StepReport) -> None:
        metrics = step_metrics(report)
        if metrics:
            workspace.tracker.log_metrics(metrics, step=report.step)

    def note_epoch(report: EpochReport) -> None:
        workspace.tracker.log_metrics(
            {**epoch_metrics(report.losses), "train/images_per_s": report.images_per_s}, step=report.epoch + 1
        )

    return fit_detector(
        model,
        step_loss,
        open_widerface(workspace.root / data.root, "train"),
        train=train,
        min_face_px=data.min_face_px,
        auxiliary=auxiliary,
        checkpointing=checkpointing_of(
            stage, workspace=workspace, data=data, sections=sections, extra_identity=extra_identity
        ),
        on_step=note_step,
        on_epoch_end=note_epoch,
        description=stage,
    )


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
