"""Stage `validate`: nothing is trained on a data set with holes."""

from __future__ import annotations

from pathlib import Path

from featherface.config import DataConfig
from featherface.data.validation import ValidationReport, validate_dataset
from featherface.data.validation_plot import plot_validation
from featherface.data.widerface import GROUND_TRUTH_DIR, annotation_path, read_annotations, refuse_lacking
from featherface.errors import DataError
from featherface.evaluation.ground_truth import load_ground_truth, restrict
from featherface.stages import names
from featherface.stages.base import StageResult, Workspace


def run(data: DataConfig, *, workspace: Workspace) -> StageResult:
    """Check every image and annotation; writes a JSON report and a plot.

    Raises:
        DataError: images are missing, unreadable or in both splits, a split or the official ground truth is
            missing, or is of other images; odd boxes are reported, not refused.
    """
    root = workspace.root / data.root
    _refuse_unjudgeable(root)
    report = validate_dataset(root)
    content = report.to_dict()
    # Where the folder lies is no property of the data: equal data, equal report.
    del content["root"]
    workspace.write_json(names.VALIDATION_REPORT, content)
    plot_validation(report, workspace.path(names.VALIDATION_PLOT))
    refuse_unusable(report)
    metrics = {
        f"data/{name}_{what}": float(value)
        for name, split in report.splits.items()
        for what, value in (("images", split.num_images), ("faces", split.num_faces))
    }
    counts = ", ".join(
        f"{name} {split.num_images:,} images, {split.num_faces:,} faces"
        for name, split in report.splits.items()
    )
    return StageResult(metrics=metrics, summary=counts)


def _refuse_unjudgeable(root: Path) -> None:
    """See before hours of training that the student can be judged after them."""
    refuse_lacking(root, lambda part: (root / part).exists())
    annotated = [annotation.image for annotation in read_annotations(annotation_path(root, "val"))]
    ground_truth = load_ground_truth(root / GROUND_TRUTH_DIR)
    if annotated:  # else `refuse_unusable` says so
        restrict(ground_truth, annotated)


def refuse_unusable(report: ValidationReport) -> None:
    """Turn a report with missing, unreadable or leaked images, or none at all, into one line.

    Raises:
        DataError: there are some.
    """
    if report.is_usable:
        return
    problems = [f"{' = '.join(group)} (in two splits)" for group in report.leaks]
    for name, split in report.splits.items():
        problems += [] if split.num_images else [f"the annotations of {name} name no photograph"]
        problems += [f"{name}/{image} (missing)" for image in split.missing]
        problems += [f"{name}: {reason}" for _, reason in split.unreadable]
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    raise DataError(
        f"{report.root}: cannot be trained on: {problems[0]}{more}; mend or remove these images and their "
        "annotations (`featherface data validate` lists them)"
    )
