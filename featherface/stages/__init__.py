"""The stations of the pipeline, in order: what each reads, writes and runs."""

from __future__ import annotations

from featherface.config import DATA_FOLDER, Config
from featherface.stages import names
from featherface.stages.base import Output, Stage

_BASE = (
    "config.py",
    "errors.py",
    "files.py",
    "names.py",
    "shapes.py",
    "stages/base.py",
    "stages/names.py",
    "yaml_files.py",
)
_IMAGES = ("imaging.py", "headers.py", "jpeg_images.py", "pillow_images.py", "data/widerface.py")
_NETWORKS = ("structures.py", "geometry.py", "models", "inference")
_TRAINING = (
    *_NETWORKS,
    *_IMAGES,
    "data/augment.py",
    "data/harder_views.py",
    "data/labeled.py",
    "data/loader.py",
    "data/reading.py",
    "losses",
    "parallel.py",
    "child_process.py",
    "training",
    "stages/fitting.py",
    "stages/resuming.py",
)
_CURVES = ("train/loss", "train/loss_cls", "train/loss_box", "train/loss_landmark")


def _teacher_weights(config: Config) -> tuple[str, ...]:
    return () if config.teacher.weights is None else (config.teacher.weights,)


def _initial_weights(config: Config) -> tuple[str, ...]:
    return () if config.distill.initial_weights is None else (config.distill.initial_weights,)


_ALL = (
    Stage(
        name="validate",
        module="featherface.stages.validate",
        sections=("data",),
        inputs=(DATA_FOLDER,),
        outputs=(Output(names.VALIDATION_REPORT, "metric"), Output(names.VALIDATION_PLOT)),
        code=(
            *(*_BASE, *_IMAGES, "data/validation.py", "data/validation_plot.py"),
            *("evaluation/ground_truth.py", "evaluation/mat_file.py", "stages/validate.py"),
        ),
    ),
    Stage(
        name="train_teacher",
        module="featherface.stages.train_teacher",
        sections=("data", "teacher", "train_teacher"),
        inputs=(DATA_FOLDER, names.VALIDATION_REPORT),
        outputs=(
            Output(names.TEACHER_WEIGHTS),
            Output(names.TEACHER_METRICS, "metric"),
            Output(names.TEACHER_HISTORY, "plot", "epoch", _CURVES, "Teacher: training losses"),
        ),
        code=(*_BASE, *_TRAINING, "stages/train_teacher.py"),
        extra_inputs=_teacher_weights,
    ),
    Stage(
        name="distill",
        module="featherface.stages.distill",
        sections=("data", "model", "distill"),
        inputs=(DATA_FOLDER, names.VALIDATION_REPORT, names.TEACHER_WEIGHTS),
        outputs=(
            Output(names.DISTILLED_WEIGHTS),
            Output(names.STUDENT_METRICS, "metric"),
            Output(names.STUDENT_HISTORY, "plot", "epoch", _CURVES, "Student: training losses"),
        ),
        code=(*_BASE, *_TRAINING, "distillation", "stages/distill.py"),
        extra_inputs=_initial_weights,
    ),
    Stage(
        name="rescore",
        module="featherface.stages.rescore",
        sections=("data", "rescore"),
        inputs=(DATA_FOLDER, names.VALIDATION_REPORT, names.DISTILLED_WEIGHTS),
        outputs=(
            Output(names.STUDENT_WEIGHTS),
            Output(names.RESCORE_METRICS, "metric"),
            Output(names.RESCORE_HISTORY, "plot", "epoch", ("rescore/loss",), "Second opinion: loss"),
        ),
        code=(
            *_BASE,
            *_NETWORKS,
            *_IMAGES,
            "data/augment.py",
            "data/harder_views.py",
            "data/labeled.py",
            "data/reading.py",
            "training/rescoring.py",
            "training/candidates.py",
            "training/checkpoint.py",
            "training/optim.py",
            "training/state.py",
            "parallel.py",
            "child_process.py",
            "training/memory.py",
            "training/progress.py",
            "stages/resuming.py",
            "stages/rescore.py",
        ),
    ),
    Stage(
        name="evaluate",
        module="featherface.stages.evaluate",
        sections=("data", "evaluate"),
        inputs=(DATA_FOLDER, names.TEACHER_WEIGHTS, names.STUDENT_WEIGHTS),
        outputs=(
            Output(names.EVALUATION_METRICS, "metric"),
            Output(
                names.EVALUATION_CURVE, "plot", "recall", ("easy", "medium", "hard"), "Precision over recall"
            ),
            *(Output(path) for path in names.EVALUATION_PICTURES.values()),
            Output(names.EVALUATION_ANALYSIS),
            Output(names.PREDICTIONS),
        ),
        code=(*_BASE, *_NETWORKS, *_IMAGES, "data/reading.py", "evaluation", "stages/evaluate.py"),
    ),
    Stage(
        name="export",
        module="featherface.stages.export",
        sections=("data", "export"),
        inputs=(DATA_FOLDER, names.TEACHER_WEIGHTS, names.STUDENT_WEIGHTS),
        outputs=(Output(names.ONNX_FILE), Output(names.EXPORT_METRICS, "metric")),
        code=(*_BASE, *_NETWORKS, *_IMAGES, "data/reading.py", "export", "stages/export.py"),
    ),
    Stage(
        name="report",
        module="featherface.stages.report",
        sections=("data", "model", "teacher", "distill", "rescore", "evaluate", "export"),
        inputs=(
            names.RESCORE_METRICS,
            names.EVALUATION_METRICS,
            names.EXPORT_METRICS,
            names.EVALUATION_ANALYSIS,
            *names.EVALUATION_PICTURES.values(),
            names.VALIDATION_PLOT,
        ),
        outputs=(Output(names.REPORT_HTML), Output(names.MODEL_CARD), Output(names.REPORT_METRICS, "metric")),
        code=(*_BASE, "evaluation/page.py", "training/origin.py", "stages/report.py"),
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in _ALL}
"""By name, in the order in which they run."""
