"""What a network sees of tiny faces: where it starts, what it adds, and that nothing else changes."""

from pathlib import Path

import pytest
import torch

from featherface.config import DistillConfig, ModelConfig
from featherface.distillation.student import StudentTraining
from featherface.errors import ConfigError
from featherface.models.build import build_model
from featherface.models.detector import FeatherFace
from featherface.models.layers import SeparableConv
from featherface.structures import Batch, Targets


def noise(*shape: int) -> torch.Tensor:
    return 50 * torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def trained_looking() -> FeatherFace:
    """A student whose weights are as large as those of a trained one."""
    model = build_model("v2-ultra")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif name.endswith("running_mean"):
                tensor.normal_(generator=generator)
    return model


def a_face(size_px: int = 64) -> Batch:
    boxes = torch.tensor([[[20.0, 20.0, 32.0, 34.0]]])
    yes, no = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.bool)
    targets = Targets(boxes, torch.zeros(1, 1, 5, 2), has_landmarks=no, is_face=yes, is_ignored=no)
    return Batch(noise(1, 3, size_px, size_px), targets, ("one",))


def learning_details(initial: FeatherFace | None, **changes: object) -> StudentTraining:
    settings = {"enabled": False, "learn": "details", "initial_weights": "student.safetensors", **changes}
    return StudentTraining(
        ModelConfig(), DistillConfig.model_validate(settings), build_model("v1"), initial=initial
    )


def test_untrained_details_add_nothing() -> None:
    model = trained_looking().eval()
    with_details = model(noise(1, 3, 64, 96))
    assert model.details is not None
    assert not model.details.is_trained
    model.details = None
    for got, want in zip(model(noise(1, 3, 64, 96)), with_details, strict=True):
        torch.testing.assert_close(got, want)


def test_trained_details_change_what_the_first_level_says_and_no_other() -> None:
    model = trained_looking().eval()
    before = model(noise(1, 3, 64, 64))
    assert model.details is not None
    with torch.no_grad():
        model.details.to_p3.weight.fill_(0.1)
    after = model(noise(1, 3, 64, 64))
    of_p3 = 2 * (64 // 8) ** 2
    for old, new in zip(before, after, strict=True):
        assert not torch.allclose(old[:, :of_p3], new[:, :of_p3])
        assert torch.equal(old[:, of_p3:], new[:, of_p3:])


def test_details_start_as_the_backbones_own_layers() -> None:
    initial = trained_looking()
    training = learning_details(initial)
    details = training.student.details
    assert details is not None
    shallow = noise(1, 16, 32, 32)
    own: torch.Tensor = shallow
    theirs: torch.Tensor = shallow
    for layer, original in zip(details.layers.eval(), initial.backbone.stage1.eval()[2:], strict=True):
        assert isinstance(layer, SeparableConv)
        own, theirs = layer(own), original(theirs)
    assert torch.equal(own, theirs)


def test_details_that_have_learnt_go_on_from_there() -> None:
    initial = trained_looking()
    assert initial.details is not None
    with torch.no_grad():
        initial.details.to_p3.weight.fill_(0.1)
    training = learning_details(initial)
    assert training.student.details is not None
    for name, tensor in initial.details.state_dict().items():
        assert torch.equal(training.student.details.state_dict()[name], tensor), name


def test_a_step_changes_the_details_alone() -> None:
    training = learning_details(trained_looking())
    before = {name: value.clone() for name, value in training.student.state_dict().items()}
    training.student.train()
    learning = [parameter for parameter in training.student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.1)
    for _ in range(2):  # the first opens the way to the layers behind
        optimizer.zero_grad()
        torch.stack([*training.losses(a_face(), 0.0).values()]).sum().backward()
        optimizer.step()
    changed = {
        name for name, value in training.student.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {name.partition(".")[0] for name in changed} == {"details"}
    assert {"details.layers.0.depthwise.conv.weight", "details.to_p3.weight"} <= changed


def test_scores_are_softened_once() -> None:
    initial = trained_looking()
    training = learning_details(initial, score_temperature=1.25)
    training.student.head.soften(1.25)
    for name, tensor in initial.head.cls.state_dict().items():
        torch.testing.assert_close(training.student.head.cls.state_dict()[name], tensor)


@pytest.mark.parametrize("changes", [{"initial_weights": None}], ids=["no student"])
def test_details_of_no_trained_student_are_refused(changes: dict[str, Path | None]) -> None:
    with pytest.raises(ConfigError, match=r"give one as distill\.initial_weights"):
        learning_details(None, **changes)
