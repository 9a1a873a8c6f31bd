"""Where a student starts: the teacher's weights, another student's, or neither."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from featherface.config import DistillConfig, ModelConfig
from featherface.distillation.losses import DistillationLosses, distillation_loss
from featherface.distillation.student import StudentTraining
from featherface.errors import ConfigError
from featherface.models.build import build_model
from featherface.models.detector import FeatherFace
from featherface.structures import Batch, Targets


def network(seed: int, architecture: str = "v2-ultra") -> FeatherFace:
    torch.manual_seed(seed)
    return build_model(architecture).eval()


def settings(**changes: object) -> DistillConfig:
    return DistillConfig.model_validate({"enabled": False, **changes})


def batch() -> Batch:
    """Two views with a face in the first."""
    flags = torch.tensor([[True], [False]])
    none = torch.zeros_like(flags)
    boxes_xyxy = torch.tensor([[[8.0, 8.0, 40.0, 40.0]], [[0.0] * 4]])
    images = 50 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return Batch(images, Targets(boxes_xyxy, torch.zeros(2, 1, 5, 2), none, flags, none), ("a.jpg", "b.jpg"))


@pytest.mark.parametrize("kind", ["is_face", "is_ignored"])
def test_faces_that_people_saw_are_no_hard_negatives_of_the_teacher(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are ignored as well: too small or cut, they are faces all the same."""
    seen: list[torch.Tensor] = []

    def spy(*outputs: Any, is_annotated: torch.Tensor, **settings: Any) -> DistillationLosses:
        seen.append(is_annotated)
        return distillation_loss(*outputs, is_annotated=is_annotated, **settings)

    monkeypatch.setattr("featherface.distillation.student.distillation_loss", spy)
    flags = {
        "is_face": torch.zeros(2, 1, dtype=torch.bool),
        "is_ignored": torch.zeros(2, 1, dtype=torch.bool),
    }
    flags[kind] = torch.tensor([[True], [False]])
    views = replace(batch(), targets=replace(batch().targets, **flags))
    StudentTraining(ModelConfig(), settings(enabled=True), network(2, "v1-487k")).losses(views, progress=0.0)
    (is_annotated,) = seen
    assert is_annotated.any(dim=1).tolist() == [True, False]


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


@pytest.mark.parametrize("frozen_stages", [0, 2])
def test_maps_that_the_heads_read_are_imitated_if_asked(frozen_stages: int) -> None:
    teacher = network(2, "v1-487k")
    asked = settings(enabled=True, frozen_stages=frozen_stages, neck_feature_weight=2.0)
    training = StudentTraining(ModelConfig(), asked, teacher)
    losses = training.losses(batch(), 0.5)
    assert 0 < losses["distill_neck_feature"].item() <= 2 * 2.0
    torch.stack(list(losses.values())).sum().backward()
    assert training.adapters is not None
    learning = list(training.adapters.parameters())
    assert len(learning) == 1 + 3, "one for C5, one for each level of the neck"
    assert all(parameter.grad is not None for parameter in learning)
    with torch.no_grad():
        learning[0].zero_()
        losses = training.losses(batch(), 0.5)
    if frozen_stages == 2:  # nothing but C5 is left to imitate in the backbone
        assert losses["distill_feature"].item() == pytest.approx(asked.feature_weight)
        assert losses["distill_neck_feature"].item() < 2.0
    assert not teacher.training
    StudentTraining(ModelConfig(), asked, teacher.train())
    assert teacher.training, "the teacher is not changed"
    teacher.eval()
    without = StudentTraining(ModelConfig(), asked.model_copy(update={"neck_feature_weight": 0.0}), teacher)
    assert "distill_neck_feature" not in without.losses(batch(), 0.5)
    assert without.adapters is not None
    assert len(list(without.adapters.parameters())) == 1
    nothing = asked.model_copy(update={"feature_weight": 0.0, "neck_feature_weight": 0.0})
    neither = StudentTraining(ModelConfig(), nothing, teacher)
    assert neither.adapters is not None
    assert not list(neither.adapters.parameters())
    assert {name for name in neither.losses(batch(), 0.5) if name.startswith("distill")} == {
        "distill_logit",
        "distill_box",
        "distill_landmark",
    }


def test_each_loss_weighs_what_the_settings_say() -> None:
    teacher = network(2, "v1-487k")
    with torch.no_grad():
        for conv in teacher.head.cls:
            conv.weight.zero_()  # undecided about every prior, or boxes would teach nothing
            conv.bias.zero_()
    names = ("task", "logit", "box", "landmark", "feature", "neck_feature")
    plain = {f"{name}_weight": 1.0 for name in names}
    training = StudentTraining(ModelConfig(), settings(enabled=True, **plain), teacher)
    training.student.eval()
    known = batch()
    targets = replace(known.targets, has_landmarks=known.targets.is_face)
    with torch.no_grad():
        each = training.losses(replace(known, targets=targets), 0.5)
        weights = dict(zip(names, (2.0, 3.0, 5.0, 7.0, 11.0, 13.0), strict=True))
        training._distill = settings(enabled=True, **{f"{name}_weight": w for name, w in weights.items()})
        weighted = training.losses(replace(known, targets=targets), 0.5)
        sharper = training.losses(replace(known, targets=targets), 0.9)
    assert min(each.values()) > 0
    expected = {name: weights[name.removeprefix("distill_")] for name in each if name.startswith("distill_")}
    expected |= dict.fromkeys(("cls", "box", "landmark"), 2.0)
    assert {name: float(weighted[name] / each[name]) for name in each} == pytest.approx(expected, rel=1e-3)
    assert sharper["distill_logit"] != weighted["distill_logit"], "the temperature falls"
    training._distill = settings(enabled=True, **plain, confidence_threshold=0.9)
    with torch.no_grad():
        assert training.losses(known, 0.5)["distill_box"] == 0, "the teacher is sure of nothing"


def test_the_teachers_silence_does_not_unteach_annotated_faces() -> None:
    teacher = network(2, "v1-487k")
    training = StudentTraining(ModelConfig(), settings(enabled=True), teacher)
    training.student.eval()  # batch statistics would be others the second time
    seen = batch()
    unseen = replace(seen, targets=replace(seen.targets, is_face=torch.zeros_like(seen.targets.is_face)))
    with torch.no_grad():
        logit, without = (float(training.losses(each, 1.0)["distill_logit"]) for each in (seen, unseen))
    # All priors are candidates for hard negatives, but those of the annotated face.
    assert logit != without
