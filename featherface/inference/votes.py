"""How many priors agree on a face, and what that makes of its score; numpy only.

A face is seen by all priors around it, and suppression keeps the surest of their boxes. How many of the
others lie where it lies tells faces from what only looks like one, and boxes that fit from boxes that do not:
docs/experiments.md, 29 November 2026, says what that is worth. Large faces have more priors than small ones,
so of two with as many votes the smaller one is surer.

Dimensions: `M` candidates, `N` of them that suppression kept.

Reference:
    Rowley, Baluja, Kanade: Neural Network-Based Face Detection, IEEE PAMI 20(1), 1998, on merging overlapping
    detections: how many there are around a place says how likely a face is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from featherface.inference.overlap import box_iou

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

_BLOCK = 32
_TINY = float(np.finfo(np.float32).tiny)


class VoteRule(NamedTuple):
    """Numbers of the rule; the graph of `export.suppression` and the page of `demo` take them from here."""

    most_elected: int = 750
    """Votes are counted for so many boxes of an image, the surest of the network."""
    least_voter_score: float = 0.02
    """Nobody less sure than that votes: it spares the comparison with thousands of priors."""
    least_share: float = 0.25
    """Of a face's own score; who is less sure has no vote."""
    least_overlap: float = 0.5
    """Who lies less where the face lies has no vote."""
    whole_overlap: float = 0.9
    """From here on a vote counts fully."""
    usual_votes: float = 2.7
    """With so many, and the next, the odds of a face stay as they are."""
    usual_height_px: float = 32.0
    """Of a box, in pixels of the network's input."""
    votes_power: float = 0.75
    """The odds grow with this power of the votes,"""
    height_power: float = 0.4
    """and fall with this power of the height,"""
    max_gain: float = 3.0
    """but are multiplied by this at most."""


VOTE_RULE: Final = VoteRule()


def count_votes(boxes_xyxy: Floats, scores: Floats, kept_idx: npt.NDArray[np.intp]) -> Floats:
    """Votes (N,) for each box that was kept, 1 at least: its own.

    A candidate that is as sure as the kept one, or surer, and lies where it lies, is one vote; one that lies
    elsewhere or is less sure is less, down to none.

    Args:
        boxes_xyxy: (M, 4).
        scores: (M,) in [0, 1], from the network.
        kept_idx: (N,) the boxes that suppression kept, by falling score: neighbors share their voters.
    """
    rule = VOTE_RULE
    votes = np.ones(len(kept_idx), dtype=np.float32)
    for start in range(0, len(kept_idx), _BLOCK):
        block = kept_idx[start : start + _BLOCK]
        own = scores[block, None]
        least = np.maximum(rule.least_share * own, rule.least_voter_score)
        is_voter = scores > least.min()
        overlaps = box_iou(boxes_xyxy[block], boxes_xyxy[is_voter])  # (block, voters)
        places = (overlaps - rule.least_overlap) / (rule.whole_overlap - rule.least_overlap)
        shares = (scores[is_voter] - least) / np.maximum(own - least, _TINY)
        votes[start : start + _BLOCK] = (places.clip(0, 1) * shares.clip(0, 1)).sum(axis=1)
    return np.maximum(votes, 1)


def voted_scores(scores: Floats, votes: Floats, heights_px: Floats) -> Floats:
    """The scores (N,) that the votes make of those of the network.

    Args:
        scores: (N,) in [0, 1].
        votes: (N,) of `count_votes`.
        heights_px: (N,) of the boxes, in pixels of the network's input.
    """
    rule = VOTE_RULE
    by_height = (rule.usual_height_px / np.maximum(heights_px, 1)) ** rule.height_power
    gain = (votes / rule.usual_votes) ** rule.votes_power * by_height
    odds = scores * np.minimum(gain, rule.max_gain)
    return (odds / (odds + (1 - scores))).astype(np.float32)


def least_likely(score_threshold: float) -> float:
    """The score of the network from which on votes can lift a face above a threshold."""
    return score_threshold / (score_threshold + VOTE_RULE.max_gain * (1 - score_threshold))
