"""Distances of boxes and classification losses, against numbers worked out by hand."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from featherface.geometry import encode_boxes
from featherface.losses.boxes import BOX_DISTANCES, eiou_distance, giou_distance, predicted_iou
from featherface.losses.classification import focal_loss, hard_negative_loss, quality_focal_loss
from featherface.losses.matching import match_priors
from featherface.losses.multibox import CLS_LOSSES, multibox_loss
from featherface.structures import HeadOutputs, Targets

PRIORS = torch.tensor([[20.0, 20.0, 16.0, 16.0], [60.0, 40.0, 32.0, 32.0], [50.0, 50.0, 64.0, 64.0]])
FACES = torch.tensor([[12.0, 10.0, 28.0, 31.0], [40.0, 30.0, 70.0, 60.0], [20.0, 10.0, 90.0, 80.0]])
BOXES = torch.tensor([[14.0, 12.0, 30.0, 28.0], [80.0, 70.0, 99.0, 95.0], [25.0, 5.0, 80.0, 85.0]])


def deltas_of(boxes_xyxy: Tensor) -> Tensor:
    return encode_boxes(boxes_xyxy, PRIORS)


def test_generalized_overlap_by_hand() -> None:
    # Boxes of 10 x 10 that share 5 x 10, then boxes of 10 x 10 with 10 px between them.
    priors = torch.tensor([[5.0, 5.0, 10.0, 10.0], [5.0, 5.0, 10.0, 10.0]])
    faces = torch.tensor([[5.0, 0.0, 15.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    distances = giou_distance(torch.zeros(2, 4), priors, faces)
    assert distances.tolist() == pytest.approx([1 - 50 / 150, 1 + (300 - 200) / 300])
    assert torch.equal(BOX_DISTANCES["giou"](torch.zeros(2, 4), priors, faces), distances)


def test_efficient_overlap_by_hand() -> None:
    # A box of 10 x 10 beside a face of 20 x 10: overlap 0, hull 30 x 10, centers 15 apart, widths 10 apart.
    prior = torch.tensor([[5.0, 5.0, 10.0, 10.0]])
    face = torch.tensor([[10.0, 0.0, 30.0, 10.0]])
    expected = 1 + 15**2 / (30**2 + 10**2) + 10**2 / 30**2
    for distance in (eiou_distance, BOX_DISTANCES["eiou"]):
        assert distance(torch.zeros(1, 4), prior, face).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", BOX_DISTANCES)
def test_distance_is_zero_at_the_face_and_its_gradient_leads_there(name: str) -> None:
    distance = BOX_DISTANCES[name]
    torch.testing.assert_close(distance(deltas_of(FACES), PRIORS, FACES), torch.zeros(3), atol=1e-5, rtol=0)
    deltas = deltas_of(BOXES).requires_grad_()
    before = distance(deltas, PRIORS, FACES)
    (gradient,) = torch.autograd.grad(before.sum(), deltas)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum(dim=1) > 0).all(), "also where box and face are apart"
    assert (distance((deltas - 1e-2 * gradient).detach(), PRIORS, FACES) < before).all()


@pytest.mark.parametrize("name", BOX_DISTANCES)
def test_wild_predictions_and_empty_faces_stay_finite(name: str) -> None:
    deltas = torch.tensor([[0.0, 0.0, 500.0, -500.0], [1e4, -1e4, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    deltas.requires_grad_()
    faces = FACES.clone()
    faces[2] = torch.tensor([50.0, 50.0, 50.0, 50.0])
    distance = BOX_DISTANCES[name](deltas, PRIORS, faces)
    (gradient,) = torch.autograd.grad(distance.sum(), deltas)
    assert torch.isfinite(distance).all()
    assert torch.isfinite(gradient).all()


def test_focal_loss_by_hand_without_the_ignored() -> None:
    margin = torch.tensor([[0.0, math.log(3), 0.0], [-math.log(3), 5.0, -100.0]])
    labels = torch.tensor([[1, 0, -1], [1, -1, 0]], dtype=torch.int8)
    # Probabilities of a face: positives 1/2 and 1/4, negatives 3/4 and nearly 0.
    positives = math.log(2) / 4 + math.log(4) * 9 / 16
    negatives = 3 * math.log(4) * 9 / 16
    got = focal_loss(margin, labels)
    assert got.item() == pytest.approx(positives + negatives)


def test_quality_focal_loss_by_hand() -> None:
    margin = torch.zeros(1, 3)
    labels = torch.tensor([[1, 0, -1]], dtype=torch.int8)
    got = quality_focal_loss(margin, labels, torch.tensor([0.9]))
    assert got.item() == pytest.approx(math.log(2) * 0.4**2 + math.log(2) * 0.5**2)


def test_positives_learn_whether_their_box_counts_as_found() -> None:
    margin = torch.tensor([[0.0, math.log(3), math.log(3), 2.0]])
    labels = torch.tensor([[1, 1, 1, 0]], dtype=torch.int8)
    negative = math.log1p(math.exp(2.0))
    # Targets 0, 1/2 and 1 where a face has probability 1/2, 3/4 and 3/4.
    positives = math.log(2) + (math.log(4 / 3) + math.log(4)) / 2 + math.log(4 / 3)
    options = {"negatives_per_positive": 1.0, "min_negatives": 1}
    got = hard_negative_loss(margin, labels, quality=torch.tensor([0.3, 0.5, 0.7]), **options)
    assert got.item() == pytest.approx(positives + negative)
    sure = hard_negative_loss(margin, labels, quality=torch.full((3,), 0.6), **options)
    assert sure.item() == pytest.approx(hard_negative_loss(margin, labels, **options).item())


def test_boxes_are_not_moved_to_make_scores_come_true() -> None:
    labels = torch.tensor([[1, 0]], dtype=torch.int8)
    placed = partial(hard_negative_loss, negatives_per_positive=1.0, min_negatives=1)
    for loss in (placed, quality_focal_loss):
        margin, quality = torch.ones(1, 2, requires_grad=True), torch.tensor([0.5], requires_grad=True)
        loss(margin, labels, quality=quality).backward()
        assert margin.grad is not None
        assert quality.grad is None


def test_scores_are_placed_by_the_boxes_that_are_predicted() -> None:
    # The box of the only positive is its prior: it overlaps the face by 0.6 or more, or by 0.4 or less.
    logits = torch.tensor([[[0.0, 1.0], [0.0, -50.0], [0.0, -50.0]]])
    outputs = HeadOutputs(logits, torch.zeros(1, 3, 4), torch.zeros(1, 3, 10))
    yes, no = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.bool)
    for side_px, expected in ((15.0, math.log1p(math.exp(-1))), (6.0, math.log1p(math.exp(1)))):
        face = torch.tensor([[[20 - side_px / 2, 20 - side_px / 2, 20 + side_px / 2, 20 + side_px / 2]]])
        targets = Targets(face, torch.zeros(1, 1, 5, 2), no, yes, no)
        losses = multibox_loss(
            outputs, PRIORS, targets, match_priors(PRIORS, targets), cls="placed_hard_negatives"
        )
        assert losses.cls.item() == pytest.approx(expected)


def test_quality_is_the_overlap_of_the_predicted_box() -> None:
    assert predicted_iou(deltas_of(FACES), PRIORS, FACES).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    half = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    prior = torch.tensor([[5.0, 2.5, 10.0, 5.0]])
    assert predicted_iou(torch.zeros(1, 4), prior, half).item() == pytest.approx(0.5)


@pytest.mark.parametrize("cls", CLS_LOSSES)
@pytest.mark.parametrize("box", BOX_DISTANCES)
def test_every_pair_of_losses_trains_with_and_without_faces(cls: str, box: str) -> None:
    outputs = HeadOutputs(*(torch.randn(2, 3, width).requires_grad_() for width in (2, 4, 10)))
    for num_faces in (1, 0):
        no, yes = torch.zeros(2, num_faces, dtype=torch.bool), torch.ones(2, num_faces, dtype=torch.bool)
        targets = Targets(FACES[:1].repeat(2, num_faces, 1), torch.zeros(2, num_faces, 5, 2), no, yes, no)
        losses = multibox_loss(outputs, PRIORS, targets, match_priors(PRIORS, targets), cls=cls, box=box)
        gradients = torch.autograd.grad(sum(losses, torch.zeros(())), outputs)
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert (losses.box > 0) == bool(num_faces)
        assert losses.cls > 0
