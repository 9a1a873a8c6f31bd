"""Stage `evaluate`: teacher and student on the validation images, by both protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from featherface.config import DataConfig, EvaluateConfig
from featherface.data.widerface import GROUND_TRUTH_DIR, Sample, open_widerface
from featherface.errors import DataError
from featherface.evaluation.analysis import analyze
from featherface.evaluation.bootstrap import Interval, ap_differences, ap_intervals
from featherface.evaluation.landmarks import landmark_errors
from featherface.evaluation.pictures import draw_pictures
from featherface.evaluation.report import EvaluationReport
from featherface.evaluation.run import evaluate_model_file
from featherface.evaluation.widerface import (
    SETTINGS,
    WiderResult,
    load_ground_truth,
    restrict,
)
from featherface.inference.weights import load_model
from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.stages import names
from featherface.stages.base import StageResult, Workspace

RECALL_POINTS = 101
COUNTED_AT = (640, 640)


def run(data: DataConfig, evaluate: EvaluateConfig, *, workspace: Workspace) -> StageResult:
    """Write metrics of both networks, precision-recall curves, the student's predictions and worst images.

    Raises:
        DataError: the data set has no official ground truth, so that there is nothing to judge by.
    """
    root = workspace.root / data.root
    weights = {"student": names.STUDENT_WEIGHTS, "teacher": names.TEACHER_WEIGHTS}
    reports, results, metrics = {}, {}, {}
    for who, path in weights.items():
        report = evaluate_model_file(
            str(workspace.root / path),
            root,
            settings=evaluate,
            save_predictions=workspace.path(names.PREDICTIONS) if who == "student" else None,
        )
        reports[who], results[who] = report, _wider(report, root)
        metrics[who] = report.metrics() | _cost(workspace.root / path)
    samples = open_widerface(root, "val", missing="skip")
    metrics["student"] |= _landmark_metrics(samples, reports["student"], reports["teacher"])
    ground_truth = restrict(load_ground_truth(root / GROUND_TRUTH_DIR), list(reports["student"].predictions))
    analyses = {who: analyze(report.predictions, ground_truth) for who, report in reports.items()}
    for who, report in reports.items():
        metrics[who] |= _bounds("val/ap_{}", ap_intervals(report.predictions, ground_truth))
        metrics[who] |= analyses[who].metrics()
    gain = ap_differences(reports["student"].predictions, reports["teacher"].predictions, ground_truth)
    metrics["student"] |= _bounds("val/ap_{}_over_teacher", gain)
    workspace.write_json(names.EVALUATION_METRICS, metrics)
    workspace.write_text(names.EVALUATION_CURVE, _curve_csv(results["student"]))
    workspace.write_json(names.EVALUATION_ANALYSIS, {who: each.to_dict() for who, each in analyses.items()})
    draw_pictures(
        {kind: workspace.path(path) for kind, path in names.EVALUATION_PICTURES.items()},
        reports,
        analyses,
        ground_truth=ground_truth,
        samples=samples,
    )
    student, teacher = results["student"], results["teacher"]
    return StageResult(
        metrics=metrics["student"] | {f"teacher/{name}": value for name, value in metrics["teacher"].items()},
        summary=f"mean AP of the student {100 * student.mean:.2f}, of the teacher {100 * teacher.mean:.2f}",
    )


def _wider(report: EvaluationReport, root: Path) -> WiderResult:
    if report.wider is None:
        raise DataError(
            f"{root}: has no ground_truth folder with the easy, medium and hard lists; make it again"
        )
    return report.wider


def _landmark_metrics(
    samples: Sequence[Sample], student: EvaluationReport, teacher: EvaluationReport
) -> dict[str, float]:
    """Errors of the student's landmarks against annotated ones, where there are any, and the teacher's."""
    truth = landmark_errors(samples, student.predictions, student.landmarks)
    taught = landmark_errors(
        samples,
        student.predictions,
        student.landmarks,
        reference=(teacher.predictions, teacher.landmarks),
    )
    return {f"val/{name}": value for name, value in truth.items()} | {
        f"val/{name.replace('nme', 'nme_to_teacher', 1)}": value for name, value in taught.items()
    }


def _bounds(name: str, intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Ends of 95 % intervals over the images; the numbers themselves are among the metrics already."""
    bounds = {f"{name.format(setting)}_low": each.low for setting, each in intervals.items()}
    return bounds | {f"{name.format(setting)}_high": each.high for setting, each in intervals.items()}


def _cost(weights: Path) -> dict[str, float]:
    model = load_model(weights)
    return {
        "model/params": float(count_parameters(model)),
        "model/multiply_adds_640": float(count_multiply_adds(model, COUNTED_AT)),
    }


def _curve_csv(result: WiderResult) -> str:
    """Precision of each setting over an even grid of recalls; empty beyond the highest recall reached."""
    grid = np.linspace(0, 1, RECALL_POINTS)
    columns = []
    for setting in SETTINGS:
        curve = result.curves[setting]
        precision = np.interp(grid, curve.recall, curve.precision)
        columns.append(np.where(grid <= curve.recall.max(initial=0), precision, np.nan))
    lines = ["recall," + ",".join(SETTINGS)]
    for recall, *precisions in zip(grid, *columns, strict=True):
        lines.append(
            ",".join([f"{recall:.2f}", *("" if np.isnan(value) else f"{value:.6f}" for value in precisions)])
        )
    return "\n".join(lines) + "\n"
