"""Stage `distill`: the student learns from photographs and teacher, or, as a twin, from photographs alone."""

from __future__ import annotations

import hashlib

import torch

from featherface.config import DataConfig, DistillConfig, ModelConfig
from featherface.distillation.student import StudentTraining
from featherface.inference.weights import load_model, save_weights
from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.parallel import training_device
from featherface.stages import names
from featherface.stages.base import StageResult, Workspace
from featherface.stages.fitting import history_csv, train_detector

STAGE = "distill"


def run(data: DataConfig, model: ModelConfig, distill: DistillConfig, *, workspace: Workspace) -> StageResult:
    """Write the student's weights (the running average), its training history and metrics."""
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
        device=training_device(),
    )
    result = train_detector(
        training.student,
        training.losses,
        stage=STAGE,
        train=train,
        data=data,
        workspace=workspace,
        sections=(data, model, distill),
        extra_identity=" ".join(
            hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (teacher_path, *([] if initial is None else [workspace.root / initial]))
        ),
        auxiliary=training.adapters,
    )
    student = training.student.cpu()
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
        "train/tensors_from_teacher": training.num_copied if initial is None else 0,
    }
    workspace.write_json(names.STUDENT_METRICS, metrics)
    origin = "the teacher's" if initial is None else initial
    return StageResult(
        metrics=metrics,
        summary=f"{model.architecture}, {metrics['model/params']:,} parameters, {train.epochs} epochs, "
        f"{training.num_copied} tensors started from {origin}, loss {metrics['train/loss']:.3f}",
    )
