"""Losses between student and teacher, adapters, and the frozen teacher."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.distillation.adapters import FeatureAdapters
from featherface.distillation.losses import (
    distillation_loss,
    feature_loss,
    soft_cross_entropy_gap,
    temperature_at,
)
from featherface.distillation.teacher import FrozenStages, FrozenTeacher, copy_matching_weights
from featherface.models.build import build_model
from featherface.models.folding import fold_batch_norms
from featherface.structures import DetectorFeatures, HeadOutputs


def outputs_of(face_margins: list[list[float]], *, shift: float = 0.0) -> HeadOutputs:
    """Outputs whose face logit is the margin and whose background logit is 0; every delta is `shift`."""
    margin = torch.tensor(face_margins)
    logits = torch.stack((torch.zeros_like(margin), margin), dim=-1)
    boxes = torch.full((*margin.shape, 4), shift)
    return HeadOutputs(*(t.requires_grad_() for t in (logits, boxes, torch.full((*margin.shape, 10), shift))))


def random_outputs(seed: int, *, dtype: torch.dtype = torch.float32) -> HeadOutputs:
    generator = torch.Generator().manual_seed(seed)
    return HeadOutputs(
        *(torch.randn(2, 9, width, generator=generator, dtype=dtype).requires_grad_() for width in (2, 4, 10))
    )


def test_gap_is_the_divergence_of_the_softened_softmax() -> None:
    student, teacher = random_outputs(0), random_outputs(1)
    expected = F.kl_div(
        F.log_softmax(student.cls_logits / 3, dim=-1),
        F.softmax(teacher.cls_logits / 3, dim=-1),
        reduction="none",
    ).sum(dim=-1)
    margins = [outputs.cls_logits[..., 1] - outputs.cls_logits[..., 0] for outputs in (student, teacher)]
    torch.testing.assert_close(soft_cross_entropy_gap(margins[0], margins[1], 3.0), expected)


def test_student_that_equals_its_teacher_pays_nothing() -> None:
    losses = distillation_loss(random_outputs(3), random_outputs(3), temperature=2.0)
    assert [loss.item() for loss in losses] == pytest.approx([0, 0, 0], abs=1e-6)


def test_priors_weigh_the_teachers_face_probability_and_hard_negatives_weigh_one() -> None:
    # Teacher: one sure face, three backgrounds. Student: undecided at the face, fooled at the third prior.
    teacher, student = outputs_of([[4.0, -4, -4, -4]]), outputs_of([[0.0, -4, 2, -4]])
    losses = distillation_loss(student, teacher, temperature=1.0, negatives_per_positive=0.0, min_negatives=1)
    gap = soft_cross_entropy_gap(torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, -4.0]]), 1.0)[0]
    sure = 1 / (1 + math.exp(-4))
    soft_positives = sure + 3 * (1 - sure)
    expected = (gap[0] * sure + gap[1]) / soft_positives
    torch.testing.assert_close(losses.logit, expected)


def test_temperature_keeps_the_gradient_on_one_scale() -> None:
    # For high temperatures the gradient of KL is the difference of the margins over 4 T^2 (Hinton et al., eq.
    # 4): times T^2 it does not change any more.
    def gradient(temperature: float) -> Tensor:
        student, teacher = random_outputs(0), random_outputs(1)
        loss = distillation_loss(student, teacher, temperature=temperature).logit
        return torch.autograd.grad(loss, student.cls_logits)[0]

    torch.testing.assert_close(gradient(100.0), gradient(300.0), rtol=1e-2, atol=1e-3)
    assert gradient(100.0).abs().max() > 1e-2


def test_boxes_and_landmarks_count_where_the_teacher_is_sure() -> None:
    teacher, student = outputs_of([[0.0, -1.0, 3.0]], shift=2.0), outputs_of([[0.0, 0.0, 0.0]])
    losses = distillation_loss(student, teacher, temperature=1.0, confidence_threshold=0.5)
    sure = [0.5, 1 / (1 + math.exp(-3))]
    assert losses.box.item() == pytest.approx(4 * 1.5 * sum(sure) / 2)
    assert losses.landmark.item() == pytest.approx(10 * 1.5 * sum(sure) / 2)
    gradient = torch.autograd.grad(losses.box, student.box_deltas)[0]
    assert (gradient[0] != 0).all(dim=1).tolist() == [True, False, True]


def test_teacher_without_a_face_still_teaches_background() -> None:
    teacher, student = outputs_of([[-20.0] * 4]), outputs_of([[0.0, 3.0, 0.0, 0.0]])
    losses = distillation_loss(student, teacher, temperature=1.0, min_negatives=1)
    assert losses.logit.item() == pytest.approx(math.log1p(math.exp(3)), rel=1e-4)
    assert losses.box.item() == losses.landmark.item() == 0


def test_a_view_has_sixteen_hard_negatives_and_seven_for_each_face_of_the_teacher() -> None:
    student = outputs_of([[0.0] * 40])
    nothing = distillation_loss(student, outputs_of([[-20.0] * 40]), temperature=1.0)
    assert nothing.logit.item() == pytest.approx(16 * math.log(2), rel=1e-4)
    four = distillation_loss(student, outputs_of([[20.0] * 4 + [-20.0] * 36]), temperature=1.0)
    assert four.logit.item() == pytest.approx((4 + 4 * 7) / 4 * math.log(2), rel=1e-4)


def test_a_face_that_only_people_saw_is_no_hard_negative() -> None:
    # The student finds the annotated face at the second prior, of which the teacher knows nothing.
    teacher, student = outputs_of([[-20.0] * 4]), outputs_of([[0.0, 3.0, 0.0, 0.0]])
    is_annotated = torch.tensor([[False, True, False, False]])
    losses = distillation_loss(student, teacher, temperature=1.0, min_negatives=1, is_annotated=is_annotated)
    gradient = torch.autograd.grad(losses.logit, student.cls_logits)[0]
    assert gradient[0, 1].abs().max() < 1e-6
    assert losses.logit.item() == pytest.approx(math.log(2), rel=1e-4)  # of the hardest of the others


def test_a_face_that_both_saw_is_learnt_from_the_teacher_as_before() -> None:
    teacher, student = outputs_of([[4.0, -4, -4, -4]]), outputs_of([[0.0, -4, 2, -4]])
    kwargs = {"temperature": 1.0, "min_negatives": 4}
    expected = distillation_loss(student, teacher, **kwargs)
    # A face that the teacher alone saw is no hard negative either.
    for is_annotated in ([[True, False, False, False]], [[False] * 4]):
        known = distillation_loss(student, teacher, is_annotated=torch.tensor(is_annotated), **kwargs)
        torch.testing.assert_close(known, expected)


def test_no_gradient_reaches_the_teachers_outputs() -> None:
    student, teacher = random_outputs(0), random_outputs(1)
    maps = [torch.rand(2, 3, 4, 4, requires_grad=True) for _ in range(2)]
    loss = sum(distillation_loss(student, teacher, temperature=2.0)) + feature_loss(maps[:1], maps[1:])
    assert isinstance(loss, Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(tensor.grad is None for tensor in (*teacher, maps[1]))
    assert all(tensor.grad is not None and bool(tensor.grad.any()) for tensor in (*student, maps[0]))


@pytest.mark.parametrize("magnitude", [0.0, 1e4])
def test_gradients_are_finite_for_extreme_outputs(magnitude: float) -> None:
    student, teacher = (
        HeadOutputs(*((t.detach() * magnitude).requires_grad_() for t in random_outputs(seed)))
        for seed in (0, 1)
    )
    loss = sum(distillation_loss(student, teacher, temperature=1.0), torch.zeros(()))
    assert all(bool(gradient.isfinite().all()) for gradient in torch.autograd.grad(loss, student))


def test_gradient_of_the_losses_is_the_derivative_in_double_precision() -> None:
    teacher = random_outputs(1, dtype=torch.float64)

    def losses(*student: Tensor) -> tuple[Tensor, ...]:
        return distillation_loss(HeadOutputs(*student), teacher, temperature=2.0, min_negatives=2)

    assert torch.autograd.gradcheck(losses, tuple(random_outputs(0, dtype=torch.float64)))


def test_temperature_of_zero_and_other_priors_are_refused() -> None:
    student = random_outputs(0)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        distillation_loss(student, student, temperature=0.0)
    with pytest.raises(ValueError, match=r"must share their priors, got \(2, 9, 2\) and \(1, 3, 2\)"):
        distillation_loss(student, outputs_of([[0.0, 0.0, 0.0]]), temperature=1.0)


def test_feature_loss_ignores_scale_and_offset_and_sees_the_sign() -> None:
    maps = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert feature_loss([maps * 3 - 1], [maps]).item() == pytest.approx(0, abs=1e-3)
    assert feature_loss([-maps], [maps]).item() == pytest.approx(2, abs=1e-3)


def test_feature_loss_is_half_the_squared_error_of_standardized_maps() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(2, 3, 8, 8, generator=generator) for _ in range(2))

    def standardized(maps: Tensor) -> Tensor:
        centered = maps - maps.mean(dim=(0, 2, 3), keepdim=True)
        return centered / centered.square().mean(dim=(0, 2, 3), keepdim=True).sqrt()

    expected = F.mse_loss(standardized(student), standardized(teacher)) / 2
    torch.testing.assert_close(feature_loss([student], [teacher]), expected, rtol=1e-4, atol=1e-5)


def test_levels_weigh_the_same_whatever_their_channels() -> None:
    small, large = torch.rand(1, 1, 4, 4), torch.rand(1, 64, 2, 2)
    assert feature_loss([small, -large], [small, large]).item() == pytest.approx(1, abs=1e-2)


def test_constant_channel_has_a_finite_gradient() -> None:
    student = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = feature_loss([student], [torch.rand(2, 3, 4, 4)])
    assert loss.item() == pytest.approx(1)
    assert bool(torch.autograd.grad(loss, student)[0].isfinite().all())


def test_gradient_of_the_feature_loss_is_the_derivative_in_double_precision() -> None:
    generator = torch.Generator().manual_seed(2)
    student, teacher = (torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda maps: feature_loss([maps], [teacher]), student.requires_grad_())


def test_maps_that_do_not_fit_are_refused() -> None:
    narrow, wide = torch.rand(1, 2, 4, 4), torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"level 1 must have one shape, got \(1, 2, .*\) and \(1, 3, "):
        feature_loss([narrow, narrow], [narrow, wide])
    with pytest.raises(ValueError, match="as many levels as the teacher's are needed, got 1 and 0"):
        feature_loss([torch.rand(1, 2, 4, 4)], [])


def test_adapters_change_channels_where_they_differ_and_nothing_else() -> None:
    adapters = FeatureAdapters((4, 6, 8), (4, 6, 16))
    maps = [torch.rand(2, channels, 3, 5) for channels in (4, 6, 8)]
    adapted = adapters(maps)
    assert adapted[0] is maps[0]
    assert adapted[1] is maps[1]
    assert adapted[2].shape == (2, 16, 3, 5)
    assert sum(parameter.numel() for parameter in adapters.parameters()) == 8 * 16
    with pytest.raises(ValueError, match="as many levels as the teacher's are needed, got 1 and 2"):
        FeatureAdapters((4,), (4, 5))


def test_temperature_goes_from_start_to_end_and_stays_between() -> None:
    temperatures = [temperature_at(step / 10, start=6.0, end=1.0) for step in range(-2, 13)]
    assert temperatures[:3] == [6.0, 6.0, 6.0]
    assert temperatures[-3:] == pytest.approx([1.0, 1.0, 1.0])
    assert temperatures[7] == pytest.approx(3.5)
    assert all(a >= b for a, b in itertools.pairwise(temperatures))
    assert temperature_at(0.25, start=6.0, end=1.0) == pytest.approx(1 + 5 * (2 + math.sqrt(2)) / 4)


class TinyDetector(nn.Module):
    """Three levels of one convolution with batch norm, whose maps are outputs as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)

    def forward_features(
        self, images: Tensor, *, known: Sequence[Tensor] = ()
    ) -> tuple[HeadOutputs, DetectorFeatures]:
        maps = known[0] if known else self.norm(self.conv(images))
        flat = maps.permute(0, 2, 3, 1).reshape(images.shape[0], -1, 16)  # (B, H*W, 16)
        outputs = HeadOutputs(flat[..., :2], flat[..., 2:6], flat[..., 6:])
        return outputs, DetectorFeatures((maps, maps, maps), (maps, maps, maps))


def test_teacher_gives_outputs_without_gradient_that_a_loss_can_use() -> None:
    network = TinyDetector()
    teacher, student = FrozenTeacher(network), TinyDetector()
    images = torch.rand(2, 3, 8, 8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    teacher_outputs, teacher_features = teacher(images)
    student_outputs, student_features = student.forward_features(images)
    loss = sum(distillation_loss(student_outputs, teacher_outputs, temperature=2.0)) + feature_loss(
        student_features.backbone, teacher_features.backbone
    )
    assert isinstance(loss, Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(not tensor.requires_grad for tensor in (*teacher_outputs, *teacher_features.neck))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())
    # Batch statistics included: evaluation mode.
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_teacher_is_a_copy_that_nothing_done_to_the_network_reaches() -> None:
    network = TinyDetector()
    teacher, images = FrozenTeacher(network), torch.rand(1, 3, 4, 4)
    before, _ = teacher(images)
    network.train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    after, _ = teacher(images)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_teacher_answers_like_its_network_but_for_rounding() -> None:
    torch.manual_seed(0)
    network = build_model("v1-487k").eval()
    images = 50 * torch.randn(2, 3, 64, 96)
    outputs, features = FrozenTeacher(network)(images)
    expected, expected_features = network.forward_features(images)
    # bfloat16 has 8 bits; through some thirty layers a few percent of the spread are left.
    for got, want in zip((*outputs, *features.neck), (*expected, *expected_features.neck), strict=True):
        assert got.dtype == torch.float32
        assert (got - want).abs().mean() < 0.05 * want.std()


@pytest.mark.parametrize(("capability", "is_exact"), [("AVX2", True), ("DEFAULT", True), ("AVX512", False)])
def test_what_does_not_learn_is_rounded_only_on_processors_where_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, capability: str, *, is_exact: bool
) -> None:
    torch.manual_seed(0)
    network = build_model("v1-487k").eval()
    images = 50 * torch.randn(1, 3, 64, 64)
    stages = [network.backbone.stage1, network.backbone.stage2]
    unrounded = fold_batch_norms(network).backbone(images)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    known = FrozenStages(stages)(images)
    _, features = FrozenTeacher(network)(images)
    for level in (known[1], features.backbone[1]):
        rounding = (level - unrounded[1]).abs().max() / unrounded[1].std()
        assert (rounding < 1e-4) == is_exact, rounding


@pytest.mark.parametrize("num_frozen", [1, 2])
def test_stages_that_do_not_learn_serve_teacher_and_student(num_frozen: int) -> None:
    torch.manual_seed(0)
    teacher, student = build_model("v1-487k").eval(), build_model("v2-ultra").train()
    copy_matching_weights(student, teacher)
    names = ("backbone.stage1", "backbone.stage2")[:num_frozen]
    images = 50 * torch.randn(2, 3, 64, 64)
    known = FrozenStages([student.get_submodule(name) for name in names])(images)
    assert len(known) == num_frozen
    for level, expected in zip(known, teacher.backbone(images)[:num_frozen], strict=True):
        # bfloat16 has eight bits of precision, and a stage rounds after each of its layers.
        assert level.dtype == torch.float32
        assert (level - expected).abs().mean() < 0.02 * expected.std()
    taught, _ = FrozenTeacher(teacher)(images, known=known)
    alone, _ = FrozenTeacher(teacher)(images)
    assert (taught.cls_logits - alone.cls_logits).abs().mean() < 0.05 * alone.cls_logits.std()
    outputs, _ = student.forward_features(images, known=known)
    sum(output.square().mean() for output in outputs).backward()
    for name, parameter in student.named_parameters():
        assert (parameter.grad is None) == name.startswith((*names, "head.rescorer.", "details.")), name
    assert student.backbone.stage1[0].bn.num_batches_tracked == 0


def test_network_without_maps_cannot_be_a_teacher() -> None:
    with pytest.raises(TypeError, match=r"needs forward_features\(images\), Conv2d has none"):
        FrozenTeacher(nn.Conv2d(3, 3, 1))


def test_weights_are_copied_layer_by_layer_where_name_and_shapes_agree() -> None:
    def network(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, width, 1), nn.BatchNorm2d(width)
        )

    student, teacher = network(4), network(6)
    nn.init.constant_(teacher[1].running_mean, 7.0)
    untouched = student[2].weight.detach().clone()
    copied = copy_matching_weights(student, teacher)
    assert set(copied) == {name for name in student.state_dict() if name.startswith(("0.", "1."))}
    torch.testing.assert_close(student[0].weight, teacher[0].weight)
    assert student[1].running_mean.tolist() == [7.0] * 8
    torch.testing.assert_close(student[2].weight, untouched)
    assert student[3].running_mean.tolist() == [0.0] * 4  # though its counter would have fitted
    assert copy_matching_weights(nn.Linear(2, 2), teacher) == ()
