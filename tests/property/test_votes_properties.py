"""Votes against a plain reference, and what holds for faces whatever the network says."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_postprocess_properties import crowds

from featherface.inference.overlap import box_iou
from featherface.inference.postprocess import non_maximum_suppression, postprocess
from featherface.inference.votes import VOTE_RULE, count_votes
from featherface.models.priors import make_priors
from featherface.structures import Detections

SETTINGS = settings(max_examples=40, deadline=None)
PRIORS = make_priors((96, 128))


def faces(seed: int, score_threshold: float, max_faces: int = 5000) -> Detections:
    """Of outputs in which neighbors often agree."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, (len(PRIORS), 2)).astype(np.float32)
    deltas = rng.normal(0, 1, (len(PRIORS), 14)).astype(np.float32)
    return postprocess(
        logits,
        deltas[:, :4],
        deltas[:, 4:],
        PRIORS,
        score_threshold=score_threshold,
        iou_threshold=0.4,
        max_faces=max_faces,
    )


@SETTINGS
@given(crowds())
def test_votes_equal_the_definition(crowd: tuple[np.ndarray, np.ndarray]) -> None:
    boxes_xyxy, scores = crowd
    kept = non_maximum_suppression(boxes_xyxy, scores, iou_threshold=0.4)
    expected = []
    for own in kept:
        votes = 0.0
        least = max(VOTE_RULE.least_share * scores[own], VOTE_RULE.least_voter_score)
        for overlap, score in zip(box_iou(boxes_xyxy[[own]], boxes_xyxy)[0], scores, strict=True):
            place = np.interp(overlap, (VOTE_RULE.least_overlap, VOTE_RULE.whole_overlap), (0, 1))
            if score > least:
                votes += place * (1 if score >= scores[own] else (score - least) / (scores[own] - least))
        expected.append(max(votes, 1))
    np.testing.assert_allclose(count_votes(boxes_xyxy, scores, kept), expected, rtol=1e-4, atol=1e-4)


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.sampled_from((0.05, 0.1, 0.3, 0.5, 0.8)), st.sampled_from((0.02, 0.05)))
def test_a_face_has_one_score_whatever_the_threshold(seed: int, high: float, low: float) -> None:
    few, many = faces(seed, high), faces(seed, low)
    is_above = many.scores > high
    np.testing.assert_array_equal(few.boxes_xyxy, many.boxes_xyxy[is_above])
    np.testing.assert_allclose(few.scores, many.scores[is_above], rtol=1e-6)


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_fewer_faces_are_the_first_of_many(seed: int, max_faces: int) -> None:
    few, many = faces(seed, 0.1, max_faces), faces(seed, 0.1)
    assert (np.diff(many.scores) <= 0).all()
    np.testing.assert_array_equal(few.boxes_xyxy, many.boxes_xyxy[:max_faces])
