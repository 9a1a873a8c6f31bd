"""Laws of the box arithmetic."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from featherface.geometry import (
    box_iou,
    cxcywh_to_xyxy,
    decode_boxes,
    decode_landmarks,
    encode_boxes,
    encode_landmarks,
    xyxy_to_cxcywh,
)

Box = tuple[float, ...]
coordinate = st.floats(-500, 1500, width=32)
side = st.floats(1, 1000, width=32)
box_cxcywh = st.tuples(coordinate, coordinate, side, side)


def as_boxes(boxes: list[Box]) -> Tensor:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


@given(st.lists(box_cxcywh, max_size=6), st.lists(box_cxcywh, max_size=6))
@settings(max_examples=40, deadline=None)
def test_iou_is_symmetric_bounded_and_one_with_itself(first: list[Box], second: list[Box]) -> None:
    a, b = cxcywh_to_xyxy(as_boxes(first)), cxcywh_to_xyxy(as_boxes(second))
    iou = box_iou(a, b)
    torch.testing.assert_close(iou, box_iou(b, a).T)
    assert ((iou >= 0) & (iou <= 1)).all()
    torch.testing.assert_close(box_iou(a, a).diagonal(), a.new_ones(len(a)))


@given(box_cxcywh, box_cxcywh, st.floats(-100, 100), st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_iou_does_not_depend_on_where_or_in_which_unit(
    first: Box, second: Box, shift: float, scale: float
) -> None:
    a, b = cxcywh_to_xyxy(as_boxes([first])), cxcywh_to_xyxy(as_boxes([second]))
    moved = box_iou((a + shift) * scale, (b + shift) * scale)
    torch.testing.assert_close(moved, box_iou(a, b), rtol=1e-6, atol=1e-9)


@given(st.lists(box_cxcywh, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_conversions_are_inverse(boxes: list[Box]) -> None:
    cxcywh = as_boxes(boxes)
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(cxcywh)), cxcywh)


@given(st.lists(st.tuples(box_cxcywh, box_cxcywh), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_decoding_an_encoded_box_gives_it_back(
    pairs: list[tuple[Box, Box]],
) -> None:
    boxes = cxcywh_to_xyxy(as_boxes([box for box, _ in pairs]))
    priors = as_boxes([prior for _, prior in pairs])
    torch.testing.assert_close(decode_boxes(encode_boxes(boxes, priors), priors), boxes)


@given(st.lists(st.tuples(coordinate, coordinate), min_size=5, max_size=5), box_cxcywh)
@settings(max_examples=40, deadline=None)
def test_decoding_encoded_landmarks_gives_them_back(points: list[tuple[float, float]], prior: Box) -> None:
    landmarks, priors = torch.tensor([points], dtype=torch.float64), as_boxes([prior])
    torch.testing.assert_close(decode_landmarks(encode_landmarks(landmarks, priors), priors), landmarks)
