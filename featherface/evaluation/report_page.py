"""The report of one evaluation as a page of its own, for any model: `featherface evaluate --report`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from featherface.data.widerface import GROUND_TRUTH_DIR, open_widerface
from featherface.errors import DataError
from featherface.evaluation import page
from featherface.evaluation.analysis import analyze
from featherface.evaluation.bootstrap import ap_intervals
from featherface.evaluation.pictures import draw_pictures
from featherface.evaluation.report import EvaluationReport
from featherface.evaluation.widerface import load_ground_truth, restrict
from featherface.files import write_atomically


def check_reportable(root: Path, split: str) -> None:
    """Refuse at once, before a long run, what `write_page` could not show.

    Args:
        root: a data set in WIDER FACE layout.
        split: the one that is judged.

    Raises:
        DataError: the split has no official ground truth there.
    """
    if split != "val" or not (root / GROUND_TRUTH_DIR).is_dir():
        raise DataError(
            f"{root}: a report needs the split 'val' and the folder {GROUND_TRUTH_DIR} with the easy, medium "
            "and hard lists"
        )


def write_page(path: Path, report: EvaluationReport, root: Path, *, model: str) -> None:
    """Write a self-contained HTML page of one evaluation.

    Args:
        path: the file to write.
        report: of the validation split.
        root: the data set that was judged.
        model: what the detector is called.

    Raises:
        DataError: the data set cannot be used.
        ModelError: the file cannot be written.
    """
    samples = open_widerface(root, "val", missing="skip")
    ground_truth = restrict(load_ground_truth(root / GROUND_TRUTH_DIR), list(report.predictions))
    analyses = {"detector": analyze(report.predictions, ground_truth, testing=str(report.views))}
    facts = {
        "model": model,
        "evaluated on": f"{report.images} validation images of {root}",
        "testing": str(report.views),
    }
    intervals = ap_intervals(report.predictions, ground_truth)
    aps = [[f"{setting} AP", str(interval)] for setting, interval in intervals.items()]
    aps += [[f"COCO {name.replace('_', ' ')}", f"{100 * value:.2f}"] for name, value in report.coco.items()]
    with TemporaryDirectory() as folder:
        pictures = {kind: Path(folder) / f"{kind}.{suffix}" for kind, suffix in page.PICTURES.items()}
        draw_pictures(pictures, {"detector": report}, analyses, ground_truth=ground_truth, samples=samples)
        body = (
            page.facts(facts)
            + page.paragraph(page.INTERVALS_NOTE)
            + page.table(aps, header=["metric", "percent"])
            + page.evidence({who: each.to_dict() for who, each in analyses.items()}, pictures)
        )
    write_atomically(path, page.document("FeatherFace evaluation", body).encode())
