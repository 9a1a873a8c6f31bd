"""Stage `distill`: the student learns from photographs and teacher, or, as a twin, from photographs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import torch

from featherface.config import DataConfig, DistillConfig, ModelConfig
from featherface.data.widerface import open_widerface
from featherface.distillation.settling import settle_student
from featherface.distillation.student import StudentTraining
from featherface.errors import ConfigError
from featherface.files import sha256_of
from featherface.inference.weights import load_model, load_model_with_info, save_weights
from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.models.detector import FeatherFace
from featherface.parallel import training_device
from featherface.stages import names
from featherface.stages.base import StageResult, Workspace
from featherface.stages.fitting import NO_HISTORY, history_csv, train_detector
from featherface.training.detector import first_batches

STAGE = "distill"


def run(data: DataConfig, model: ModelConfig, distill: DistillConfig, *, workspace: Workspace) -> StageResult:
    """Write the student's weights (the running average), its training history and metrics.

    Raises:
        ConfigError: the initial student is of another network, or it is to be kept and there is none.
    """
    if distill.keep_initial_weights:
        return _keep_initial(model, distill, workspace)
    train = distill.train
    teacher_path = workspace.path(names.TEACHER_WEIGHTS)
    teacher = load_model(teacher_path)
    torch.manual_seed(train.seed)
    initial = distill.initial_weights
    training = StudentTraining(
        model,
        distill,
        teacher,
        initial=None if initial is None else load_model(workspace.root / initial),
        batches=partial(
            first_batches,
            open_widerface(workspace.root / data.root, "train"),
            train=train,
            min_face_px=data.min_face_px,
        ),
        device=training_device(),
    )
    result = train_detector(
        training.student,
        training.losses,
        stage=STAGE,
        train=train,
        data=data,
        workspace=workspace,
        sections=(model, distill),
        extra_identity=" ".join(
            sha256_of(path)
            for path in (teacher_path, *([] if initial is None else [workspace.root / initial]))
        ),
        auxiliary=training.adapters,
    )
    return write_student(
        cast("FeatherFace", result.averaged),
        result.history,
        num_copied=training.num_copied,
        model=model,
        distill=distill,
        workspace=workspace,
    )


def _keep_initial(model: ModelConfig, distill: DistillConfig, workspace: Workspace) -> StageResult:
    if distill.initial_weights is None:
        raise ConfigError(
            "distill.keep_initial_weights trains no student, and distill.initial_weights names none: give a "
            "student, or set it to false"
        )
    path = workspace.root / distill.initial_weights
    student, info = load_model_with_info(path)
    if (info.architecture, set(info.innovations)) != (model.architecture, set(model.innovations)):
        raise ConfigError(
            f"{path}: is {info.architecture} with {len(info.innovations)} innovations, but params.yaml asks "
            f"for {model.architecture} with {len(model.innovations)}; correct the section model"
        )
    student.head.forget_second_opinion()
    save_weights(
        workspace.path(names.DISTILLED_WEIGHTS),
        student,
        architecture=info.architecture,
        innovations=info.innovations,
    )
    workspace.write_text(names.STUDENT_HISTORY, NO_HISTORY)
    metrics = _size(student)
    workspace.write_json(names.STUDENT_METRICS, metrics)
    return StageResult(
        metrics=metrics,
        summary=f"{model.architecture} as it is in {distill.initial_weights}, nothing trained",
    )


def _size(student: FeatherFace) -> dict[str, float]:
    return {
        "model/params": count_parameters(student),
        "model/multiply_adds_640": count_multiply_adds(student, (640, 640)),
    }


def write_student(
    student: FeatherFace,
    history: Sequence[Mapping[str, float]],
    *,
    num_copied: int,
    model: ModelConfig,
    distill: DistillConfig,
    workspace: Workspace,
) -> StageResult:
    """Write the outputs of this stage, wherever the student was trained.

    Args:
        student: the trained network; it is settled in place (`settle_student`).
        history: per epoch, as of `training.loop.fit`.
        num_copied: tensors that started as the teacher's, or the initial student's.
        model: its architecture.
        distill: how it was trained.
        workspace: where.
    """
    student = student.cpu()
    settle_student(student, distill)
    save_weights(
        workspace.path(names.DISTILLED_WEIGHTS),
        student,
        architecture=model.architecture,
        innovations=model.innovations,
    )
    workspace.write_text(names.STUDENT_HISTORY, history_csv(history))
    initial = distill.initial_weights
    metrics = {
        **_size(student),
        "train/loss": history[-1]["loss"],
        "train/tensors_from_teacher": num_copied if initial is None else 0,
    }
    workspace.write_json(names.STUDENT_METRICS, metrics)
    origin = "the teacher's" if initial is None else initial
    return StageResult(
        metrics=metrics,
        summary=f"{model.architecture}, {metrics['model/params']:,} parameters, "
        f"{distill.train.epochs} epochs, {num_copied} tensors started from {origin}, "
        f"loss {metrics['train/loss']:.3f}",
    )
