"""Stages with another activation that learn to answer as a teacher's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featherface.config import DistillConfig, ModelConfig
from featherface.distillation.imitation import answers_alike, imitate_stages
from featherface.distillation.student import StudentTraining
from featherface.distillation.teacher import FrozenTeacher
from featherface.models.build import build_model
from featherface.models.layers import Activation, SeparableConv, leaky_relu, relu
from featherface.structures import Batch, Targets

STEPS = 60


def stages(activation: Activation) -> list[nn.Module]:
    """Two stages that end as those of a backbone do."""
    torch.manual_seed(0)
    made: list[nn.Module] = []
    for channels in (3, 12):
        last = SeparableConv(12, 12, activation=activation, last_activation=leaky_relu)
        made.append(nn.Sequential(SeparableConv(channels, 12, stride=2, activation=activation), last))
    return made


def pair() -> tuple[list[nn.Module], list[nn.Module]]:
    """A teacher's stages with the statistics of what they see, and such with ReLU of the same weights."""
    originals, others = stages(leaky_relu), stages(relu)
    for module in nn.ModuleList(originals).modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.3)
            module.momentum = None  # the mean over all batches
    with torch.no_grad():
        for batch in views(4):
            answers(originals, batch.images)
    for original, other in zip(originals, others, strict=True):
        other.load_state_dict(original.eval().state_dict())
    return originals, others


def answers(modules: list[nn.Module], images: Tensor) -> Tensor:
    first, second = modules
    answer: Tensor = second(first(images))
    return answer


def views(count: int) -> list[Batch]:
    flags = [torch.zeros(2, 0, dtype=torch.bool)] * 3
    empty = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, 5, 2), *flags)
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(50 * torch.randn(2, 3, 64, 64, generator=generator), empty, ("a", "b")) for _ in range(count)
    ]


@torch.no_grad()
def unexplained(own: list[nn.Module], originals: list[nn.Module]) -> float:
    nn.ModuleList(own).eval()
    images = torch.cat([batch.images for batch in views(4)])
    wanted = answers(originals, images)
    return float((answers(own, images) - wanted).square().mean() / wanted.var())


def test_stages_come_nearer_to_what_they_imitate_and_those_stay_as_they_are() -> None:
    originals, own = pair()
    before = copy.deepcopy(nn.ModuleList(originals).state_dict())
    at_start = unexplained(own, originals)
    left = imitate_stages(own, originals, views(STEPS), steps=STEPS)
    assert unexplained(own, originals) < 0.7 * at_start
    assert 0 < left < 0.7 * at_start
    assert not any(stage.training for stage in own)
    assert all(
        torch.equal(value, before[name]) for name, value in nn.ModuleList(originals).state_dict().items()
    )


def test_the_same_batches_give_the_same_stages() -> None:
    def imitated() -> dict[str, Tensor]:
        originals, own = pair()
        imitate_stages(own, originals, views(3), steps=3)
        return nn.ModuleList(own).state_dict()

    first, second = imitated(), imitated()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_too_few_batches_are_told() -> None:
    originals, own = pair()
    with pytest.raises(ValueError, match="3 steps need as many batches, got 2"):
        imitate_stages(own, originals, views(2), steps=3)


def test_only_equal_weights_and_activations_answer_alike() -> None:
    originals, own = pair()
    assert answers_alike(originals, copy.deepcopy(originals))
    assert not answers_alike(own, originals), "ReLU and LeakyReLU"
    changed = copy.deepcopy(originals)
    first = changed[0].get_submodule("0.depthwise.bn")
    assert isinstance(first, nn.BatchNorm2d)
    assert first.num_batches_tracked is not None
    assert first.running_mean is not None
    first.num_batches_tracked += 1
    assert answers_alike(changed, originals), "a count computes nothing"
    first.running_mean[0] += 1
    assert not answers_alike(changed, originals)


@pytest.mark.parametrize("is_alike", [True, False])
def test_a_teacher_looks_with_its_own_stages_unless_the_students_are_the_same(
    is_alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = build_model("v2-ultra" if is_alike else "v1-487k").eval()
    training = StudentTraining(ModelConfig(), DistillConfig(frozen_stages=2), teacher)
    known: list[int] = []
    look = FrozenTeacher.__call__

    def spy(self: FrozenTeacher, images: Tensor, **given: Any) -> Any:
        known.append(len(given["known"]))
        return look(self, images, **given)

    monkeypatch.setattr(FrozenTeacher, "__call__", spy)
    training.losses(views(1)[0], 0.0)
    assert known == [2 if is_alike else 0]


@pytest.mark.parametrize("steps", [0, 2])
def test_a_student_imitates_for_as_many_steps_as_it_is_told(steps: int) -> None:
    torch.manual_seed(0)
    teacher = build_model("v1-487k").eval()
    settings = DistillConfig.model_validate({"frozen_stages": 2, "imitation_steps": steps, "enabled": True})
    asked: list[int] = []

    def batches(count: int) -> list[Batch]:
        asked.append(count)
        return views(count)

    training = StudentTraining(ModelConfig(), settings, teacher, batches=batches)
    assert asked == [steps] * bool(steps)
    own, theirs = training.student.state_dict(), teacher.state_dict()
    name = "backbone.stage1.0.conv.weight"
    assert torch.equal(own[name], theirs[name]) == (steps == 0)
