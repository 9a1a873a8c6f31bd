"""What one evaluation found: as metrics, as JSON, as a table for people. Nothing here computes or reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featherface.evaluation.slices import Slice
from featherface.evaluation.views import SINGLE_SCALE, Views
from featherface.evaluation.widerface import SETTINGS, WiderResult

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_COCO_COLUMNS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar")


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """Accuracy of one detector on one split, by both protocols."""

    wider: WiderResult | None
    """None where there is no official ground truth, as for the training split."""
    coco: Mapping[str, float]
    """Values of `coco.FaceAveragePrecision` in [0, 1]; those without any face to find are left out.

    Empty if they were not asked for."""
    images: int
    faces: int
    """Annotated faces that are to be found; ignored ones are not counted."""
    detections: int
    detect_ms_p50: float
    """Median time of one call of the detector, without reading the image; 0 without images."""
    predictions: Mapping[str, npt.NDArray[np.float64]] = field(repr=False)
    """For each image `<event>/<image>` the rows that were judged: (N, 5) x, y, width, height, score."""
    landmarks: Mapping[str, npt.NDArray[np.float64]] = field(repr=False)
    """The (N, 5, 2) landmarks of these rows, in pixels."""
    slices: tuple[Slice, ...] = ()
    """By height and by attribute."""
    views: Views = SINGLE_SCALE
    """How often the detector looked at an image; named in all that is written of it."""

    def metrics(self, split: str = "val") -> dict[str, float]:
        """Flat metrics for a tracker: `val/ap_easy`, ..., `val/ap_mean`, `val/coco_ap`, ..., `val/images`.

        The time is not among them: it belongs to a benchmark on a quiet machine. What was not found at single
        scale has names of its own, such as `val-flip-scales-0.5-1-2/ap_easy`: nobody can mix them up.
        """
        values: dict[str, float] = {}
        if self.wider is not None:
            values |= {
                f"ap_{setting}": float(getattr(self.wider, setting)) for setting in (*SETTINGS, "mean")
            }
        values |= {f"coco_{name}": value for name, value in self.coco.items()}
        for each in self.slices:
            values |= {f"ap_{each.name}": each.average_precision, f"faces_{each.name}": float(each.faces)}
        values |= {
            "images": float(self.images),
            "faces": float(self.faces),
            "detections": float(self.detections),
        }
        prefix = split if self.views.is_plain else f"{split}-{self.views.slug}"
        return {f"{prefix}/{name}": value for name, value in values.items()}

    def to_dict(self) -> dict[str, object]:
        """One JSON object: `easy` to `hard`, `mean` (null if not official), `testing`, `images`, `coco_*`."""
        wider = self.wider.to_dict() if self.wider is not None else dict.fromkeys((*SETTINGS, "mean"))
        return {
            **wider,
            "testing": str(self.views),
            "images": self.images,
            "faces": self.faces,
            "detections": self.detections,
            **{f"coco_{name}": value for name, value in self.coco.items()},
            "detect_ms_p50": self.detect_ms_p50,
        }

    def table(self) -> str:
        """Both protocols in percent, for a terminal."""
        lines = [f"testing: {self.views}"]
        lines += ["", wider_table(self.wider)] if self.wider is not None else []
        known = [name for name in _COCO_COLUMNS if name in self.coco]
        if known:
            lines += [
                "",
                *_rows("COCO", [name.replace("_", " ") for name in known], [self.coco[n] for n in known]),
            ]
        lines += [
            "",
            f"{self.faces:,} faces to find, {self.detections:,} detections in {self.images:,} images",
        ]
        return "\n".join(lines)


def wider_table(result: WiderResult) -> str:
    """Easy, medium, hard and mean AP in percent, the faces of each setting, how many images, and warnings."""
    lines = _rows("WIDER FACE", [*SETTINGS, "mean"], [*(getattr(result, s) for s in SETTINGS), result.mean])
    lines.append("faces".ljust(12) + "".join(f"{result.curves[s].num_faces:>11,}" for s in SETTINGS))
    of_all = f" of {result.total_images:,}" if result.images < result.total_images else ""
    lines.append(f"on {result.images:,}{of_all} validation images")
    lines += [f"note: {warning}" for warning in result.warnings]
    return "\n".join(lines)


def _rows(title: str, names: list[str], values: list[float]) -> list[str]:
    return [
        title.ljust(12) + "".join(f"{name:>11}" for name in names),
        "percent".ljust(12) + "".join(f"{100 * value:>11.2f}" for value in values),
    ]
