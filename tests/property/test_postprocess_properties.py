"""Suppression and decoding against plain references, on random boxes."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherface import geometry
from featherface.inference.overlap import box_iou
from featherface.inference.postprocess import decode_boxes, decode_landmarks, non_maximum_suppression
from featherface.models.priors import make_priors

SETTINGS = settings(max_examples=60, deadline=None)


@st.composite
def crowds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Boxes that overlap a lot, several blocks of the implementation; many scores are equal."""
    num_boxes = draw(st.integers(0, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corners = rng.integers(0, draw(st.sampled_from((10, 60, 300))), (num_boxes, 2))
    sides = rng.integers(0, 30, (num_boxes, 2))
    boxes_xyxy = np.concatenate((corners, corners + sides), axis=1).astype(np.float32)
    scores = (rng.integers(0, draw(st.sampled_from((3, 1000))), num_boxes) / 1000).astype(np.float32)
    return boxes_xyxy, scores


thresholds = st.sampled_from((0.0, 0.3, 0.4, 0.5, 0.9, 1.0))


def naive_suppression(boxes_xyxy: np.ndarray, scores: np.ndarray, iou_threshold: float) -> list[int]:
    """The definition, one pair at a time."""
    kept: list[int] = []
    for candidate in sorted(range(len(scores)), key=lambda index: (-scores[index], index)):
        x1, y1, x2, y2 = boxes_xyxy[candidate]
        for winner in kept:
            u1, v1, u2, v2 = boxes_xyxy[winner]
            intersection = max(0.0, min(x2, u2) - max(x1, u1)) * max(0.0, min(y2, v2) - max(y1, v1))
            union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - intersection
            if union > 0 and np.float32(intersection) / np.float32(union) > iou_threshold:
                break
        else:
            kept.append(candidate)
    return kept


@SETTINGS
@given(crowds(), thresholds)
def test_suppression_equals_the_definition(
    crowd: tuple[np.ndarray, np.ndarray], iou_threshold: float
) -> None:
    kept = non_maximum_suppression(*crowd, iou_threshold=iou_threshold)
    assert kept.tolist() == naive_suppression(*crowd, iou_threshold)


@SETTINGS
@given(crowds(), thresholds, st.integers(1, 200))
def test_survivors_are_sorted_apart_and_stay_when_suppressed_again(
    crowd: tuple[np.ndarray, np.ndarray], iou_threshold: float, max_faces: int
) -> None:
    boxes_xyxy, scores = crowd
    kept = non_maximum_suppression(boxes_xyxy, scores, iou_threshold=iou_threshold, max_faces=max_faces)
    everything = non_maximum_suppression(boxes_xyxy, scores, iou_threshold=iou_threshold)
    np.testing.assert_array_equal(kept, everything[:max_faces])
    assert (np.diff(scores[kept]) <= 0).all()
    overlaps = box_iou(boxes_xyxy[kept], boxes_xyxy[kept])
    assert (overlaps[~np.eye(len(kept), dtype=bool)] <= iou_threshold).all()
    again = non_maximum_suppression(boxes_xyxy[kept], scores[kept], iou_threshold=iou_threshold)
    np.testing.assert_array_equal(again, np.arange(len(kept)))


@SETTINGS
@given(crowds())
def test_iou_equals_that_of_training(crowd: tuple[np.ndarray, np.ndarray]) -> None:
    boxes_xyxy = crowd[0][:40]
    expected = geometry.box_iou(torch.from_numpy(boxes_xyxy), torch.from_numpy(boxes_xyxy))
    np.testing.assert_allclose(box_iou(boxes_xyxy, boxes_xyxy), expected.numpy(), atol=1e-6)


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.sampled_from((0.1, 3.0, 100.0)))
def test_decoding_equals_that_of_training(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    priors_cxcywh = make_priors((64, 96))
    deltas = rng.normal(0, spread, (len(priors_cxcywh), 14)).astype(np.float32)
    priors = torch.from_numpy(priors_cxcywh.copy())
    boxes = geometry.decode_boxes(torch.from_numpy(deltas[:, :4]), priors)
    landmarks = geometry.decode_landmarks(torch.from_numpy(deltas[:, 4:]), priors)
    np.testing.assert_allclose(
        decode_boxes(deltas[:, :4], priors_cxcywh), boxes.numpy(), rtol=1e-5, atol=1e-3
    )
    np.testing.assert_allclose(
        decode_landmarks(deltas[:, 4:], priors_cxcywh), landmarks.numpy(), rtol=1e-5, atol=1e-3
    )
