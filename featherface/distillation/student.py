"""A student in training: where it starts, what of it learns, and the losses of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from featherface.distillation.adapters import FeatureAdapters
from featherface.distillation.details import DetailsTraining
from featherface.distillation.losses import distillation_loss, feature_loss, temperature_at
from featherface.distillation.pruning import channel_importance, prune_teacher
from featherface.distillation.teacher import FrozenStages, FrozenTeacher, copy_matching_weights
from featherface.errors import ConfigError
from featherface.losses.matching import BACKGROUND
from featherface.losses.task import TaskSettings, task_losses, task_matches
from featherface.models.build import build_model
from featherface.models.detector import FeatherFace
from featherface.models.folding import frozen_copy
from featherface.structures import Batch, DetectorFeatures

if TYPE_CHECKING:
    from featherface.config import DistillConfig, ModelConfig

_STAGES = ("backbone.stage1", "backbone.stage2")


class StudentTraining:
    """A new student with random weights where the teacher gives it none, and what each step teaches it.

    Args:
        model: the student's architecture.
        distill: where it starts and what it learns from; without `enabled` the teacher gives it its start
            only, and teaches nothing.
        teacher: with trained weights; not changed.
        initial: a student of the same network to go on from, instead of random weights and the teacher's;
            its second opinion is forgotten, and what its details add unless these are to learn.
        batches: gives some of the training's batches; a start as a pruned teacher looks at them.
        device: where the training is to run.

    Attributes:
        student: to be trained in place.
        adapters: trained beside it and dropped afterwards; None without a teacher.
        num_copied: tensors that start as the teacher's, or as the initial student's.

    Raises:
        ConfigError: the first stage is to stay as the teacher has it, but is another one; the initial student
            is another network, or is to stay as it is.
    """

    def __init__(
        self,
        model: ModelConfig,
        distill: DistillConfig,
        teacher: FeatherFace,
        *,
        initial: FeatherFace | None = None,
        batches: Callable[[], Iterable[Batch]] = tuple,
        device: torch.device | None = None,
    ) -> None:
        if distill.keep_initial_weights:
            raise ConfigError(
                "distill.keep_initial_weights asks for no training: set it to false, or run "
                "`featherface pipeline`"
            )
        device = device or torch.device("cpu")
        self.student = build_model(model.architecture, innovations=model.innovations)
        self.adapters = _adapters(self.student, teacher, distill) if distill.enabled else None
        self.num_copied = _start(self.student, teacher, initial, distill, batches)
        self.student.head.forget_second_opinion()
        if self.student.details is not None:
            if distill.learn == "base":
                self.student.details.forget()
            elif distill.learn == "everything":
                import os
                self.student.details.requires_grad_(requires_grad=not os.environ.get("FREEZE_DETAILS"))
                self.student.head.soften(1 / distill.score_temperature)
        self.student.to(device)
        if self.adapters is not None:
            self.adapters.to(device)
        self._frozen = _freeze(self.student, teacher, _STAGES[: distill.frozen_stages])
        self._shallow = frozen_copy(self.student) if distill.learn == "everything" else None
        self._details = DetailsTraining(self.student, distill) if distill.learn == "details" else None
        self._teacher = FrozenTeacher(teacher, device=device) if distill.enabled else None
        self._distill = distill

    def losses(self, batch: Batch, progress: float) -> Mapping[str, Tensor]:
        """Weighted losses of a batch, by name.

        Args:
            batch: views and their faces.
            progress: how much of the training is done, in [0, 1).
        """
        known = self._frozen(batch.images)
        matches = task_matches(self.student, batch, self._distill.train.loss)
        if self._details is not None:
            outputs = self._details.answer(batch.images, known)
            matches = self._details.matches(matches, batch.images)
            return task_losses(self.student, outputs, batch, self._distill.train.loss, matches=matches)
        if self._distill.learn == "everything":
            with torch.no_grad():
                shallow = self._shallow.shallow(batch.images)
            c, levels = self.student.maps(batch.images, known=known, shallow=shallow)
            import os
            details = self._shallow.details if os.environ.get("FREEZE_DETAILS") else self.student.details
            outputs = self.student.head(details(levels, shallow))
            features = DetectorFeatures(backbone=c, neck=levels)
        else:
            outputs, features = self.student.forward_features(batch.images, known=known)
        task = task_losses(self.student, outputs, batch, self._distill.train.loss, matches=matches)
        if self._teacher is None or self.adapters is None:
            return task
        distill = self._distill
        taught, taught_features = self._teacher(batch.images, known=known)
        against_teacher = distillation_loss(
            outputs,
            taught,
            temperature=temperature_at(
                progress, start=distill.temperature_start, end=distill.temperature_end
            ),
            is_annotated=matches.labels != BACKGROUND,
            confidence_threshold=distill.confidence_threshold,
        )
        adapted: tuple[Tensor, ...] = self.adapters(_imitating(features, distill))
        imitated = _imitating(taught_features, distill)
        num_backbone = len(features.backbone) - distill.frozen_stages
        return {
            **{name: distill.task_weight * value for name, value in task.items()},
            "distill_logit": distill.logit_weight * against_teacher.logit,
            "distill_box": distill.box_weight * against_teacher.box,
            "distill_landmark": distill.landmark_weight * against_teacher.landmark,
            "distill_feature": distill.feature_weight
            * feature_loss(adapted[:num_backbone], imitated[:num_backbone]),
            **(
                {
                    "distill_neck_feature": distill.neck_feature_weight
                    * feature_loss(adapted[num_backbone:], imitated[num_backbone:])
                }
                if distill.neck_feature_weight
                else {}
            ),
        }


def settle_student(student: FeatherFace, distill: DistillConfig) -> None:
    """Weigh what the details of a trained student add, and soften its scores; in place, in the weights."""
    student.head.soften(distill.score_temperature)
    if distill.learn == "details" and student.details is not None:
        student.details.weigh(distill.details_share)
        student.head.shift(0, distill.details_offset)


def _start(
    student: FeatherFace,
    teacher: FeatherFace,
    initial: FeatherFace | None,
    distill: DistillConfig,
    batches: Callable[[], Iterable[Batch]],
) -> int:
    if initial is None:
        match distill.start:
            case "pruned":
                importance = channel_importance(teacher, batches(), partial(_task_loss, distill.train.loss))
                return len(prune_teacher(student, teacher, importance))
            case "copied":
                return len(copy_matching_weights(student, teacher))
            case _:
                return 0
    theirs, own = initial.state_dict(), student.state_dict()
    if {name: value.shape for name, value in theirs.items()} != {n: v.shape for n, v in own.items()}:
        raise ConfigError(
            "distill.initial_weights are of another network than the student: give those of one with the "
            "same model.architecture and model.innovations"
        )
    student.load_state_dict(theirs)
    return len(own)


def _task_loss(settings: TaskSettings, detector: FeatherFace, batch: Batch) -> Tensor:
    losses = task_losses(detector, detector(batch.images), batch, settings)
    return torch.stack(list(losses.values())).sum()


def _freeze(student: FeatherFace, teacher: FeatherFace, names: Sequence[str]) -> FrozenStages:
    stages = [student.get_submodule(name) for name in names]
    for stage, name in zip(stages, names, strict=True):
        theirs = teacher.get_submodule(name).state_dict()
        for key, value in stage.state_dict().items():
            if key.endswith("num_batches_tracked"):  # counts steps, and computes nothing
                continue
            if key not in theirs or not torch.equal(value.cpu(), theirs[key].cpu()):
                raise ConfigError(
                    "distill.frozen_stages keeps the first stages as the teacher has them, but the student's "
                    f"{name} starts as another: set distill.start to 'copied' or 'pruned', or frozen_stages "
                    "to a smaller number"
                )
        stage.requires_grad_(requires_grad=False)
    return FrozenStages(stages)


def _imitating(features: DetectorFeatures, distill: DistillConfig) -> tuple[Tensor, ...]:
    """The maps that the student imitates; of stages that are the teacher's there is nothing to imitate."""
    neck = features.neck if distill.neck_feature_weight else ()
    return (*features.backbone[distill.frozen_stages :], *neck)


def _adapters(student: FeatherFace, teacher: FeatherFace, distill: DistillConfig) -> FeatureAdapters:
    """From the student's channels to the teacher's, for each map that is imitated."""

    def channels(detector: FeatherFace) -> list[int]:
        was_training = detector.training
        detector.eval()
        with torch.no_grad():
            _, features = detector.forward_features(torch.zeros(1, 3, 32, 32))
        detector.train(was_training)
        return [int(level.shape[1]) for level in _imitating(features, distill)]

    return FeatureAdapters(channels(student), channels(teacher))
