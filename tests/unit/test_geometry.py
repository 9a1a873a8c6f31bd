"""Box and landmark arithmetic against values worked out by hand."""

import math

import pytest
import torch

from featherface.geometry import (
    box_area,
    box_iou,
    cxcywh_to_xyxy,
    decode_boxes,
    decode_landmarks,
    encode_boxes,
    encode_landmarks,
    xyxy_to_cxcywh,
)


def test_iou_of_half_overlapping_boxes_is_one_third() -> None:
    a, b = torch.tensor([[0.0, 0.0, 2.0, 1.0]]), torch.tensor([[1.0, 0.0, 3.0, 1.0]])
    torch.testing.assert_close(box_iou(a, b), torch.tensor([[1 / 3]]))


def test_iou_of_boxes_that_touch_is_zero() -> None:
    a, b = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[1.0, 0.0, 2.0, 1.0], [1.0, 1.0, 2.0, 2.0]])
    torch.testing.assert_close(box_iou(a, b), torch.zeros(1, 2))


def test_degenerate_box_overlaps_nothing_and_is_not_nan() -> None:
    boxes = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0], [2.0, 2.0, 0.0, 0.0]])
    torch.testing.assert_close(box_iou(boxes, boxes), torch.diag(torch.tensor([0.0, 1.0, 0.0])))


def test_iou_of_no_boxes_is_an_empty_matrix() -> None:
    assert box_iou(torch.zeros(0, 4), torch.zeros(3, 4)).shape == (0, 3)
    assert box_iou(torch.zeros(7, 4), torch.zeros(0, 4)).shape == (7, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_iou_keeps_the_type_and_reads_slices(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 1.0], [9.0, 9.0, 9.5, 9.5], [1.0, 0.0, 3.0, 1.0]], dtype=dtype)
    every_second = boxes[::2]  # not contiguous
    expected = torch.tensor([[1, 1 / 3], [1 / 3, 1]], dtype=dtype)
    torch.testing.assert_close(box_iou(every_second, every_second), expected)


def test_area_is_width_times_height_and_never_negative() -> None:
    boxes = torch.tensor([[1.0, 2.0, 4.0, 4.0], [4.0, 2.0, 1.0, 4.0], [4.0, 4.0, 1.0, 2.0]])
    torch.testing.assert_close(box_area(boxes), torch.tensor([6.0, 0.0, 0.0]))


def test_conversions_of_a_known_box() -> None:
    xyxy, cxcywh = torch.tensor([[1.0, 2.0, 4.0, 8.0]]), torch.tensor([[2.5, 5.0, 3.0, 6.0]])
    torch.testing.assert_close(xyxy_to_cxcywh(xyxy), cxcywh)
    torch.testing.assert_close(cxcywh_to_xyxy(cxcywh), xyxy)


def test_encoding_of_a_known_box() -> None:
    prior = torch.tensor([[8.0, 8.0, 16.0, 16.0]])
    box = torch.tensor([[0.0, 4.0, 32.0, 12.0]])  # center (16, 8), 32 x 8
    expected = torch.tensor([[8 / 1.6, 0.0, math.log(2) / 0.2, math.log(0.5) / 0.2]])
    torch.testing.assert_close(encode_boxes(box, prior), expected)
    torch.testing.assert_close(decode_boxes(expected, prior), box)


def test_a_box_equal_to_its_prior_encodes_to_zero() -> None:
    prior = torch.tensor([[20.0, 12.0, 32.0, 32.0]])
    torch.testing.assert_close(encode_boxes(cxcywh_to_xyxy(prior), prior), torch.zeros(1, 4))


def test_a_zero_area_box_encodes_to_finite_numbers() -> None:
    prior = torch.tensor([[8.0, 8.0, 16.0, 16.0]])
    deltas = encode_boxes(torch.full((1, 4), 8.0), prior)
    assert torch.isfinite(deltas).all()
    torch.testing.assert_close(deltas[0, 2:], torch.full((2,), math.log(1e-6) / 0.2))


def test_an_absurd_delta_decodes_to_finite_corners() -> None:
    prior = torch.tensor([[8.0, 8.0, 512.0, 512.0]])
    boxes = decode_boxes(torch.full((1, 4), 1e4), prior)
    assert torch.isfinite(boxes).all()
    assert torch.isfinite(box_area(boxes)).all()


def test_landmarks_of_a_known_face() -> None:
    prior = torch.tensor([[8.0, 8.0, 16.0, 32.0]])
    landmarks = torch.tensor([[[8.0, 8.0], [16.0, 8.0], [8.0, 16.0], [0.0, 0.0], [9.6, 11.2]]])
    expected = torch.tensor([[0.0, 0.0, 5.0, 0.0, 0.0, 2.5, -5.0, -2.5, 1.0, 1.0]])
    torch.testing.assert_close(encode_landmarks(landmarks, prior), expected)
    torch.testing.assert_close(decode_landmarks(expected, prior), landmarks)


def test_priors_serve_a_whole_batch() -> None:
    priors = torch.tensor([[8.0, 8.0, 16.0, 16.0], [24.0, 8.0, 32.0, 32.0]])
    deltas = torch.arange(24, dtype=torch.float32).reshape(3, 2, 4) / 10
    landmark_deltas = torch.arange(60, dtype=torch.float32).reshape(3, 2, 10)
    torch.testing.assert_close(decode_boxes(deltas, priors)[1], decode_boxes(deltas[1], priors))
    torch.testing.assert_close(
        decode_landmarks(landmark_deltas, priors)[2], decode_landmarks(landmark_deltas[2], priors)
    )
    assert encode_boxes(torch.zeros(3, 0, 4), torch.zeros(0, 4)).shape == (3, 0, 4)


def test_gradients_of_the_overlap_are_finite_for_degenerate_boxes() -> None:
    boxes = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0]], requires_grad=True)
    box_iou(boxes, torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0]])).sum().backward()
    assert boxes.grad is not None
    assert torch.isfinite(boxes.grad).all()
