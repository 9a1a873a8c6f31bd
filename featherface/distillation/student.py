"""A student in training: where it starts, what of it learns, and the losses of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from featherface.distillation.adapters import FeatureAdapters
from featherface.distillation.losses import distillation_loss, feature_loss, temperature_at
from featherface.distillation.teacher import FrozenStage, FrozenTeacher, copy_matching_weights
from featherface.errors import ConfigError
from featherface.losses.task import task_losses
from featherface.models.build import build_model
from featherface.models.detector import FeatherFace
from featherface.structures import Batch

if TYPE_CHECKING:
    from featherface.config import DistillConfig, ModelConfig

STAGE1 = "backbone.stage1"


class StudentTraining:
    """A new student with random weights where the teacher gives it none, and what each step teaches it.

    Args:
        model: the student's architecture.
        distill: where it starts and what it learns from; without `enabled` the teacher gives it its start
            only, and teaches nothing.
        teacher: with trained weights; not changed.
        initial: a student of the same network to go on from, instead of random weights and the teacher's.
        device: where the training is to run.

    Attributes:
        student: to be trained in place.
        adapters: trained beside it and dropped afterwards; None without a teacher.
        num_copied: tensors that start as the teacher's, or as the initial student's.

    Raises:
        ConfigError: the first stage is to stay as the teacher has it, but is another one; or the initial
            student is another network.
    """

    def __init__(
        self,
        model: ModelConfig,
        distill: DistillConfig,
        teacher: FeatherFace,
        *,
        initial: FeatherFace | None = None,
        device: torch.device | None = None,
    ) -> None:
        device = device or torch.device("cpu")
        self.student = build_model(model.architecture, innovations=model.innovations)
        self.adapters = _adapters(self.student, teacher) if distill.enabled else None
        self.num_copied = _start(self.student, teacher, initial, from_teacher=distill.init_from_teacher)
        self.student.to(device)
        if self.adapters is not None:
            self.adapters.to(device)
        self._stage1 = _freeze_stage1(self.student, teacher) if distill.freeze_stage1 else None
        self._teacher = FrozenTeacher(teacher, device=device) if distill.enabled else None
        self._distill = distill

    def losses(self, batch: Batch, progress: float) -> Mapping[str, Tensor]:
        """Weighted losses of a batch, by name.

        Args:
            batch: views and their faces.
            progress: how much of the training is done, in [0, 1).
        """
        c3 = None if self._stage1 is None else self._stage1(batch.images)
        outputs, features = self.student.forward_features(batch.images, c3=c3)
        task = task_losses(self.student, outputs, batch, self._distill.train.loss)
        if self._teacher is None or self.adapters is None:
            return task
        distill = self._distill
        taught, taught_features = self._teacher(batch.images, c3=c3)
        against_teacher = distillation_loss(
            outputs,
            taught,
            temperature=temperature_at(
                progress, start=distill.temperature_start, end=distill.temperature_end
            ),
            confidence_threshold=distill.confidence_threshold,
        )
        # Of a first stage that is the teacher's there is nothing to imitate.
        first = 0 if self._stage1 is None else 1
        adapted: tuple[Tensor, ...] = self.adapters(features.backbone)
        imitated = feature_loss(adapted[first:], taught_features.backbone[first:])
        return {
            **{name: distill.task_weight * value for name, value in task.items()},
            "distill_logit": distill.logit_weight * against_teacher.logit,
            "distill_box": distill.box_weight * against_teacher.box,
            "distill_landmark": distill.landmark_weight * against_teacher.landmark,
            "distill_feature": distill.feature_weight * imitated,
        }


def _start(
    student: FeatherFace, teacher: FeatherFace, initial: FeatherFace | None, *, from_teacher: bool
) -> int:
    if initial is None:
        return len(copy_matching_weights(student, teacher)) if from_teacher else 0
    theirs, own = initial.state_dict(), student.state_dict()
    if {name: value.shape for name, value in theirs.items()} != {n: v.shape for n, v in own.items()}:
        raise ConfigError(
            "distill.initial_weights are of another network than the student: give those of one with the "
            "same model.architecture and model.innovations"
        )
    student.load_state_dict(theirs)
    return len(own)


def _freeze_stage1(student: FeatherFace, teacher: FeatherFace) -> FrozenStage:
    stage1 = student.get_submodule(STAGE1)
    theirs = teacher.get_submodule(STAGE1).state_dict()
    for name, value in stage1.state_dict().items():
        if name.endswith("num_batches_tracked"):  # counts steps, and computes nothing
            continue
        if name not in theirs or not torch.equal(value.cpu(), theirs[name].cpu()):
            raise ConfigError(
                "distill.freeze_stage1 keeps the first stage as the teacher has it, but the student starts "
                "with another: set distill.init_from_teacher to true, or freeze_stage1 to false"
            )
    stage1.requires_grad_(requires_grad=False)
    return FrozenStage(stage1)


def _adapters(student: FeatherFace, teacher: FeatherFace) -> FeatureAdapters:
    """Maps from the student's channels to the teacher's, for the three levels of the backbone."""

    def channels(detector: FeatherFace) -> list[int]:
        was_training = detector.training
        detector.eval()
        with torch.no_grad():
            _, features = detector.forward_features(torch.zeros(1, 3, 32, 32))
        detector.train(was_training)
        return [int(level.shape[1]) for level in features.backbone]

    return FeatureAdapters(channels(student), channels(teacher))
