"""The multibox loss, against numbers worked out by hand and against autograd."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.geometry import encode_boxes, encode_landmarks
from featherface.losses.classification import select_hardest
from featherface.losses.matching import Matches, match_priors
from featherface.losses.multibox import MultiboxLosses, multibox_loss
from featherface.losses.task import task_losses
from featherface.models.detector import FeatherFace
from featherface.models.priors import make_priors
from featherface.structures import Batch, HeadOutputs, Targets

PRIORS = torch.tensor(
    [[5.0, 5.0, 10.0, 10.0], [15.0, 5.0, 10.0, 10.0], [25.0, 5.0, 10.0, 10.0], [35.0, 5.0, 10.0, 10.0]]
)


def make_targets(
    boxes: list[list[list[float]]], *, has_landmarks: bool = True, is_ignored: bool = False
) -> Targets:
    """Per image the same number of boxes; every landmark in the middle of its box."""
    gt_boxes = torch.tensor(boxes, dtype=torch.float32).reshape(len(boxes), -1, 4)
    flags = torch.ones(gt_boxes.shape[:2], dtype=torch.bool)
    middle = ((gt_boxes[..., :2] + gt_boxes[..., 2:]) / 2).unsqueeze(2).repeat(1, 1, 5, 1)
    return Targets(gt_boxes, middle, flags & has_landmarks, flags & (not is_ignored), flags & is_ignored)


def zero_outputs(batch: int = 1, *, dtype: torch.dtype = torch.float32) -> HeadOutputs:
    shape = (batch, PRIORS.shape[0])
    return HeadOutputs(*(torch.zeros(*shape, width, dtype=dtype, requires_grad=True) for width in (2, 4, 10)))


def random_outputs(batch: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> HeadOutputs:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, PRIORS.shape[0])
    return HeadOutputs(
        *(
            torch.randn(*shape, width, generator=generator, dtype=dtype).requires_grad_()
            for width in (2, 4, 10)
        )
    )


def loss_of(
    outputs: HeadOutputs,
    priors: Tensor,
    targets: Targets,
    *,
    match_iou_threshold: float = 0.35,
    **options: Any,
) -> MultiboxLosses:
    matches = match_priors(priors, targets, match_iou_threshold=match_iou_threshold)
    return multibox_loss(outputs, priors, targets, matches, **options)


def gradients(losses: MultiboxLosses, outputs: HeadOutputs) -> tuple[Tensor, ...]:
    return torch.autograd.grad(sum(losses, torch.zeros(())), outputs)


@pytest.mark.parametrize("cls", ["hard_negatives", "placed_hard_negatives", "focal", "quality_focal"])
def test_a_batch_without_images_costs_nothing(cls: str) -> None:
    outputs = HeadOutputs(*(output[:0].requires_grad_() for output in zero_outputs()))
    targets = make_targets([[[0, 0, 10, 10]]])
    none = Targets(**{name: tensor[:0] for name, tensor in vars(targets).items()})
    losses = loss_of(outputs, PRIORS, none, cls=cls)
    assert torch.stack(losses).tolist() == [0, 0, 0]
    assert all(gradient.numel() == 0 for gradient in gradients(losses, outputs))


@pytest.mark.parametrize("negatives_per_positive", [2.0, 1.5])
def test_undecided_network_pays_log_two_for_the_positive_and_each_negative(
    negatives_per_positive: float,
) -> None:
    losses = loss_of(
        zero_outputs(),
        PRIORS,
        make_targets([[[0, 0, 10, 10]]]),
        negatives_per_positive=negatives_per_positive,
        min_negatives=1,
    )
    assert losses.cls.item() == pytest.approx(3 * math.log(2))


def test_classification_is_the_cross_entropy_of_positives_and_all_negatives() -> None:
    outputs = random_outputs(2)
    targets = make_targets([[[0, 0, 10, 10]], [[20, 0, 30, 10]]])
    losses = loss_of(outputs, PRIORS, targets, negatives_per_positive=3.0)
    labels = torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0]])
    expected = F.cross_entropy(outputs.cls_logits.flatten(0, 1), labels.flatten(), reduction="sum") / 2
    torch.testing.assert_close(losses.cls, expected)


def test_only_the_hardest_negatives_count() -> None:
    outputs = zero_outputs()
    with torch.no_grad():
        outputs.cls_logits[0, :, 1] = torch.tensor([0.0, 1.0, 3.0, 2.0])
    losses = loss_of(
        outputs, PRIORS, make_targets([[[0, 0, 10, 10]]]), negatives_per_positive=2.0, min_negatives=1
    )
    expected = math.log(2) + math.log1p(math.exp(3)) + math.log1p(math.exp(2))
    assert losses.cls.item() == pytest.approx(expected)
    cls_gradient = gradients(losses, outputs)[0]
    assert (cls_gradient[0].abs().sum(dim=1) > 0).tolist() == [True, False, True, True]


def test_box_loss_is_smooth_l1_of_the_encoded_box() -> None:
    # Shifted by 2 px: 0.2 of the prior over 0.1 is 2, beyond the bend: 2 - 0.5. Others are exact.
    losses = loss_of(zero_outputs(), PRIORS, make_targets([[[2, 0, 12, 10]]]))
    assert losses.box.item() == pytest.approx(1.5)
    # Shifted by 0.5 px: 0.5 deltas, inside the bend: 0.5 ** 2 / 2.
    losses = loss_of(zero_outputs(), PRIORS, make_targets([[[0.5, 0, 10.5, 10]]]))
    assert losses.box.item() == pytest.approx(0.125)


def test_landmark_loss_sums_ten_coordinates() -> None:
    # The middle of the face, hence each landmark, is 2 px right of the prior's center: five times 2 - 0.5.
    losses = loss_of(zero_outputs(), PRIORS, make_targets([[[2, 0, 12, 10]]]))
    assert losses.landmark.item() == pytest.approx(5 * 1.5)


def test_faces_without_landmarks_neither_add_nor_dilute() -> None:
    targets = make_targets([[[2, 0, 12, 10], [20, 0, 30, 10]]])
    targets.has_landmarks[0, 1] = False
    targets.gt_landmarks_xy[0, 1] = -1e6
    losses = loss_of(zero_outputs(), PRIORS, targets)
    assert losses.landmark.item() == pytest.approx(5 * 1.5)
    assert losses.box.item() == pytest.approx(1.5 / 2)


def test_perfect_network_pays_nothing() -> None:
    targets = make_targets([[[1, 1, 12, 9]]])
    outputs = zero_outputs()
    with torch.no_grad():
        outputs.cls_logits[..., 0] = 50
        outputs.cls_logits[0, 0] = torch.tensor([0.0, 50.0])
        outputs.box_deltas[0, 0] = encode_boxes(targets.gt_boxes_xyxy[0], PRIORS[:1])[0]
        outputs.landmark_deltas[0, 0] = encode_landmarks(targets.gt_landmarks_xy[0], PRIORS[:1])[0]
    assert [loss.item() for loss in loss_of(outputs, PRIORS, targets)] == pytest.approx([0, 0, 0])


def test_sums_are_divided_once_by_the_positives_of_the_batch() -> None:
    # One image with three faces, one with one: 4 positives share one denominator.
    crowd = [[2.0, 0, 12, 10], [12.0, 0, 22, 10], [22.0, 0, 32, 10]]
    alone = [[2.0, 0, 12, 10], [0.0] * 4, [0.0] * 4]
    targets = make_targets([crowd, alone])
    targets.is_face[1, 1:] = False
    assert loss_of(zero_outputs(2), PRIORS, targets, min_negatives=0).box.item() == pytest.approx(1.5)


def test_batch_without_a_face_learns_background_only() -> None:
    outputs = random_outputs(2)
    losses = loss_of(outputs, PRIORS, make_targets([[], []]), min_negatives=1)
    hardest = (outputs.cls_logits[..., 1] - outputs.cls_logits[..., 0]).amax(dim=1)
    torch.testing.assert_close(losses.cls, F.softplus(hardest).sum())
    assert losses.box.item() == losses.landmark.item() == 0
    cls_gradient, box_gradient, landmark_gradient = gradients(losses, outputs)
    assert torch.count_nonzero(cls_gradient.abs().sum(dim=-1)) == 2
    assert not box_gradient.any()
    assert not landmark_gradient.any()


def test_ignored_priors_are_neither_positive_nor_negative() -> None:
    outputs = random_outputs(1)
    targets = make_targets([[[0, 0, 20, 10]]], is_ignored=True)
    cls_gradient, box_gradient, _ = gradients(loss_of(outputs, PRIORS, targets), outputs)
    assert (cls_gradient[0] != 0).any(dim=1).tolist() == [False, False, True, True]
    assert not box_gradient.any()


def test_gradient_of_boxes_reaches_the_positive_prior_alone() -> None:
    outputs = random_outputs(1)
    _, box_gradient, landmark_gradient = gradients(
        loss_of(outputs, PRIORS, make_targets([[[20, 0, 30, 10]]])), outputs
    )
    assert (box_gradient[0] != 0).all(dim=1).tolist() == [False, False, True, False]
    assert (landmark_gradient[0] != 0).all(dim=1).tolist() == [False, False, True, False]


def test_matches_given_are_matches_used() -> None:
    matches = Matches(
        labels=torch.tensor([[0, 1, 0, 0]], dtype=torch.int8), matched_gt_idx=torch.tensor([[-1, 0, -1, -1]])
    )
    outputs = random_outputs(1)
    losses = multibox_loss(outputs, PRIORS, make_targets([[[0, 0, 10, 10]]]), matches)
    _, box_gradient, _ = gradients(losses, outputs)
    assert (box_gradient[0] != 0).any(dim=1).tolist() == [False, True, False, False]


@pytest.mark.parametrize("magnitude", [0.0, 1e4, 1e30])
def test_gradients_are_finite_for_any_finite_output(magnitude: float) -> None:
    outputs = HeadOutputs(*((tensor.detach() * magnitude).requires_grad_() for tensor in random_outputs(2)))
    # A tiny face, a face without area, and one larger than the image.
    targets = make_targets([[[0, 0, 1e-3, 1e-3], [5, 5, 5, 5]], [[-500, -500, 500, 500], [3, 3, 4, 40]]])
    losses = loss_of(outputs, PRIORS, targets)
    assert all(bool(loss.isfinite()) for loss in losses)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients(losses, outputs))


def test_gradient_is_the_derivative_in_double_precision() -> None:
    targets = make_targets([[[1, 0, 12, 10]], [[22, 0, 30, 9]]])
    doubled = Targets(
        targets.gt_boxes_xyxy.double(),
        targets.gt_landmarks_xy.double(),
        targets.has_landmarks,
        targets.is_face,
        targets.is_ignored,
    )

    def losses(*outputs: Tensor) -> MultiboxLosses:
        return loss_of(HeadOutputs(*outputs), PRIORS.double(), doubled, min_negatives=1)

    assert torch.autograd.gradcheck(losses, tuple(random_outputs(2, dtype=torch.float64)))


def test_a_few_gradient_steps_on_the_outputs_themselves_end_near_zero() -> None:
    outputs = random_outputs(2)
    targets = make_targets([[[1, 0, 12, 10]], [[22, 0, 30, 9]]])
    optimizer = torch.optim.Adam(outputs, lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = sum(loss_of(outputs, PRIORS, targets), torch.zeros(()))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.02


def test_non_contiguous_outputs_are_fine() -> None:
    outputs = random_outputs(2)
    transposed = HeadOutputs(*(t.detach().transpose(1, 2).contiguous().transpose(1, 2) for t in outputs))
    targets = make_targets([[[1, 0, 12, 10]], [[22, 0, 30, 9]]])
    torch.testing.assert_close(loss_of(transposed, PRIORS, targets), loss_of(outputs, PRIORS, targets))


def test_priors_of_another_image_size_are_refused() -> None:
    with pytest.raises(ValueError, match="the network speaks of 4 priors, got 3"):
        loss_of(zero_outputs(), PRIORS[:3], make_targets([[]]))


def test_each_positive_brings_its_negatives() -> None:
    targets = make_targets([[[0, 0, 20, 10]]])  # overlaps two priors by one half
    low = loss_of(zero_outputs(), PRIORS, targets, match_iou_threshold=0.5, min_negatives=0)
    high = loss_of(zero_outputs(), PRIORS, targets, match_iou_threshold=0.6, min_negatives=0)
    own = match_priors(PRIORS, targets, match_iou_threshold=0.6)
    assert own.labels.sum() == 1
    # One positive pays |5|, |0|, log 2 / 0.2, 0; of two, both pay the same.
    torch.testing.assert_close(low.box, high.box)
    # log 2 for 2 positives and 2 negatives over 2; for 1 positive and 3 negatives over 1.
    assert low.cls.item() == pytest.approx(2 * math.log(2))
    assert high.cls.item() == pytest.approx(4 * math.log(2))


@dataclass(frozen=True)
class Settings:
    """Those of the section `loss`."""

    match_iou_threshold: float = 0.35
    min_priors_per_face: int = 1
    negatives_per_positive: float = 7.0
    cls: str = "hard_negatives"
    box: str = "smooth_l1"
    box_weight: float = 1.0
    cls_weight: float = 1.0
    landmark_weight: float = 1.0


class OneLevel(FeatherFace):
    """Priors of one level for images of 32 x 64 px, and no layer."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.strides, self.min_sizes_px = (8,), ((16, 32),)


def views() -> tuple[HeadOutputs, Batch]:
    """Two faces in a view of 32 x 64 px: one of a prior's size, and one smaller than all."""
    generator = torch.Generator().manual_seed(5)
    outputs = HeadOutputs(*(torch.randn(1, 4 * 8 * 2, width, generator=generator) for width in (2, 4, 10)))
    targets = make_targets([[[20, 5, 39, 27], [49, 17, 56, 24]]])
    return outputs, Batch(torch.zeros(1, 3, 32, 64), targets, ("a.jpg",))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"match_iou_threshold": 0.6},
        {"min_priors_per_face": 4},
        {"negatives_per_positive": 1.0},
        {"cls": "focal"},
        {"box": "giou"},
    ],
    ids=str,
)
def test_task_losses_are_those_of_the_settings(changes: dict[str, Any]) -> None:
    outputs, batch = views()
    settings = Settings(**changes, cls_weight=2.0, box_weight=3.0, landmark_weight=5.0)
    priors = torch.from_numpy(make_priors((32, 64), strides=(8,), min_sizes_px=((16, 32),)).copy())
    matches = match_priors(
        priors,
        batch.targets,
        match_iou_threshold=settings.match_iou_threshold,
        min_priors_per_face=settings.min_priors_per_face,
    )
    expected = multibox_loss(
        outputs,
        priors,
        batch.targets,
        matches,
        negatives_per_positive=settings.negatives_per_positive,
        cls=settings.cls,
        box=settings.box,
    )
    losses = task_losses(OneLevel(), outputs, batch, settings)  # type: ignore[arg-type]
    torch.testing.assert_close(
        losses, {"cls": 2 * expected.cls, "box": 3 * expected.box, "landmark": 5 * expected.landmark}
    )
    if changes:  # each setting matters here
        others = task_losses(OneLevel(), outputs, batch, replace(settings, **vars(Settings())))  # type: ignore[arg-type]
        weighted = {"cls": 2 * others["cls"], "box": 3 * others["box"], "landmark": 5 * others["landmark"]}
        assert any(not torch.allclose(losses[name], weighted[name]) for name in losses)


def test_task_losses_take_the_matches_that_somebody_made_already() -> None:
    outputs, batch = views()
    num_priors = outputs.cls_logits.shape[1]
    nothing = Matches(
        labels=torch.zeros(1, num_priors, dtype=torch.int8), matched_gt_idx=torch.full((1, num_priors), -1)
    )
    losses = task_losses(OneLevel(), outputs, batch, Settings(), matches=nothing)  # type: ignore[arg-type]
    assert losses["box"].item() == 0


def test_hardest_are_counted_per_image_and_taken_from_the_candidates() -> None:
    difficulty = torch.tensor([[1.0, 5.0, 3.0, 4.0], [9.0, 8.0, 7.0, 6.0], [1.0, 2.0, 3.0, 4.0]])
    is_candidate = torch.tensor([[True, False, True, True], [True] * 4, [False, False, True, False]])
    is_hard = select_hardest(difficulty, is_candidate=is_candidate, num_per_image=torch.tensor([2, 0, 7]))
    assert is_hard.tolist() == [
        [False, False, True, True],
        [False] * 4,
        [False, False, True, False],
    ]
