"""Stage `report`: one self-contained page, the model card and the summary that promotion reads."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from featherface.config import (
    DataConfig,
    DistillConfig,
    EvaluateConfig,
    ExportConfig,
    ModelConfig,
    RescoreConfig,
    TeacherConfig,
)
from featherface.evaluation import page
from featherface.evaluation.page import INTERVALS_NOTE
from featherface.files import sha256_of
from featherface.stages import names
from featherface.stages.base import StageResult, Workspace
from featherface.tracking.provenance import data_md5, git_sha
from featherface.training.origin import read_mean_of

AP_ROWS = (
    ("val/ap_easy", "easy AP"),
    ("val/ap_medium", "medium AP"),
    ("val/ap_hard", "hard AP"),
    ("val/ap_mean", "mean AP"),
    ("val/coco_ap", "COCO AP"),
    ("val/coco_ap50", "COCO AP50"),
)
THRESHOLD_ROW = ("val/recommended_threshold", "recommended score threshold (highest F1)")
OPERATING_ROWS = (
    ("val/recommended_precision", "precision there"),
    ("val/recommended_recall", "recall there"),
    ("val/calibration_error_shown", "calibration error there"),
)
COST_ROWS = (
    ("model/params", "parameters"),
    ("model/multiply_adds_640", "multiply-adds at 640 x 640"),
    ("export/file_mib", "ONNX file, MiB"),
    ("export/parity_error", "largest difference ONNX - torch"),
    ("bench/latency_ms_p50", "latency at {size} x {size}, one thread, ms (this machine)"),
    ("bench/latency_ratio", "latency over the teacher's"),
)


def run(
    *,
    data: DataConfig,
    model: ModelConfig,
    teacher: TeacherConfig,
    distill: DistillConfig,
    rescore: RescoreConfig,
    evaluate: EvaluateConfig,
    export: ExportConfig,
    workspace: Workspace,
) -> StageResult:
    """Write report.html, model_card.md and summary.json with the numbers of teacher and student."""
    evaluation = workspace.read_json(names.EVALUATION_METRICS)
    student = {**evaluation["student"], **workspace.read_json(names.EXPORT_METRICS)}
    summary = {"student": student, "teacher": evaluation["teacher"]}
    verdict = compare(summary)
    facts = {
        "student": f"{model.architecture}, innovations: {', '.join(model.innovations) or 'none'}",
        "teacher": f"{teacher.architecture}, "
        + ("published weights" if teacher.weights else "trained in this pipeline"),
        "training": describe_training(distill, root=workspace.root),
        "second opinion": describe_rescoring(rescore, workspace.read_json(names.RESCORE_METRICS)),
        "data": f"{data.source}, version {data_md5(workspace.root)}",
        "evaluated on": f"{student['val/images']:.0f} validation images, {describe_judging(evaluate)}",
        "commit": git_sha(workspace.root),
    }
    rows = metric_rows(summary, latency_size_px=export.latency_size_px)
    workspace.write_text(names.MODEL_CARD, model_card(summary, rows, facts, verdict, source=data.source))
    workspace.write_text(names.REPORT_HTML, _page(summary, rows, facts, verdict, workspace))
    workspace.write_json(names.REPORT_METRICS, summary)
    return StageResult(metrics={"val/ap_mean": student["val/ap_mean"]}, summary=verdict)


def compare(summary: Mapping[str, Mapping[str, float]]) -> str:
    """One sentence: which of teacher and student has the higher mean AP, and by how much."""
    student, teacher = (100 * summary[who]["val/ap_mean"] for who in ("student", "teacher"))
    gap = teacher - student
    if abs(gap) < 0.005:
        return f"student and teacher reach the same mean AP ({student:.2f})"
    winner, loser = ("teacher", "student") if gap > 0 else ("student", "teacher")
    sentence = (
        f"the {winner} is better: mean AP {max(student, teacher):.2f} against the {loser}'s "
        f"{min(student, teacher):.2f}, by {abs(gap):.2f} points"
    )
    bounds = [summary["student"].get(f"val/ap_mean_over_teacher_{end}") for end in ("low", "high")]
    if None in bounds:
        return sentence
    low, high = sorted(-100 * bound if gap > 0 else 100 * bound for bound in bounds if bound is not None)
    return f"{sentence} (95 % interval over the images {low:.2f} to {high:.2f})"


def describe_judging(evaluate: EvaluateConfig) -> str:
    """How an image was looked at, and what counted of what was found."""
    size = "original size" if evaluate.image_size == "original" else f"long side {evaluate.image_size} px"
    return (
        f"{size}, single scale, score > {evaluate.score_threshold:g}, suppression at IoU "
        f"{evaluate.iou_threshold:g}, scores with votes, at most {evaluate.max_faces} detections an image"
    )


def describe_training(distill: DistillConfig, *, root: Path) -> str:
    """One line on how the student of a workspace was trained."""
    train = distill.train
    if distill.keep_initial_weights and distill.initial_weights is not None:
        student = _describe_student(root / distill.initial_weights)
        return f"none in this run but the second opinion: {student}, whose own card says how it was trained"
    how = (
        f"distilled (temperature {distill.temperature_start:g} to {distill.temperature_end:g})"
        if distill.enabled
        else "trained without a teacher"
    )
    start = {
        "pruned": "started as the pruned teacher",
        "copied": "backbone started as the teacher's",
        "random": "started at random",
    }[distill.start]
    if distill.initial_weights is not None:
        start = f"went on from {_describe_student(root / distill.initial_weights)}"
    return (
        f"{how}, {start}, {_describe_frozen(distill)} frozen, {train.epochs} epochs of "
        f"{train.image_size_px} px crops, batch {train.batch_size}, {train.optimizer} {train.lr:g}, "
        f"seed {train.seed}"
        + ("" if distill.score_temperature == 1 else f", class logits over {distill.score_temperature:g}")
    )


def describe_rescoring(rescore: RescoreConfig, metrics: Mapping[str, float]) -> str:
    """One line on what the scores were mended with."""
    if "rescore/loss" not in metrics:
        return "none"
    sizes = ", ".join(str(size) for size in sorted(set(rescore.long_sides_px)))
    return (
        f"share {rescore.share:g}, learnt from {metrics['rescore/candidates']:,} priors of training "
        f"photographs at {sizes} px, {rescore.epochs} epochs, batch {rescore.batch_size:,}, "
        f"adamw {rescore.lr:g}, seed {rescore.seed}"
        + ("" if rescore.score_temperature == 1 else f", margins over {rescore.score_temperature:g}")
    )


def _describe_frozen(distill: DistillConfig) -> str:
    if distill.learn == "details":
        share = "" if distill.details_share == 1 else f" (counting {distill.details_share:g})"
        offset = "" if not distill.details_offset else f" (scores moved by {distill.details_offset:g})"
        return f"all but its layers for tiny faces{share}{offset}"
    return f"{distill.frozen_stages} of its stages"


def _describe_student(path: Path) -> str:
    averaged = read_mean_of(path)
    whose = f"the mean of {len(averaged)} students ({', '.join(each[:8] for each in averaged)})"
    return f"{whose if averaged else 'a student'} with the digest {sha256_of(path)[:16]}"


def model_card(
    summary: Mapping[str, Mapping[str, float]],
    rows: Sequence[tuple[str, str, str]],
    facts: Mapping[str, str],
    verdict: str,
    *,
    source: str,
) -> str:
    """The model card as Markdown: numbers, how they were made, limits, terms."""
    lines = [
        "# FeatherFace student: model card",
        "",
        f"{verdict[0].upper()}{verdict[1:]}.",
        "",
        *_facts_table(facts),
        "",
    ]
    lines += [f"AP in percent. {INTERVALS_NOTE}", ""]
    lines += ["| metric | student | teacher |", "|---|---|---|"]
    lines += [f"| {label} | {student} | {teacher} |" for label, student, teacher in rows]
    lines += ["", "## By what the face is like", SLICES_NOTE, ""]
    lines += ["| faces | number | student | teacher | landmarks, % of the face |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in slice_rows(summary)]
    lines += ["", "## Limits", LIMITS[source], "", "## Terms", TERMS[source], ""]
    return "\n".join(lines)


SLICES_NOTE = (
    "AP in percent at an overlap of 0.5. Other faces than those of a row are ignored; false detections count "
    "in every row, so rows are for comparing networks, not for comparing faces. The last column is the mean "
    "distance of the student's five landmarks from annotated ones or, where there are none, from the "
    "teacher's, over the root of the box's area."
)
LIMITS = {
    "synthetic": (
        "Trained on drawn scenes only: it shows that the pipeline works and finds drawn faces. It has not "
        "been measured on photographs of people and must not be relied on to find them."
    ),
    "widerface": (
        "Small, blurred, occluded and profile faces are missed more often than others: see the table above. "
        "How it does across groups of people (skin, age, gender, head covering) has not been measured, and "
        "WIDER FACE, photographs from the web, is not balanced: do not assume that it works equally well for "
        "everybody, and measure it on your own people before it decides anything about them. It finds "
        "faces; it does not tell who they are."
    ),
}
TERMS = {
    "synthetic": "Data and weights were made by this project and are under its licence (Apache-2.0).",
    "widerface": (
        "Trained on WIDER FACE (S. Yang, P. Luo, C. C. Loy, X. Tang, CVPR 2016), whose terms allow research "
        "and no commercial use: the weights are for research only. The teacher's published weights are "
        "MIT (c) 2025 dohunKim."
    ),
}


def metric_rows(
    summary: Mapping[str, Mapping[str, float]], *, latency_size_px: int
) -> list[tuple[str, str, str]]:
    """Label, student's and teacher's value as text; a dash where there is none."""
    student, teacher = summary["student"], summary["teacher"]
    rows = [(label, _with_bounds(student, key), _with_bounds(teacher, key)) for key, label in AP_ROWS]
    rows += [_plain_row(*THRESHOLD_ROW, student, teacher)]
    rows += [(label, _percent(student.get(key)), _percent(teacher.get(key))) for key, label in OPERATING_ROWS]
    size = latency_size_px
    return rows + [_plain_row(key, label.format(size=size), student, teacher) for key, label in COST_ROWS]


def slice_rows(summary: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    """Of each slice: name, faces, AP of student and teacher, error of the student's landmarks; as text."""
    student, teacher = summary["student"], summary["teacher"]
    prefix = "val/faces_"
    names_of_slices = [key.removeprefix(prefix) for key in student if key.startswith(prefix)]
    rows = []
    for name in sorted(names_of_slices, key=_by_number):
        error = student.get(f"val/nme_{name}", student.get(f"val/nme_to_teacher_{name}"))
        aps = (_percent(network.get(f"val/ap_{name}")) for network in (student, teacher))
        rows.append((slice_label(name), f"{student[prefix + name]:,.0f}", *aps, _percent(error)))
    return rows


def _by_number(name: str) -> tuple[int, str]:
    """`height_16_32` before `height_128_up`, and heights first."""
    kind, first, *_ = name.split("_")
    return (int(first), "") if kind == "height" else (sys.maxsize, name)


def slice_label(name: str) -> str:
    """`height_16_32` as "height 16 to 32 px", `blur_heavy` as "blur: heavy"."""
    kind, *rest = name.split("_")
    if kind != "height":
        return f"{kind}: {' '.join(rest)}"
    low, high = rest
    return f"height from {low} px" if high == "up" else f"height {low} to {high} px"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _with_bounds(metrics: Mapping[str, float], key: str) -> str:
    """A percentage, and the ends of its interval where they are known."""
    low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
    if low is None or high is None:
        return _percent(metrics.get(key))
    return f"{_percent(metrics.get(key))} ({_percent(low)} to {_percent(high)})"


def _plain_row(
    key: str, label: str, student: Mapping[str, float], teacher: Mapping[str, float]
) -> tuple[str, str, str]:
    return label, _plain(student.get(key)), _plain(teacher.get(key))


def _plain(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _facts_table(facts: Mapping[str, str]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]


def _page(
    summary: Mapping[str, Mapping[str, float]],
    rows: Sequence[tuple[str, str, str]],
    facts: Mapping[str, str],
    verdict: str,
    workspace: Workspace,
) -> str:
    pictures = {kind: workspace.root / path for kind, path in names.EVALUATION_PICTURES.items()}
    body = (
        page.paragraph(f"{verdict[0].upper()}{verdict[1:]}.", kind="verdict"),
        page.facts(facts),
        page.paragraph(f"AP in percent. {INTERVALS_NOTE}"),
        page.table(rows, header=["metric", "student", "teacher"]),
        "<h2>By what the face is like</h2>",
        page.paragraph(SLICES_NOTE),
        page.table(slice_rows(summary), header=["faces", "number", "student", "teacher", "landmarks"]),
        page.evidence(workspace.read_json(names.EVALUATION_ANALYSIS), pictures),
        page.picture("The data set", workspace.root / names.VALIDATION_PLOT),
    )
    return page.document("FeatherFace report", "".join(body))
