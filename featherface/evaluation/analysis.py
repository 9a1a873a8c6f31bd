"""What a reviewer asks beyond AP, from predictions saved once: error types, operating points, calibration.

All of it is about the faces of one setting of the official protocol, `hard`: every face of 10 px and more
that is not flagged invalid. The narrower settings would leave out, as neither right nor wrong, what a
detector finds of the small faces. Images without any face are skipped, as the protocol skips them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featherface.evaluation.calibration import Reliability, reliability
from featherface.evaluation.error_types import ERROR_TYPES, Evidence, classify, gather, lost_precision
from featherface.evaluation.operating import OperatingPoint, best_f1, few_false, operating_points
from featherface.evaluation.views import SINGLE_SCALE

if TYPE_CHECKING:
    import numpy.typing as npt

    from featherface.evaluation.ground_truth import WiderGroundTruth

SETTING = "hard"
# Of the operating points that are written down: steps of 0.01 for probabilities.
_EVERY_NTH_POINT = 10


@dataclass(frozen=True, eq=False)
class Analysis:
    """What one detector does right and wrong."""

    evidence: Evidence
    testing: str
    """How often the detector looked at an image."""
    num_faces: int
    num_images: int
    """With at least one annotated face."""
    points: tuple[OperatingPoint, ...]
    """By rising threshold."""
    recommended: OperatingPoint | None
    """The highest F1; None if no face is found at all."""
    few_false: OperatingPoint | None
    """At most 0.1 false detections an image; None if that leaves nothing found."""
    error_counts: Mapping[str, int]
    """By type, of the detections from the recommended threshold on; without one, of all."""
    lost_precision: Mapping[str, float]
    """By type, the average precision that its errors cost, in [0, 1]."""
    reliability: Reliability | None
    """None where scores are not in [0, 1]: they are no probabilities then."""
    shown_calibration_error: float | None
    """Calibration error of the detections from the recommended threshold on."""

    @property
    def threshold(self) -> float:
        """The recommended threshold; minus infinity where there is none."""
        return -np.inf if self.recommended is None else self.recommended.threshold

    def metrics(self, split: str = "val") -> dict[str, float]:
        """Flat metrics for a tracker; what is not known is left out."""
        values: dict[str, float | None] = {
            f"lost_precision_{name}": value for name, value in self.lost_precision.items()
        }
        if self.recommended is not None:
            values |= {f"recommended_{name}": value for name, value in self.recommended.to_dict().items()}
        if self.few_false is not None:
            values |= {f"few_false_{name}": value for name, value in self.few_false.to_dict().items()}
        if self.reliability is not None:
            values["calibration_error"] = self.reliability.expected_error
        values["calibration_error_shown"] = self.shown_calibration_error
        return {f"{split}/{name}": value for name, value in values.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON."""
        return {
            "testing": self.testing,
            "setting": SETTING,
            "faces": self.num_faces,
            "images": self.num_images,
            "recommended": _point(self.recommended),
            "few_false": _point(self.few_false),
            "errors": {
                name: {"count": self.error_counts[name], "lost_precision": self.lost_precision[name]}
                for name in ERROR_TYPES
            },
            "operating_points": [point.to_dict() for point in self.points[::_EVERY_NTH_POINT]],
            "calibration": self.reliability
            and {
                "expected_error": self.reliability.expected_error,
                "expected_error_shown": self.shown_calibration_error,
                "bins": [each.to_dict() for each in self.reliability.bins],
            },
        }


def analyze(
    predictions: Mapping[str, npt.NDArray[np.floating]],
    ground_truth: WiderGroundTruth,
    *,
    testing: str = str(SINGLE_SCALE),
) -> Analysis:
    """Find out what a detector does right and wrong.

    Args:
        predictions: as of `widerface.average_precision`.
        ground_truth: see there.
        testing: how often the detector looked at an image, for all that shows the numbers.

    Raises:
        DataError: predictions of another shape or not finite, or of no image of the ground truth.
    """
    evidence = gather(predictions, ground_truth, SETTING)
    verdicts = classify(evidence)
    scores, is_right = evidence.hits.given_scores[verdicts.is_judged], verdicts.is_right[verdicts.is_judged]
    num_faces = int(np.count_nonzero(evidence.is_counted))
    num_images = int(np.count_nonzero(np.diff(ground_truth.offsets)))
    points = operating_points(scores, is_right, num_faces=num_faces, num_images=num_images)
    recommended = best_f1(points)
    threshold = -np.inf if recommended is None else recommended.threshold
    is_probability = bool(((scores >= 0) & (scores <= 1)).all())
    is_shown = scores >= threshold
    return Analysis(
        evidence=evidence,
        testing=testing,
        num_faces=num_faces,
        num_images=num_images,
        points=points,
        recommended=recommended,
        few_false=few_false(points),
        error_counts=classify(evidence, threshold).counts(),
        lost_precision=lost_precision(evidence),
        reliability=reliability(scores, is_right) if is_probability else None,
        shown_calibration_error=(
            reliability(scores[is_shown], is_right[is_shown]).expected_error if is_probability else None
        ),
    )


def _point(point: OperatingPoint | None) -> dict[str, float] | None:
    return None if point is None else point.to_dict()
