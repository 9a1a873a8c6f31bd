"""A self-contained page: tables, pictures inlined, and the sections that show an analysis. HTML in, text out.

Nothing here computes: analyses come as `analysis.Analysis.to_dict` gives them, pictures as files.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

PICTURES: Mapping[str, str] = {
    "precision_recall": "png",
    "slices": "png",
    "errors": "png",
    "operating_points": "png",
    "calibration": "png",
    "misses": "jpg",
    "false_detections": "jpg",
    "sheet": "jpg",
}
"""Kinds of pictures that `evidence` shows, and their formats."""
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-weight: 600; }
.verdict { background: #eef4fb; border-left: 4px solid #2b6cb0; padding: .75rem 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid #e3e8ee; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; border: 1px solid #e3e8ee; }
"""
INTERVALS_NOTE = (
    "In brackets 95 % intervals over the images (1,000 draws): where the number would lie with other images "
    "of the same kind. They do not cover another training."
)
_ERROR_LABELS = {
    "missed": "missed: a face that no detection overlaps by 0.5",
    "localization": "misplaced: a detection that overlaps its face by 0.1 to 0.5",
    "duplicate": "found twice: the face has a surer detection",
    "background": "imagined: no face is there, or none is annotated",
}
_ERRORS_NOTE = (
    "Numbers are those at the recommended threshold; costs are what AP gains if all errors of a type, at any "
    "threshold, are mended and nothing else is (after TIDE, arXiv:2008.08115): they do not add up. Faces "
    "that the setting leaves out are neither right nor wrong, and so are detections of them."
)
_OPERATING_NOTE = (
    "What is found and imagined if detections are shown from a score on, in images that have faces. "
    "Thresholds were chosen on these images: on others F1 will be a little lower."
)
_CALIBRATION_NOTE = (
    "Of the detections of a score, how many are right? The expected calibration error (arXiv:1706.04599) is "
    "the mean distance of the two, weighted by detections. Most detections have scores near 0, so it is "
    "given for those that are shown, from the recommended threshold on, too."
)
_EVERY_NTH_POINT = 10


def document(title: str, body: str) -> str:
    """A whole page.

    Args:
        title: as plain text.
        body: HTML below the heading.
    """
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>\n"
    )


def facts(values: Mapping[str, str]) -> str:
    """A table of names and what they stand for, in words."""
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in values.items())
    return f"<table>{''.join(rows)}</table>"


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = ()) -> str:
    """A table of plain texts; the first column holds words, the others numbers.

    Args:
        rows: from top to bottom.
        header: of the columns; none: no line above.
    """
    lines = [_row(header, "th")] if header else []
    return f"<table>{''.join([*lines, *(_row(row, 'td') for row in rows)])}</table>"


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of plain text.

    Args:
        text: without markup.
        kind: a class of the style sheet, such as `verdict`.
    """
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def picture(title: str, path: Path) -> str:
    """A picture with its heading, inside the page.

    Args:
        title: as plain text.
        path: a .png or .jpg file.
    """
    return f"<h2>{escape(title)}</h2>{_image(title, path)}"


def evidence(analyses: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, Path]) -> str:
    """All sections that show what detectors do right and wrong.

    Args:
        analyses: by the name to show, as `Analysis.to_dict` gives them; the first one is shown in detail.
        pictures: files by kind, all of `PICTURES`.
    """
    first = next(iter(analyses.values()))
    threshold = "any score" if first["recommended"] is None else f"{first['recommended']['threshold']:.3f}"
    return "".join(
        (
            picture("Precision and recall", pictures["precision_recall"]),
            picture("AP by what the face is like", pictures["slices"]),
            _errors(analyses, pictures["errors"]),
            _operating_points(analyses, pictures["operating_points"]),
            _calibration(analyses, pictures["calibration"]),
            picture(
                f"The largest faces that were missed, at the recommended threshold {threshold}",
                pictures["misses"],
            ),
            picture("The surest detections where no face is annotated", pictures["false_detections"]),
            picture("Detections beside ground truth, worst images first", pictures["sheet"]),
        )
    )


def _errors(analyses: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    header = ["error", *(f"{who}: {what}" for who in analyses for what in ("number", "costs, points"))]
    rows = []
    for kind, label in _ERROR_LABELS.items():
        errors = [each["errors"][kind] for each in analyses.values()]
        cells = [(f"{each['count']:,}", f"{100 * each['lost_precision']:.2f}") for each in errors]
        rows.append([label, *(cell for pair in cells for cell in pair)])
    return f"<h2>Error types{_about(analyses)}</h2>{paragraph(_ERRORS_NOTE)}" + (
        table(rows, header=header) + _image("Error types", path)
    )


def _operating_points(analyses: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    header = ["", "threshold", "precision", "recall", "F1", "false per image"]
    rows = []
    for who, each in analyses.items():
        rows += [
            _point_row(f"{who}: best F1, recommended", each["recommended"]),
            _point_row(f"{who}: at most 0.1 false per image", each["few_false"]),
        ]
    who, first = next(iter(analyses.items()))
    rows += [_point_row(who, point) for point in first["operating_points"][::_EVERY_NTH_POINT]]
    return f"<h2>Operating points{_about(analyses)}</h2>{paragraph(_OPERATING_NOTE)}" + (
        table(rows, header=header) + _image("Operating points", path)
    )


def _calibration(analyses: Mapping[str, Mapping[str, Any]], path: Path) -> str:
    sections = [f"<h2>Calibration of the scores{_about(analyses)}</h2>", paragraph(_CALIBRATION_NOTE)]
    known = {who: each["calibration"] for who, each in analyses.items() if each["calibration"] is not None}
    sections += [
        paragraph(f"{who}: its scores are not in [0, 1], so they are no probabilities.")
        for who in analyses
        if who not in known
    ]
    if known:
        errors = [
            [who, _percent(each["expected_error"]), _percent(each["expected_error_shown"])]
            for who, each in known.items()
        ]
        sections.append(table(errors, header=["calibration error, %", "all", "shown"]))
        who, first = next(iter(known.items()))
        bins = [
            [
                f"{each['low']:.1f} to {each['high']:.1f}",
                f"{each['detections']:,}",
                _percent(each["mean_score"]),
                _percent(each["share_right"]),
            ]
            for each in first["bins"]
        ]
        sections.append(table(bins, header=[f"{who}: score", "detections", "mean score, %", "right, %"]))
    return "".join([*sections, _image("Calibration", path)])


def _about(analyses: Mapping[str, Mapping[str, Any]]) -> str:
    first = next(iter(analyses.values()))
    testing = ", ".join(sorted({each["testing"] for each in analyses.values()}))
    return escape(f": {first['faces']:,} faces of {first['setting']}, {testing}")


def _point_row(label: str, point: Mapping[str, float] | None) -> list[str]:
    if point is None:
        return [label, *["-"] * 5]
    shares = (_percent(point[name]) for name in ("precision", "recall", "f1"))
    return [label, f"{point['threshold']:.3f}", *shares, f"{point['false_per_image']:.2f}"]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _row(cells: Sequence[str], tag: str) -> str:
    first, *others = (escape(cell) for cell in cells)
    return f"<tr><{tag}>{first}</{tag}>{''.join(f'<{tag} class=n>{each}</{tag}>' for each in others)}</tr>"


def _image(title: str, path: Path) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{escape(title)}' src='data:image/{kind};base64,{data}'>"
