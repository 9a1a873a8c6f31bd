"""Statistics of whole photographs: what they are, what they change, and what stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.config import Config, RescoreConfig
from featherface.data.synthetic import synthesize_dataset
from featherface.data.widerface import Sample, open_widerface
from featherface.errors import DataError
from featherface.imaging import letterbox, read_image, resize_long_side, to_network_input
from featherface.inference.weights import load_model, save_weights
from featherface.models.build import build_model
from featherface.models.detector import FeatherFace
from featherface.names import INNOVATIONS
from featherface.stages import STAGES, names
from featherface.stages.base import Workspace
from featherface.training.norm_statistics import adapt_statistics

SHARED = ("backbone.stage1", "backbone.stage2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "data"
    synthesize_dataset(root, num_train=3, num_val=1, image_hw=(96, 160), seed=1)
    return root


@pytest.fixture(scope="module")
def samples(data: Path) -> tuple[Sample, ...]:
    return open_widerface(data, "train")


def network() -> FeatherFace:
    torch.manual_seed(0)
    return build_model("v2-ultra").eval()


def settings(**changes: Any) -> RescoreConfig:
    return RescoreConfig.model_validate(
        {
            "statistics_share": 1.0,
            "long_sides_px": [128],
            "flip_probability": 0.0,
            "num_threads": 1,
            **changes,
        }
    )


def state(student: FeatherFace) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in student.state_dict().items()}


def inputs(samples: tuple[Sample, ...]) -> list[Tensor]:
    views = [letterbox(resize_long_side(read_image(each.path), 128)[0]).image for each in samples]
    return [torch.from_numpy(to_network_input(view)[None]) for view in views]


def test_they_are_the_mean_of_what_each_photograph_has_at_the_first_normalization_that_changes(
    samples: tuple[Sample, ...],
) -> None:
    student = network()
    maps: list[Tensor] = []
    layer = student.backbone.stage3[0].depthwise  # type: ignore[union-attr, index]
    hook = layer.conv.register_forward_hook(lambda *called: maps.append(called[2]))
    with torch.no_grad():
        for images in inputs(samples):
            student(images)
    hook.remove()
    assert adapt_statistics(student, samples, settings()) == len(samples) == len(maps)
    means = torch.stack([each.mean(dim=(0, 2, 3)) for each in maps]).mean(dim=0)
    variances = torch.stack([each.var(dim=(0, 2, 3)) for each in maps]).mean(dim=0)
    torch.testing.assert_close(layer.bn.running_mean, means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.bn.running_var, variances, rtol=1e-4, atol=1e-5)


def test_a_photograph_is_normalized_as_it_would_be_in_training(samples: tuple[Sample, ...]) -> None:
    """With one photograph and all of the share, the network answers as with its statistics computed then."""
    student = network()
    (images,) = inputs(samples[:1])
    training = network()
    for name, module in training.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not name.startswith(SHARED):
            module.momentum = 1.0
            module.train()
    with torch.no_grad():
        training(images)
    adapt_statistics(student, samples[:1], settings(statistics_photographs=1))
    for name, value in state(training).items():
        if name.startswith("backbone.stage3") and "running" in name:
            torch.testing.assert_close(student.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_share_lies_between_and_only_statistics_change(samples: tuple[Sample, ...], share: float) -> None:
    before, partly, wholly = network(), network(), network()
    adapt_statistics(partly, samples, settings(statistics_share=share))
    adapt_statistics(wholly, samples, settings())
    changed = 0
    for name, value in state(before).items():
        new = partly.state_dict()[name]
        if "running" in name and not name.startswith(SHARED):
            torch.testing.assert_close(new, torch.lerp(value, wholly.state_dict()[name], share))
            changed += int(not torch.equal(new, value))
        else:
            assert torch.equal(new, value), name
    assert changed > 20
    assert not any(module.training for module in partly.modules())


def test_as_many_photographs_as_asked_are_drawn_the_same_each_time(samples: tuple[Sample, ...]) -> None:
    students = [network() for _ in range(3)]
    drawn = settings(statistics_photographs=2, long_sides_px=[96, 128, 160], flip_probability=0.5)
    assert [adapt_statistics(each, samples, drawn) for each in students[:2]] == [2, 2]
    assert adapt_statistics(students[2], samples, drawn.model_copy(update={"seed": 5})) == 2
    first, second, other = (state(each) for each in students)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_none_to_look_at_is_an_error() -> None:
    with pytest.raises(DataError, match="there is no photograph to learn from"):
        adapt_statistics(network(), (), settings())


def test_the_stage_does_it_with_a_second_opinion_and_without(tmp_path: Path, data: Path) -> None:
    workspace = Workspace(tmp_path)
    save_weights(
        tmp_path / names.DISTILLED_WEIGHTS, network(), architecture="v2-ultra", innovations=INNOVATIONS
    )
    workspace.write_text(names.VALIDATION_REPORT, "{}")
    (tmp_path / "data").symlink_to(data)
    before = load_model(tmp_path / names.DISTILLED_WEIGHTS)
    for share in (0.0, 0.35):
        result = STAGES["rescore"].run(Config(rescore=settings(statistics_share=0.5, share=share)), workspace)
        assert result.summary.startswith("statistics of 3 whole photographs, share 0.5")
        finished = load_model(tmp_path / names.STUDENT_WEIGHTS)
        image = 50 * torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, 64, 96)).astype("float32"))
        with torch.no_grad():
            distance = F.mse_loss(finished(image).box_deltas, before(image).box_deltas)
        assert distance > 0
