"""Stage `export`: the student as ONNX, proved equal to the network, its size and latency measured."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from featherface.config import DataConfig, ExportConfig
from featherface.data.reading import read_photograph
from featherface.data.widerface import open_widerface
from featherface.export.latency import LatencyReport, measure_latency
from featherface.export.onnx import export_onnx
from featherface.export.parity import check_parity
from featherface.inference.model_info import ModelInfo
from featherface.inference.weights import load_model_with_info
from featherface.stages import names
from featherface.stages.base import StageResult, Workspace
from featherface.tracking.provenance import data_md5, git_sha

LICENSE_NOTES = {
    "synthetic": "Apache-2.0; trained on drawn scenes",
    "widerface": "research only; trained on WIDER FACE, whose terms allow no commercial use",
}
LATENCY_ROUNDS = 20


def run(data: DataConfig, export: ExportConfig, *, workspace: Workspace) -> StageResult:
    """Write `artifacts/export/featherface.onnx` and its metrics.

    Raises:
        ModelError: the file answers differently from the network, by more than `export.parity_tolerance`.
    """
    model, info = load_model_with_info(workspace.path(names.STUDENT_WEIGHTS))
    extra = {
        "git_sha": git_sha(workspace.root),
        "data_md5": data_md5(workspace.root),
        "score_threshold": str(export.score_threshold),
        "iou_threshold": str(export.iou_threshold),
        "license": LICENSE_NOTES[data.source],
    }
    path = workspace.path(names.ONNX_FILE)
    export_onnx(model, path, info=_with_extra(info, extra), opset=export.opset)
    samples = open_widerface(workspace.path(data.root), "val")
    chosen = np.linspace(0, len(samples) - 1, min(export.parity_images, len(samples))).astype(int)
    parity = check_parity(
        model, path, [read_photograph(samples[index]) for index in chosen], tolerance=export.parity_tolerance
    )
    latency = _compare_latency(path, workspace.path(names.TEACHER_WEIGHTS), export)
    metrics = {
        "export/parity_error": parity.worst,
        "export/file_mib": path.stat().st_size / 2**20,
        "bench/latency_ms_p50": latency.latencies["student"].median_ms,
        "bench/latency_ratio": latency.ratio("student", "teacher"),
    }
    workspace.write_json(names.EXPORT_METRICS, metrics)
    return StageResult(
        metrics=metrics,
        summary=f"{metrics['export/file_mib']:.2f} MiB, largest difference from torch {parity.worst:.1e}, "
        f"{metrics['bench/latency_ratio']:.2f} x the teacher's latency",
    )


def _with_extra(info: ModelInfo, extra: dict[str, str]) -> ModelInfo:
    return ModelInfo(
        architecture=info.architecture,
        innovations=info.innovations,
        strides=info.strides,
        min_sizes_px=info.min_sizes_px,
        extra={**info.extra, **extra},
    )


def _compare_latency(student: Path, teacher_weights: Path, export: ExportConfig) -> LatencyReport:
    with tempfile.TemporaryDirectory() as folder:
        teacher_path = Path(folder) / "teacher.onnx"
        teacher, info = load_model_with_info(teacher_weights)
        input_hw = (export.latency_size_px, export.latency_size_px)
        export_onnx(teacher, teacher_path, info=info, opset=export.opset, fixed_hw=input_hw)
        return measure_latency(
            {"student": student, "teacher": teacher_path}, input_hw=input_hw, rounds=LATENCY_ROUNDS
        )
