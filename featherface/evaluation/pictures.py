"""All pictures of an evaluation: the plots, and the sheets of faults and of the worst images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from featherface.data.widerface import Sample
from featherface.evaluation.analysis import Analysis
from featherface.evaluation.analysis_plots import (
    plot_calibration,
    plot_error_types,
    plot_operating_points,
    plot_slices,
)
from featherface.evaluation.faults import Judged, surest_false, worst_misses
from featherface.evaluation.ground_truth import WiderGroundTruth, image_key
from featherface.evaluation.plots import describe_images, plot_precision_recall
from featherface.evaluation.report import EvaluationReport
from featherface.evaluation.run import ignored_faces
from featherface.evaluation.sheets import SheetItem, draw_sheet, worst_first
from featherface.evaluation.widerface import WiderResult
from featherface.imaging import read_image, write_image

SHEET_IMAGES = 16
CUTOUT_COLUMNS = 6
CUTOUT_WH_PX = (240, 240)


def draw_pictures(
    paths: Mapping[str, Path],
    reports: Mapping[str, EvaluationReport],
    analyses: Mapping[str, Analysis],
    *,
    ground_truth: WiderGroundTruth,
    samples: Sequence[Sample],
) -> None:
    """Draw every picture that `page.evidence` shows; sheets are of the first detector.

    Args:
        paths: where they go, by kind: all of `page.PICTURES`.
        reports: by the name to show, at least one, all on the same images and by the official protocol.
        analyses: of the same detectors.
        ground_truth: by which they were judged.
        samples: the photographs.

    Raises:
        DataError: a picture cannot be written.
        ImageDecodeError: a photograph is broken.
    """
    first = next(iter(reports))
    report, analysis = reports[first], analyses[first]
    results: dict[str, WiderResult] = {
        who: each.wider for who, each in reports.items() if each.wider is not None
    }
    title = f"{describe_images(results[first])}, {report.views}"
    plot_precision_recall(results, paths["precision_recall"], title=title)
    plot_slices(
        {who: each.slices for who, each in reports.items()}, paths["slices"], testing=str(report.views)
    )
    plot_error_types(analyses, paths["errors"])
    plot_operating_points(analyses, paths["operating_points"])
    plot_calibration(analyses, paths["calibration"])
    judged = Judged(analysis, report.predictions, ground_truth, samples)
    for kind, cutouts in (("misses", worst_misses(judged)), ("false_detections", surest_false(judged))):
        sheet = draw_sheet(
            cutouts,
            columns=CUTOUT_COLUMNS,
            tile_wh_px=CUTOUT_WH_PX,
            score_threshold=analysis.threshold,
        )
        write_image(paths[kind], sheet)
    write_image(paths["sheet"], draw_sheet(_worst_images(report, samples)))


def _worst_images(report: EvaluationReport, samples: Sequence[Sample]) -> list[SheetItem]:
    items = [
        SheetItem(
            name=sample.annotation.image,
            load=partial(read_image, sample.path),
            gt_boxes_xywh=sample.annotation.boxes_xywh,
            rows=report.predictions[image_key(sample.annotation.image)],
            is_ignored=ignored_faces(sample),
        )
        for sample in samples
    ]
    return worst_first(items)[:SHEET_IMAGES]
