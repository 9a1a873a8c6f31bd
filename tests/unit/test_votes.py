"""Votes for a face, against values worked out by hand."""

import numpy as np
import pytest

from featherface.inference.votes import VOTE_RULE, count_votes, least_likely, voted_scores

FACE = (0.0, 0.0, 100.0, 100.0)
ELSEWHERE = (60.0, 0.0, 160.0, 100.0)


def votes_of(boxes: list[tuple[float, ...]], scores: list[float]) -> float:
    """For the first box."""
    boxes_xyxy, sure = np.array(boxes, dtype=np.float32), np.array(scores, dtype=np.float32)
    return float(count_votes(boxes_xyxy, sure, np.array([0]))[0])


def test_a_face_alone_has_its_own_vote() -> None:
    assert votes_of([FACE], [0.8]) == 1
    assert votes_of([(5, 5, 5, 9)], [0.8]) == 1  # without area it does not even overlap itself


@pytest.mark.parametrize(
    ("voter", "score", "vote"),
    [
        (FACE, 0.8, 1),
        (FACE, 0.5, 0.5),  # halfway between a quarter of 0.8 and all of it
        (FACE, 0.2, 0),
        (FACE, 0.9, 1),
        ((0, 0, 100, 95), 0.8, 1),  # overlaps by 0.95
        ((0, 0, 100, 70), 0.8, 0.5),  # by 0.7: halfway between 0.5 and 0.9
        ((0, 0, 100, 50), 0.8, 0),
        (ELSEWHERE, 0.8, 0),
    ],
)
def test_a_vote_is_worth_what_place_and_score_have_in_common(
    voter: tuple[float, ...], score: float, vote: float
) -> None:
    assert votes_of([FACE, voter], [0.8, score]) == pytest.approx(1 + vote, abs=1e-5)


def test_who_is_all_but_sure_that_there_is_none_has_no_vote() -> None:
    assert votes_of([FACE, FACE], [0.021, 0.02]) == pytest.approx(1, abs=1e-5)
    assert votes_of([FACE, FACE], [0.021, 0.021]) == pytest.approx(2, abs=1e-5)
    assert votes_of([FACE] * 3, [0.01, 0.5, 0.5]) == pytest.approx(2, abs=1e-5)


def test_usual_votes_leave_a_face_of_usual_height_as_it_is() -> None:
    scores = np.array([0.0, 0.3, 1.0], dtype=np.float32)
    usual = np.full(3, VOTE_RULE.usual_votes, dtype=np.float32)
    heights_px = np.full(3, VOTE_RULE.usual_height_px, dtype=np.float32)
    np.testing.assert_allclose(voted_scores(scores, usual, heights_px), scores, atol=1e-6)
    assert voted_scores(scores, 2 * usual, heights_px)[1] > 0.3
    assert voted_scores(scores, usual, 2 * heights_px)[1] < 0.3


def test_votes_lift_no_face_above_a_threshold_that_is_less_than_likely() -> None:
    for threshold in (0.02, 0.5, 0.9):
        least = np.array([least_likely(threshold)], dtype=np.float32)
        lifted = voted_scores(least, np.array([1e6], dtype=np.float32), np.array([1.0], dtype=np.float32))
        assert lifted[0] == pytest.approx(threshold, rel=1e-5)
        assert lifted / (1 - lifted) == pytest.approx(3 * least / (1 - least), rel=1e-4)
    assert least_likely(0.0) == 0
    assert least_likely(1.0) == 1
