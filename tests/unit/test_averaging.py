"""The mean of several students' weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from featherface.cli import main
from featherface.config import DistillConfig
from featherface.errors import ModelError
from featherface.files import sha256_of
from featherface.inference.weights import load_model, load_model_with_info, save_weights
from featherface.models.build import build_model
from featherface.names import INNOVATIONS
from featherface.stages.report import describe_training
from featherface.training.averaging import average_students


def write_student(
    path: Path, seed: int, *, innovations: tuple[str, ...] = INNOVATIONS, share: float = 0.0
) -> Path:
    torch.manual_seed(seed)
    model = build_model("v2-ultra", innovations=innovations)
    assert model.head.rescorer is not None
    model.head.rescorer.share.fill_(share)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d) and part.num_batches_tracked is not None:
            part.num_batches_tracked.fill_(100 + seed)
    save_weights(path, model, architecture="v2-ultra", innovations=innovations)
    return path


def test_every_weight_is_the_mean_and_the_file_says_of_what(tmp_path: Path) -> None:
    paths = [write_student(tmp_path / f"{seed}.safetensors", seed, share=0.5) for seed in range(3)]
    average_students(paths, tmp_path / "mean.safetensors")
    averaged, info = load_model_with_info(tmp_path / "mean.safetensors")
    assert info.extra["mean_of"].split() == [sha256_of(path) for path in paths]
    states = [load_model(path).state_dict() for path in paths]
    num_compared = 0
    for name, tensor in averaged.state_dict().items():
        if name == "head.rescorer.share":
            assert tensor == 0, "second opinions have no mean"
        elif not tensor.is_floating_point():
            assert tensor == 100, "the first one's counter"
        else:
            expected = sum(state[name].double() for state in states) / 3
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)
            num_compared += 1
    assert num_compared > 100


def test_the_mean_of_a_student_with_itself_is_itself(tmp_path: Path) -> None:
    path = write_student(tmp_path / "one.safetensors", 0)
    average_students([path, path], tmp_path / "mean.safetensors")
    own = load_model(path).state_dict()
    for name, tensor in load_model(tmp_path / "mean.safetensors").state_dict().items():
        assert torch.equal(tensor, own[name]), name


def test_a_report_says_of_how_many_students_the_start_was_the_mean(tmp_path: Path) -> None:
    paths = [write_student(tmp_path / f"{seed}.safetensors", seed) for seed in range(2)]
    average_students(paths, tmp_path / "mean.safetensors")
    digests = ", ".join(sha256_of(path)[:8] for path in paths)
    for name, origin in {"mean": f"the mean of 2 students ({digests})", "0": "a student"}.items():
        distill = DistillConfig(initial_weights=f"{name}.safetensors")
        digest = sha256_of(tmp_path / f"{name}.safetensors")[:16]
        assert f"went on from {origin} with the digest {digest}," in describe_training(distill, root=tmp_path)


def test_one_student_or_another_network_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_student(tmp_path / "one.safetensors", 0)
    other = write_student(tmp_path / "other.safetensors", 0, innovations=("feature_reuse",))
    with pytest.raises(ModelError, match="needs two students at least, got 1"):
        average_students([path], tmp_path / "mean.safetensors")
    with pytest.raises(SystemExit) as left:
        main(["average", str(path), str(other), "--out", str(tmp_path / "mean.safetensors")])
    assert left.value.code == 2
    assert "other.safetensors: is v2-ultra with 1 innovations" in capsys.readouterr().err
    assert not (tmp_path / "mean.safetensors").exists()
