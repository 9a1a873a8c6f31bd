"""Error types and what they cost, worked out by hand on two or three faces."""

from __future__ import annotations

import numpy as np
import pytest

from featherface.errors import DataError
from featherface.evaluation.error_types import (
    BACKGROUND,
    DUPLICATE,
    ERROR_TYPES,
    LOCALIZATION,
    MISSED,
    classify,
    gather,
    lost_precision,
    mended_precision,
)
from featherface.evaluation.widerface import SETTINGS, WiderGroundTruth

NAME = "0--A/a"
# Two faces of 20 x 20 that count, and one at the right that does not.
FACES = ([0.0, 0, 20, 20], [100, 0, 20, 20], [200, 0, 20, 20])
HIT, SECOND_HIT, ASTRAY = [0.0, 0, 20, 20], [0.0, 1, 20, 20], [400.0, 400, 20, 20]
# Moved by 12 px it overlaps 9 x 21 of 441 + 441 - 189 pixels, as the benchmark counts them: 0.27.
HALF_ON_SECOND, ON_IGNORED = [112.0, 0, 20, 20], [200.0, 0, 20, 20]


def truth(faces: tuple[list[float], ...] = FACES, counted: tuple[bool, ...] = (True, True, False)):
    return WiderGroundTruth(
        names=(NAME,),
        boxes_xywh=np.array(faces, float).reshape(-1, 4),
        offsets=np.array([0, len(faces)]),
        is_counted=dict.fromkeys(SETTINGS, np.array(counted, bool)),
        total_images=1,
    )


def evidence(*detections: tuple[list[float], float], ground_truth: WiderGroundTruth | None = None):
    rows = np.array([[*box, score] for box, score in detections], float).reshape(-1, 5)
    return gather({NAME: rows}, ground_truth or truth(), "hard")


def test_every_kind_of_detection_is_told_apart() -> None:
    verdicts = classify(
        evidence(
            (HIT, 0.9), (SECOND_HIT, 0.8), (HALF_ON_SECOND, 0.7), (ASTRAY, 0.6), (ON_IGNORED, 0.5), (HIT, 0.1)
        ),
        score_threshold=0.5,
    )
    assert verdicts.is_right.tolist() == [True, False, False, False, False, False]
    assert verdicts.is_duplicate.tolist() == [False, True, False, False, False, False]
    assert verdicts.is_misplaced.tolist() == [False, False, True, False, False, False]
    assert verdicts.is_background.tolist() == [False, False, False, True, False, False]
    assert verdicts.is_left_out.tolist() == [False, False, False, False, True, True]
    assert verdicts.is_missed.tolist() == [False, True, False]
    assert verdicts.has_misplaced_box.tolist() == [False, True, False]
    assert verdicts.counts() == {MISSED: 1, LOCALIZATION: 1, DUPLICATE: 1, BACKGROUND: 1}


def test_of_equal_detections_exactly_one_is_right() -> None:
    verdicts = classify(evidence((HIT, 0.5), (SECOND_HIT, 0.5), (HIT, 0.5)))
    assert verdicts.is_right.tolist() == [True, False, False]
    assert verdicts.counts()[DUPLICATE] == 2


def test_missed_face_costs_what_no_box_can_bring_back() -> None:
    # One of two faces at precision 1: AP 1/2; if the other is not asked for, 1.
    costs = lost_precision(evidence((HIT, 0.9), (HIT, 0.1)))
    assert costs[MISSED] == pytest.approx(0.5)
    # The duplicate comes after the last rise of recall, where it costs nothing.
    assert costs[DUPLICATE] == 0
    assert costs[LOCALIZATION] == costs[BACKGROUND] == 0


def test_imagined_face_before_the_real_one_costs_half() -> None:
    one_face = truth(FACES[:1], (True,))
    costs = lost_precision(evidence((ASTRAY, 0.9), (HIT, 0.5), ground_truth=one_face))
    assert costs == pytest.approx({MISSED: 0.0, LOCALIZATION: 0.0, DUPLICATE: 0.0, BACKGROUND: 0.5})


def test_duplicate_before_the_next_face_costs_its_precision() -> None:
    costs = lost_precision(evidence((HIT, 0.9), (SECOND_HIT, 0.8), (FACES[1], 0.1)))
    # Recall 1/2 at precision 1, then 1 at 2/3: AP 5/6.
    assert costs == pytest.approx({MISSED: 0.0, LOCALIZATION: 0.0, DUPLICATE: 1 / 6, BACKGROUND: 0.0})


def test_misplaced_box_is_moved_onto_its_face_and_its_face_is_not_missed_besides() -> None:
    costs = lost_precision(evidence((HIT, 0.9), (HALF_ON_SECOND, 0.1)))
    assert costs == pytest.approx({MISSED: 0.0, LOCALIZATION: 0.5, DUPLICATE: 0.0, BACKGROUND: 0.0})


def test_of_a_right_and_a_misplaced_box_on_one_face_the_surest_stays() -> None:
    both = evidence((HALF_ON_SECOND, 0.9), (FACES[1], 0.8), (HIT, 0.1))
    # The box at 0.8 goes: left there, it would be wrong before the face at 0.1.
    assert mended_precision(both, classify(both), (LOCALIZATION,)) == 1.0


def test_misplaced_box_on_a_face_that_does_not_count_is_removed_with_its_kind() -> None:
    near_ignored = evidence(([212.0, 0, 20, 20], 0.9), (HIT, 0.8), (FACES[1], 0.1))
    verdicts = classify(near_ignored)
    assert verdicts.counts()[LOCALIZATION] == 1
    assert not verdicts.has_misplaced_box.any()
    assert mended_precision(near_ignored, verdicts, (LOCALIZATION,)) == 1.0


def test_misplaced_box_on_the_very_first_face_is_no_imagined_one() -> None:
    assert classify(evidence(([12.0, 0, 20, 20], 0.9))).is_misplaced.tolist() == [True]


@pytest.mark.parametrize(
    "detections", [(), ((ASTRAY, 0.5),), ((HALF_ON_SECOND, 0.5), (ASTRAY, 0.6)), ((HIT, 1.0), (HIT, 1.0))]
)
def test_with_all_errors_mended_ap_is_1(detections: tuple[tuple[list[float], float], ...]) -> None:
    found = evidence(*detections)
    assert mended_precision(found, classify(found), ERROR_TYPES) == 1.0


def test_without_faces_or_detections_there_is_nothing_to_lose() -> None:
    nothing = dict.fromkeys(ERROR_TYPES, 0.0)
    assert lost_precision(evidence(ground_truth=truth((), ()))) == nothing
    # An image without any annotated face is skipped, its detections too.
    alone = evidence((ASTRAY, 0.9), ground_truth=truth((), ()))
    assert lost_precision(alone) == nothing
    assert classify(alone).is_left_out.all()
    assert lost_precision(evidence()) == nothing | {MISSED: 1.0}
    none_counts = evidence((ASTRAY, 0.9), ground_truth=truth(counted=(False, False, False)))
    assert lost_precision(none_counts) == nothing
    assert classify(none_counts).counts() == {MISSED: 0, LOCALIZATION: 0, DUPLICATE: 0, BACKGROUND: 1}


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="detection 1 is not finite"):
        evidence((HIT, np.nan))
