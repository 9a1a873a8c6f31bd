"""Stage `distill`: the student learns from photographs and teacher, or, as a twin, from photographs alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featherface.config import DataConfig, DistillConfig, ModelConfig
from featherface.distillation.adapters import FeatureAdapters
from featherface.distillation.losses import distillation_loss, feature_loss, temperature_at
from featherface.distillation.teacher import FrozenStage, FrozenTeacher, copy_matching_weights
from featherface.errors import ConfigError
from featherface.inference.weights import load_model, save_weights
from featherface.models.build import build_model
from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.models.detector import FeatherFace
from featherface.stages import names
from featherface.stages.base import StageResult, Workspace
from featherface.stages.fitting import StepLoss, history_csv, task_losses, train_detector
from featherface.structures import Batch

STAGE = "distill"
STAGE1 = "backbone.stage1"


def run(data: DataConfig, model: ModelConfig, distill: DistillConfig, *, workspace: Workspace) -> StageResult:
    """Write the student's weights (the running average), its training history and metrics."""
    train = distill.train
    torch.manual_seed(train.seed)
    student = build_model(model.architecture, innovations=model.innovations)
    teacher_path = workspace.path(names.TEACHER_WEIGHTS)
    teacher = load_model(teacher_path)
    copied = copy_matching_weights(student, teacher) if distill.init_from_teacher else ()
    stage1 = _freeze_stage1(student, copied) if distill.freeze_stage1 else None
    adapters = _adapters(student, teacher) if distill.enabled else None
    result = train_detector(
        student,
        _step_loss(student, FrozenTeacher(teacher), stage1, adapters, distill),
        stage=STAGE,
        train=train,
        data=data,
        workspace=workspace,
        sections=(data, model, distill),
        extra_identity=hashlib.sha256(teacher_path.read_bytes()).hexdigest(),
        auxiliary=adapters,
    )
    save_weights(
        workspace.path(names.STUDENT_WEIGHTS),
        result.averaged,
        architecture=model.architecture,
        innovations=model.innovations,
    )
    workspace.write_text(names.STUDENT_HISTORY, history_csv(result.history))
    metrics = {
        "model/params": count_parameters(student),
        "model/multiply_adds_640": count_multiply_adds(student, (640, 640)),
        "train/loss": result.history[-1]["loss"],
        "train/tensors_from_teacher": len(copied),
    }
    workspace.write_json(names.STUDENT_METRICS, metrics)
    return StageResult(
        metrics=metrics,
        summary=f"{model.architecture}, {metrics['model/params']:,} parameters, {train.epochs} epochs, "
        f"{len(copied)} tensors started from the teacher's, loss {metrics['train/loss']:.3f}",
    )


def _freeze_stage1(student: FeatherFace, copied: tuple[str, ...]) -> FrozenStage:
    """Stop the first stage of the backbone from learning."""
    stage1 = student.get_submodule(STAGE1)
    missing = {f"{STAGE1}.{name}" for name in stage1.state_dict()} - set(copied)
    if missing:
        raise ConfigError(
            "distill.freeze_stage1 keeps what the student took from the teacher, but it took nothing: "
            "set distill.init_from_teacher to true, or freeze_stage1 to false"
        )
    stage1.requires_grad_(requires_grad=False)
    return FrozenStage(stage1)


def _adapters(student: FeatherFace, teacher: FeatherFace) -> FeatureAdapters:
    """Maps from the student's channels to the teacher's, for the three levels of the backbone."""

    def channels(detector: FeatherFace) -> list[int]:
        detector.eval()
        with torch.no_grad():
            _, features = detector.forward_features(torch.zeros(1, 3, 32, 32))
        return [int(level.shape[1]) for level in features.backbone]

    return FeatureAdapters(channels(student), channels(teacher))


def _step_loss(
    student: FeatherFace,
    teacher: FrozenTeacher,
    stage1: FrozenStage | None,
    adapters: nn.Module | None,
    distill: DistillConfig,
) -> StepLoss:
    train = distill.train
    # Of a first stage that is the teacher's there is nothing to imitate.
    levels = slice(0 if stage1 is None else 1, None)

    def first_map(images: Tensor) -> Tensor | None:
        return None if stage1 is None else stage1(images)

    def twin_loss(batch: Batch, _progress: float) -> Mapping[str, Tensor]:
        outputs, _ = student.forward_features(batch.images, c3=first_map(batch.images))
        return task_losses(student, outputs, batch, train)

    if adapters is None:
        return twin_loss

    def distilled_loss(batch: Batch, progress: float) -> Mapping[str, Tensor]:
        c3 = first_map(batch.images)
        outputs, features = student.forward_features(batch.images, c3=c3)
        teacher_outputs, teacher_features = teacher(batch.images, c3=c3)
        against_teacher = distillation_loss(
            outputs,
            teacher_outputs,
            temperature=temperature_at(
                progress, start=distill.temperature_start, end=distill.temperature_end
            ),
            confidence_threshold=distill.confidence_threshold,
        )
        losses = {
            name: distill.task_weight * value
            for name, value in task_losses(student, outputs, batch, train).items()
        }
        adapted: tuple[Tensor, ...] = adapters(features.backbone)
        imitated = feature_loss(adapted[levels], list(teacher_features.backbone)[levels])
        return losses | {
            "distill_logit": distill.logit_weight * against_teacher.logit,
            "distill_box": distill.box_weight * against_teacher.box,
            "distill_landmark": distill.landmark_weight * against_teacher.landmark,
            "distill_feature": distill.feature_weight * imitated,
        }

    return distilled_loss
