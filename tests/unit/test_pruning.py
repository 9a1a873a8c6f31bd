"""A student that starts as its teacher with channels left out."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from featherface.distillation.pruning import channel_importance, prune_teacher
from featherface.errors import ConfigError
from featherface.models.build import build_model
from featherface.models.detector import FeatherFace
from featherface.models.neck import downsample_over_zeros
from featherface.structures import Batch, Targets


def teacher_with_dead_channels(student: FeatherFace) -> FeatherFace:
    """A teacher of which only as many channels of each normalized map are alive as the student has.

    Where the published network has more than channels that a thin one has not (attention on the backbone,
    second reducers, a weight that dilutes a fusion), that is turned off.
    """
    teacher = build_model("v1").eval()
    turn_off_attention(teacher)
    generator = torch.Generator().manual_seed(4)
    kept_of_pyramid = torch.randperm(64, generator=generator)[:40]
    own = student.state_dict()
    # These have the channels of the layer before.
    same_as = {"backbone.stage3.1.depthwise.bn": "backbone.stage3.0.pointwise.bn"}
    same_as |= {f"shuffle.{level}.depthwise.bn": f"shuffle.{level}.squeeze.bn" for level in range(3)}
    for name, module in teacher.named_modules():
        if not isinstance(module, nn.BatchNorm2d) or module.num_features == 1:
            continue
        module.running_mean.normal_(generator=generator)
        module.running_var.uniform_(0.5, 2, generator=generator)
        nn.init.uniform_(module.weight, 0.5, 1.5)
        nn.init.normal_(module.bias, std=0.3)
        if f"{name}.weight" not in own:
            continue
        count = own[f"{name}.weight"].numel()
        alive = torch.randperm(module.num_features, generator=generator)[:count]
        if name.startswith("neck."):
            alive = kept_of_pyramid
        if name in same_as:
            alive = teacher.get_submodule(same_as[name]).weight.nonzero().squeeze(1)
        dead = torch.ones(module.num_features, dtype=torch.bool)
        dead[alive] = False
        module.weight.data[dead] = module.bias.data[dead] = 0
    for name, module in teacher.named_modules():
        if name.endswith("pointwise") and isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias)
        if name.endswith("fusions.p5_out"):
            module.weights.data[2] = 0
    neck = teacher.neck
    neck.second_reducers.load_state_dict(torch.nn.ModuleList(neck.reducers[1:]).state_dict())
    return teacher


def turn_off_attention(teacher: FeatherFace) -> None:
    for name, module in teacher.named_modules():
        if "spatial_gates" in name and isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
        elif "spatial_gates" in name and isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, -100)


def scales_of(teacher: FeatherFace) -> dict[str, Tensor]:
    """A measure of the channels that needs no images."""
    return {
        name: module.weight.detach().abs()
        for name, module in teacher.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }


@torch.no_grad()
def test_a_student_answers_as_a_teacher_whose_other_channels_are_dead() -> None:
    torch.manual_seed(0)
    student = build_model("v2-ultra", innovations=()).eval()
    teacher = teacher_with_dead_channels(student)
    filled = prune_teacher(student, teacher, scales_of(teacher))
    no_start = ("num_batches_tracked", "head.rescorer.", "details.")  # counters, and what is learnt last
    assert {name for name in student.state_dict() if not any(part in name for part in no_start)} <= set(
        filled
    )
    for repeat in student.neck.repeats:
        repeat.down = downsample_over_zeros
    for module in student.neck.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3  # as in the published neck
    images = 50 * torch.randn(2, 3, 96, 64)
    # The published attention ends with a ReLU, the student's backbone has none.
    c3, c4, c5 = (level.abs() for level in teacher.backbone(images))
    kept = student.backbone(images)[2].shape[1]
    alive = teacher.get_submodule("backbone.stage3.1.pointwise.bn").weight.nonzero().squeeze(1)
    assert alive.numel() == kept
    torch.testing.assert_close(student.backbone(images)[2], teacher.backbone(images)[2][:, alive])
    expected = from_levels(teacher, (c3, c4, c5))
    for got, want in zip(from_levels(student, (c3, c4, c5[:, alive])), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
        assert want.std() > 0.01


def from_levels(model: FeatherFace, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    model.backbone = _Given(levels)
    return model(torch.zeros(1, 3, 32, 32))


class _Given(nn.Module):
    def __init__(self, levels: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.levels = levels

    def forward(
        self, _images: Tensor, *, known: tuple[Tensor, ...], shallow: Tensor | None
    ) -> tuple[Tensor, ...]:
        assert not known
        assert shallow is None
        return self.levels


@pytest.mark.parametrize(
    ("student", "teacher"), [("v2-ultra", "v1-487k"), ("v2-ultra-reference", "v1"), ("v1", "v2-ultra")]
)
def test_networks_of_other_structure_are_refused(student: str, teacher: str) -> None:
    larger = build_model(teacher)
    with pytest.raises(ConfigError, match=r"teacher's structure .* set distill\.start to copied"):
        prune_teacher(build_model(student), larger, scales_of(larger))


def test_pruning_is_the_same_each_time_and_leaves_the_teacher_alone() -> None:
    torch.manual_seed(0)
    teacher = build_model("v1")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    first, second = build_model("v2-ultra"), build_model("v2-ultra")
    names = prune_teacher(first, teacher, scales_of(teacher))
    assert prune_teacher(second, teacher, scales_of(teacher)) == names
    own, other = first.state_dict(), second.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in names)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def loss(network: FeatherFace, batch: Batch) -> Tensor:
    return torch.stack([output.square().mean() for output in network(batch.images)]).sum()


@pytest.fixture(scope="module")
def measured() -> tuple[FeatherFace, list[Batch], Mapping[str, Tensor]]:
    """A teacher, two batches, and how much each of its channels matters in them."""
    torch.manual_seed(0)
    teacher = build_model("v1").eval().double()
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
    empty = Targets(*(torch.zeros(1, 0, *shape) for shape in ((4,), (5, 2), (), (), ())))
    batches = [
        Batch(images=torch.randn(1, 3, 32, 64).double(), targets=empty, sample_ids=("a",)) for _ in range(2)
    ]
    return teacher, batches, channel_importance(teacher, batches, loss)


@pytest.mark.parametrize(
    "name", ["backbone.stage3.0.pointwise.bn", "neck.repeats.1.convs.p4_out.bn", "shuffle.0.squeeze.bn"]
)
def test_importance_is_the_square_of_what_a_little_less_of_a_channel_changes(
    measured: tuple[FeatherFace, list[Batch], Mapping[str, Tensor]], name: str
) -> None:
    teacher, batches, of_all = measured
    importance = of_all[name]
    expected = torch.zeros_like(importance)
    step = 1e-5
    own = teacher.get_submodule(name)
    looked_at = slice(0, None, -(-importance.numel() // 10))  # each takes four times the whole network
    with torch.no_grad():
        for channel in range(importance.numel())[looked_at]:
            kept = own.weight[channel].clone(), own.bias[channel].clone()
            for batch in batches:
                values = []
                for factor in (1 + step, 1 - step):
                    own.weight[channel], own.bias[channel] = (value * factor for value in kept)
                    values.append(loss(teacher, batch))
                expected[channel] += ((values[0] - values[1]) / (2 * step)).square()
            own.weight[channel], own.bias[channel] = kept
    assert expected[looked_at].max() > 0
    # Not closer: the step may cross the kink of a ReLU.
    torch.testing.assert_close(importance[looked_at], expected[looked_at], rtol=0.05, atol=1e-12)
