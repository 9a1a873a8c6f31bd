"""Exported files: equal to their network at every size, and silent about the machine that made them."""

from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_network import Tiny, make_tiny
from torch import Tensor, nn

from featherface.errors import DataError, ModelError, OptionError
from featherface.export.latency import measure_latency
from featherface.export.onnx import export_onnx
from featherface.export.parity import check_parity
from featherface.inference.backends import OnnxBackend, TorchBackend, info_of_module
from featherface.inference.detector import FaceDetector
from featherface.inference.model_info import preprocessing
from featherface.models.build import build_model
from featherface.names import INNOVATIONS
from featherface.structures import HeadOutputs

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONS = {"architecture": "tiny", "extra": {"git_commit": "abc123", "license": "Apache-2.0"}}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return make_tiny().train()


@pytest.fixture(scope="module")
def exported(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "folder" / "tiny.onnx"
    export_onnx(model, path, info=info_of_module(model, **OPTIONS))
    return path


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)


def test_the_export_equals_its_network_at_every_size(
    model: nn.Module, exported: Path, photo: np.ndarray
) -> None:
    report = check_parity(model, exported, [photo], tolerance=1e-5, sizes_px=(32, 96, 320))
    assert set(report.max_abs_error) == {"cls_logits", "box_deltas", "landmark_deltas"}
    assert 0 < report.worst < 1e-5
    assert all(report.max_scaled_error[name] <= error for name, error in report.max_abs_error.items())
    assert {(32, 32), (96, 96), (256, 320), (320, 256)} == set(report.sizes_hw)
    assert report.batch_sizes == (1, 2)
    assert report.num_inputs == 9
    assert report.to_dict()["worst"] == report.worst


def test_convolutions_do_not_say_what_holds_unsaid(exported: Path) -> None:
    said = [
        {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        for node in onnx.load(exported).graph.node
        if node.op_type == "Conv"
    ]
    assert {"kernel_shape"} == set.intersection(*(set(settings) for settings in said))
    assert {"strides": [8, 8], "kernel_shape": [8, 8]} in said
    assert not any("auto_pad" in settings or settings.get("group") == 1 for settings in said)


def test_exporting_leaves_the_model_as_it_was(model: nn.Module, exported: Path) -> None:
    assert exported.is_file()
    assert model.training
    assert all(not parameter.is_meta for parameter in model.parameters())


def test_equal_weights_make_equal_bytes(model: nn.Module, exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    export_onnx(model, again, info=info_of_module(model, **OPTIONS))
    assert again.read_bytes() == exported.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.onnx"]


def test_the_file_tells_nothing_of_the_machine(exported: Path) -> None:
    content = exported.read_bytes()
    for word in (
        b"site-packages",
        b".py",
        b"stack_trace",
        b"pkg.torch",
        str(REPOSITORY).encode(),
        b"/home",
        b"forward",
    ):
        assert word not in content, word
    proto = onnx.load(exported)
    assert not any(node.doc_string or node.metadata_props for node in proto.graph.node)


def test_the_file_says_what_a_stranger_needs(exported: Path) -> None:
    proto = onnx.load(exported)
    onnx.checker.check_model(proto, full_check=True)
    sides = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert sides == {
        "images": ["batch", 3, "height", "width"],
        "cls_logits": ["batch", "priors", 2],
        "box_deltas": ["batch", "priors", 4],
        "landmark_deltas": ["batch", "priors", 10],
    }
    told = {item.key: item.value for item in proto.metadata_props}
    assert told["architecture"] == "tiny"
    assert told["git_commit"] == "abc123"
    assert told["strides"] == "[8, 16, 32]"
    assert told["variances"] == "[0.1, 0.2]"
    assert '"color_order": "BGR"' in told["preprocessing"]
    assert preprocessing()["mean"] == [104.0, 117.0, 123.0]
    assert OnnxBackend(exported).info.extra == OPTIONS["extra"]


def test_a_detector_finds_the_same_with_both_backends(
    model: nn.Module, exported: Path, photo: np.ndarray
) -> None:
    options = {"image_size": 192, "score_threshold": 0.0, "iou_threshold": 1.0, "max_faces": 5000}
    onnx_faces = FaceDetector(exported, **options)(photo)
    torch_faces = FaceDetector(TorchBackend(model, device="cpu"), **options)(photo)
    assert len(onnx_faces) == len(torch_faces) > 100
    np.testing.assert_allclose(onnx_faces.scores, torch_faces.scores, atol=1e-5)
    np.testing.assert_allclose(onnx_faces.boxes[:20], torch_faces.boxes[:20], atol=0.01)
    model.train()


def test_an_export_of_other_weights_is_refused(exported: Path, photo: np.ndarray) -> None:
    torch.manual_seed(1)
    with pytest.raises(
        ModelError, match=r"differs from its network by more than 0\.0001 \(cls_logits"
    ) as refusal:
        check_parity(Tiny(), exported, [photo], sizes_px=(64,))
    assert "\n" not in str(refusal.value)


def test_an_export_that_is_not_a_number_is_refused(
    model: nn.Module, exported: Path, photo: np.ndarray
) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> HeadOutputs:
            return HeadOutputs(*(output * torch.nan for output in model(images)))

    with pytest.raises(ModelError, match="cls_logits nan"):
        check_parity(Broken(), exported, [photo], sizes_px=(64,))


def test_parity_without_images_is_refused(model: nn.Module, exported: Path) -> None:
    with pytest.raises(DataError, match="at least one image"):
        check_parity(model, exported, [])


def test_a_network_that_cannot_be_traced_is_refused_in_one_line(tmp_path: Path) -> None:
    class Branching(Tiny):
        def forward(self, images: Tensor) -> HeadOutputs:
            return super().forward(images if images.mean() > 0 else images + 1)

    with pytest.raises(ModelError, match="cannot be exported to ONNX: ") as refusal:
        export_onnx(Branching(), tmp_path / "a.onnx", info=info_of_module(Tiny()))
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_refused(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not as '\.pb'"):
        export_onnx(model, tmp_path / "a.pb", info=info_of_module(model))


def test_latency_is_measured_in_turns(exported: Path) -> None:
    report = measure_latency({"a": exported, "b": exported}, input_hw=(64, 96), rounds=5, warmup_rounds=1)
    assert [len(times) for times in report.times_ms.values()] == [5, 5]
    for latency in report.latencies.values():
        assert 0 < latency.min_ms <= latency.median_ms <= latency.p90_ms
    assert report.ratio("a", "a") == 1
    assert report.ratio("a", "b") == pytest.approx(1 / report.ratio("b", "a"))
    plain = report.to_dict()
    assert plain["input_hw"] == [64, 96]
    assert set(plain["latency_ms"]) == {"a", "b"}


def test_latency_of_what_cannot_run_is_refused(exported: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no")
    with pytest.raises(ModelError, match=r"broken\.onnx: is no ONNX file"):
        measure_latency({"a": broken})
    for wrong in ({"models": {}}, {"models": {"a": exported}, "rounds": 0}):
        with pytest.raises(OptionError, match="latency needs files, rounds and threads"):
            measure_latency(**wrong)


# None, each alone, each left out: every two innovations are seen together, apart, and both away.
SUBSETS = [("v2-ultra", subset) for size in (0, 1, 4) for subset in combinations(INNOVATIONS, size)]
WHOLE = [(name, None) for name in ("v2-ultra", "v2-ultra-reference", "v1-487k", "v1")]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a trace takes some twenty seconds of a free core, and more on a crowded machine
@pytest.mark.parametrize(("architecture", "innovations"), [*WHOLE, *SUBSETS])
def test_every_network_exports(
    architecture: str, innovations: tuple[str, ...] | None, tmp_path: Path, photo: np.ndarray
) -> None:
    torch.manual_seed(0)
    detector = build_model(architecture, innovations=innovations)
    # Without statistics of its own an untrained network answers in hundreds, and rounds accordingly.
    with torch.no_grad():
        for _ in range(30):
            detector(torch.rand(4, 3, 96, 96) * 255 - 110)
        if detector.details is not None:
            nn.init.normal_(detector.details.to_p3.weight, std=0.1)
    path = tmp_path / "model.onnx"
    export_onnx(detector, path, info=info_of_module(detector, architecture=architecture))
    assert check_parity(detector, path, [photo], sizes_px=(32, 160, 320)).worst <= 1e-4
