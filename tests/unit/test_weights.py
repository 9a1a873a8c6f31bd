"""Weights on disk: what is written is what is read, and everything else is refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from featherface.errors import ModelError
from featherface.inference.backends import TorchBackend
from featherface.inference.detector import FaceDetector
from featherface.inference.weights import (
    load_model,
    load_model_with_info,
    load_public_v1,
    save_weights,
)
from featherface.models.build import build_model

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PUBLIC_V1 = SHARED / "teacher" / "featherface_v1.safetensors"
needs_shared = pytest.mark.skipif(not PUBLIC_V1.is_file(), reason=f"no published weights at {PUBLIC_V1}")

INNOVATIONS = ("feature_reuse", "dynamic_weight_sharing")


@pytest.fixture(scope="module")
def student() -> nn.Module:
    torch.manual_seed(0)
    return build_model("v2-ultra", innovations=INNOVATIONS).eval()


@pytest.fixture
def saved(student: nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "student.safetensors"
    save_weights(path, student, architecture="v2-ultra", innovations=INNOVATIONS, extra={"epoch": "3"})
    return path


def test_what_was_saved_is_what_is_loaded(student: nn.Module, saved: Path) -> None:
    model, info = load_model_with_info(saved)
    assert not model.training
    assert (info.architecture, info.innovations, dict(info.extra)) == (
        "v2-ultra",
        INNOVATIONS,
        {"epoch": "3"},
    )
    assert info.strides == model.strides
    expected = student.state_dict()
    assert model.state_dict().keys() == expected.keys()
    for name, tensor in load_model(saved).state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_equal_weights_make_equal_bytes(student: nn.Module, tmp_path: Path) -> None:
    contents = set()
    for index in range(8):  # a hash table's order changes from write to write
        path = tmp_path / f"{index}.safetensors"
        extra = {"data": "1", "commit": "2", "epoch": "3"}
        save_weights(path, student, architecture="v2-ultra", innovations=INNOVATIONS, extra=extra)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert len(list(tmp_path.iterdir())) == 8  # no temporary file stays


def test_a_detector_runs_a_weights_file(student: nn.Module, saved: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    options = {"image_size": "original", "score_threshold": 0.0}
    from_file = FaceDetector(saved, device="cpu", **options)
    from_memory = FaceDetector(TorchBackend(student, device="cpu"), **options)
    assert len(from_file(image)) > 0
    # Read from a file its normalizations are folded: other rounding.
    np.testing.assert_allclose(from_file(image).boxes, from_memory(image).boxes, atol=1e-3)
    assert from_file.info.innovations == INNOVATIONS


def test_shared_weights_are_saved_for_each_of_their_names(tmp_path: Path) -> None:
    shared = nn.Linear(2, 2)
    path = tmp_path / "shared.safetensors"
    save_weights(path, nn.ModuleList([shared, shared]), architecture="x")
    tensors = load_file(path)
    assert sorted(tensors) == ["0.bias", "0.weight", "1.bias", "1.weight"]
    assert torch.equal(tensors["0.weight"], tensors["1.weight"])


def test_weights_of_another_network_are_refused(saved: Path, tmp_path: Path) -> None:
    tensors = load_file(saved)
    about = {
        "featherface_schema": "1",
        "architecture": "v2-ultra",
        "innovations": list(INNOVATIONS),
        "extra": {},
    }
    name = min(key for key, value in tensors.items() if value.ndim == 4)

    def refuse(changed: dict[str, torch.Tensor], message: str, **changes: object) -> None:
        path = tmp_path / "changed.safetensors"
        save_file(changed, path, metadata={"featherface": json.dumps(about | changes)})
        with pytest.raises(ModelError, match=message) as refusal:
            load_model(path)
        assert "\n" not in str(refusal.value)
        assert str(path) in str(refusal.value)

    refuse(
        {key: value for key, value in tensors.items() if key != name},
        f"does not fit 'v2-ultra': {name} is missing",
    )
    refuse(tensors | {"extra.weight": torch.zeros(1)}, r"extra\.weight is unknown")
    refuse(tensors | {name: torch.zeros(1, 2)}, rf"{name} has shape \(1, 2\) instead of")
    refuse(tensors, "is missing; .* more differences", architecture="v1", innovations=[])
    refuse(tensors, "names a network that cannot be built .*'v7'", architecture="v7")
    refuse(tensors, "names a network that cannot be built .*'magic'", innovations=["magic"])
    refuse(tensors, "names a network that cannot be built", extra=3)
    refuse(tensors, "weights schema '9', this version of featherface reads '1'", featherface_schema="9")
    refuse({"weight": torch.zeros(1)}, "is missing")


def test_broken_metadata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for text in ("{", "[]", "{}"):
        save_file({"weight": torch.zeros(1)}, path, metadata={"featherface": text})
        with pytest.raises(ModelError, match="its metadata is broken"):
            load_model(path)


def test_files_that_hold_no_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    for name, bad in {"empty": b"", "text": b"hello weights", "cut": content[: len(content) // 2]}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(bad)
        for load in (load_model, load_public_v1):
            with pytest.raises(ModelError, match="is no complete safetensors file") as refusal:
                load(path)
            assert "\n" not in str(refusal.value)
    with pytest.raises(ModelError, match=r"absent\.safetensors: does not exist; give a"):
        load_model(tmp_path / "absent.safetensors")
    with pytest.raises(ModelError, match="is a folder"):
        load_public_v1(tmp_path)


def test_unknown_weights_without_metadata_are_no_public_network(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(1)}, path)
    for load in (load_model, load_public_v1):
        with pytest.raises(ModelError, match=r"other\.safetensors: .*'conv\.weight'"):
            load(path)


def test_our_weights_are_no_public_network(saved: Path) -> None:
    with pytest.raises(ModelError, match="no weights of the published FeatherFace"):
        load_public_v1(saved)


def test_weights_are_written_under_the_right_suffix_into_a_folder(student: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not as '\.pth'"):
        save_weights(tmp_path / "a.pth", student, architecture="v2-ultra")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        save_weights(tmp_path / "file" / "a.safetensors", student, architecture="v2-ultra")


@pytest.mark.shared
@needs_shared
def test_published_weights_give_the_published_outputs() -> None:
    probe = np.load(SHARED / "teacher" / "probe_v1.npz")
    mean = np.array([104, 117, 123], dtype=np.float32)[:, None, None]
    for model in (load_public_v1(PUBLIC_V1), load_model(PUBLIC_V1)):
        outputs = TorchBackend(model, device="cpu")(probe["bgr_uint8"].astype(np.float32)[None] - mean)
        for name, array in outputs._asdict().items():
            np.testing.assert_allclose(array[0], probe[name], atol=1e-4)
    assert load_model_with_info(PUBLIC_V1)[1].architecture == "v1"
