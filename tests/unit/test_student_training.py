"""Where a student starts: the teacher's weights, another student's, or neither."""

from __future__ import annotations

import pytest
import torch

from featherface.config import DistillConfig, ModelConfig
from featherface.distillation.student import StudentTraining
from featherface.errors import ConfigError
from featherface.models.build import build_model
from featherface.models.detector import FeatherFace


def network(seed: int, architecture: str = "v2-ultra") -> FeatherFace:
    torch.manual_seed(seed)
    return build_model(architecture).eval()


def settings(**changes: object) -> DistillConfig:
    return DistillConfig.model_validate({"enabled": False, **changes})


def test_a_student_goes_on_from_another_one() -> None:
    before = network(1)
    training = StudentTraining(ModelConfig(), settings(), network(2, "v1-487k"), initial=before)
    state = training.student.state_dict()
    assert training.num_copied == len(state)
    assert all(torch.equal(state[name], value) for name, value in before.state_dict().items())
    with torch.no_grad():
        next(training.student.parameters()).add_(1)
    assert not torch.equal(next(training.student.parameters()), next(before.parameters())), "it is a copy"


def test_a_student_of_another_network_is_no_start() -> None:
    other = network(1, "v2-ultra-reference")
    with pytest.raises(ConfigError, match=r"initial_weights are of another network.*model\.architecture"):
        StudentTraining(ModelConfig(), settings(), network(2, "v1-487k"), initial=other)


def test_stages_that_are_not_the_teachers_cannot_stay_as_the_teacher_has_them() -> None:
    teacher = network(2, "v1-487k")
    frozen = settings(frozen_stages=1)
    with pytest.raises(ConfigError, match=r"backbone\.stage1 starts as another"):
        StudentTraining(ModelConfig(), frozen, teacher, initial=network(1))
    with pytest.raises(ConfigError, match=r"set distill\.start to 'copied' or 'pruned'"):
        StudentTraining(ModelConfig(), settings(frozen_stages=1, start="random"), teacher)
    first = StudentTraining(ModelConfig(), frozen, teacher).student.eval()
    second = StudentTraining(ModelConfig(), frozen, teacher, initial=first).student
    trained = {name for name, parameter in second.named_parameters() if parameter.requires_grad}
    assert trained
    assert not any(name.startswith("backbone.stage1") for name in trained)
