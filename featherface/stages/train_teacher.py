"""Stage `train_teacher`: a teacher trained here, or published weights taken in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from featherface.config import DataConfig, TeacherConfig, TrainConfig
from featherface.errors import ModelError
from featherface.inference.weights import load_model_with_info, save_weights
from featherface.losses.task import task_losses
from featherface.models.build import build_model
from featherface.models.complexity import count_parameters
from featherface.parallel import training_device
from featherface.stages import names
from featherface.stages.base import StageResult, Workspace
from featherface.stages.fitting import NO_HISTORY, history_csv, train_detector
from featherface.structures import Batch

STAGE = "train_teacher"


def run(
    data: DataConfig, teacher: TeacherConfig, train_teacher: TrainConfig, *, workspace: Workspace
) -> StageResult:
    """Write the teacher's weights, its training history and metrics.

    Raises:
        ModelError: `teacher.weights` is not a file of `teacher.architecture`.
    """
    if teacher.weights is not None:
        return _take_published(teacher, teacher.weights, workspace)
    torch.manual_seed(train_teacher.seed)
    model = build_model(teacher.architecture).to(training_device())

    def step_loss(batch: Batch, _progress: float) -> Mapping[str, Tensor]:
        return task_losses(model, model(batch.images), batch, train_teacher.loss)

    result = train_detector(
        model,
        step_loss,
        stage=STAGE,
        train=train_teacher,
        data=data,
        workspace=workspace,
        sections=(teacher, train_teacher),
    )
    save_weights(workspace.path(names.TEACHER_WEIGHTS), result.averaged, architecture=teacher.architecture)
    workspace.write_text(names.TEACHER_HISTORY, history_csv(result.history))
    metrics = {"model/params": count_parameters(model), "train/loss": result.history[-1]["loss"]}
    workspace.write_json(names.TEACHER_METRICS, metrics)
    return StageResult(
        metrics=metrics,
        summary=f"{teacher.architecture}, {train_teacher.epochs} epochs, loss {metrics['train/loss']:.3f}",
    )


def _take_published(teacher: TeacherConfig, weights: str, workspace: Workspace) -> StageResult:
    model, info = load_model_with_info(workspace.root / weights)
    if info.architecture != teacher.architecture:
        raise ModelError(
            f"{workspace.root / weights}: holds '{info.architecture}', but teacher.architecture is "
            f"'{teacher.architecture}'; correct one of them in params.yaml"
        )
    save_weights(workspace.path(names.TEACHER_WEIGHTS), model, architecture=teacher.architecture)
    workspace.write_text(names.TEACHER_HISTORY, NO_HISTORY)
    metrics = {"model/params": count_parameters(model)}
    workspace.write_json(names.TEACHER_METRICS, metrics)
    return StageResult(
        metrics=metrics, summary=f"{teacher.architecture} with the published weights of {weights}"
    )
