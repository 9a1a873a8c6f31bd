"""The pipeline's report: numbers of student and teacher, and everything that the evaluation wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featherface.config import Config, EvaluateConfig, ExportConfig, RescoreConfig
from featherface.evaluation.analysis import analyze
from featherface.evaluation.widerface import SETTINGS, WiderGroundTruth
from featherface.imaging import write_image
from featherface.stages import STAGES, names
from featherface.stages.base import Workspace
from featherface.stages.report import describe_judging, describe_rescoring


def test_report_holds_the_pictures_of_the_evaluation_and_names_the_threshold(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for path in (*names.EVALUATION_PICTURES.values(), names.VALIDATION_PLOT):
        write_image(workspace.path(path), np.zeros((4, 4, 3), np.uint8))
    ground_truth = WiderGroundTruth(
        names=("0--A/a",),
        boxes_xywh=np.array([[0.0, 0, 20, 20]]),
        offsets=np.array([0, 1]),
        is_counted=dict.fromkeys(SETTINGS, np.array([True])),
        total_images=1,
    )
    student = analyze({"0--A/a": np.array([[0.0, 0, 20, 20, 0.75]])}, ground_truth)
    teacher = analyze({"0--A/a": np.empty((0, 5))}, ground_truth)
    workspace.write_json(
        names.EVALUATION_ANALYSIS, {"student": student.to_dict(), "teacher": teacher.to_dict()}
    )
    numbers = {"val/ap_mean": 0.5, "val/images": 1.0}
    workspace.write_json(
        names.EVALUATION_METRICS,
        {"student": numbers | student.metrics(), "teacher": numbers | teacher.metrics()},
    )
    workspace.write_json(names.EXPORT_METRICS, {"export/file_mib": 1.0, "bench/latency_ms_p50": 7.5})
    workspace.write_json(names.RESCORE_METRICS, {"rescore/candidates": 1234567, "rescore/loss": 0.03})
    (tmp_path / "data").mkdir()

    STAGES["report"].run(Config(export=ExportConfig(latency_size_px=320)), workspace)

    text = (tmp_path / names.REPORT_HTML).read_text(encoding="utf-8")
    assert text.count("src='data:image/") == len(names.EVALUATION_PICTURES) + 1
    assert "<td>student: best F1, recommended</td><td class=n>0.750</td>" in text
    assert "<td>teacher: best F1, recommended</td><td class=n>-</td>" in text
    card = (tmp_path / names.MODEL_CARD).read_text(encoding="utf-8")
    assert "| latency at 320 x 320, one thread, ms (this machine) | 7.5 | - |" in card
    assert "<td>latency at 320 x 320, one thread, ms (this machine)</td>" in text
    assert "| recommended score threshold (highest F1) | 0.75 | - |" in card
    assert (
        "| second opinion | share 0.35, learnt from 1,234,567 priors of training photographs at 640 px,"
        in card
    )


def test_a_card_names_no_second_opinion_where_there_is_none() -> None:
    assert describe_rescoring(RescoreConfig(), {}) == "none"
    assert describe_rescoring(RescoreConfig(), {"rescore/candidates": 0}) == "none"


def test_a_card_says_how_the_images_were_judged() -> None:
    assert describe_judging(EvaluateConfig()) == (
        "original size, single scale, score > 0.02, suppression at IoU 0.4, scores with votes, "
        "at most 750 detections an image"
    )
    smaller = EvaluateConfig(image_size=640, max_faces=50, score_threshold=0.1)
    assert describe_judging(smaller).startswith("long side 640 px, single scale, score > 0.1,")
    assert describe_judging(smaller).endswith("at most 50 detections an image")
