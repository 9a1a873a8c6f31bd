"""Backends and how a model is found, with an ONNX network of three convolutions that is made here."""

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import EntryPoint
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from featherface.errors import ModelError, OptionError
from featherface.export.suppression import add_suppression
from featherface.imaging import to_network_input, write_image
from featherface.inference import loading
from featherface.inference.backends import NetworkOutputs, OnnxBackend, TorchBackend, info_of_module
from featherface.inference.detector import FaceDetector
from featherface.inference.loading import open_backend, resolve_model
from featherface.inference.model_info import ModelInfo
from featherface.inference.postprocess import postprocess
from featherface.models.priors import make_priors
from featherface.structures import HeadOutputs

OUTPUT_SIZES = {"cls_logits": 2, "box_deltas": 4, "landmark_deltas": 10}


def tiny_onnx(metadata: Mapping[str, str] | None = None, *, input_name: str = "images") -> bytes:
    """One convolution a level, as large as its stride, to 16 numbers for each of two priors a cell."""
    rng = np.random.default_rng(5)
    nodes, weights, levels = [], [], []
    for stride in (8, 16, 32):
        weight = rng.normal(0, 0.3 / stride**2, (32, 3, stride, stride)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"weight{stride}"))
        nodes += [
            helper.make_node(
                "Conv", [input_name, f"weight{stride}"], [f"map{stride}"], strides=[stride, stride]
            ),
            helper.make_node("Transpose", [f"map{stride}"], [f"last{stride}"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [f"last{stride}", "flat"], [f"level{stride}"]),
        ]
        levels.append(f"level{stride}")
    weights.append(numpy_helper.from_array(np.array([0, -1, 16], dtype=np.int64), "flat"))
    weights.append(numpy_helper.from_array(np.array([2, 4, 10], dtype=np.int64), "sizes"))
    nodes.append(helper.make_node("Concat", levels, ["all"], axis=1))
    nodes.append(helper.make_node("Split", ["all", "sizes"], list(OUTPUT_SIZES), axis=2))
    image = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", 3, "height", "width"])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "priors", size])
        for name, size in OUTPUT_SIZES.items()
    ]
    graph = helper.make_graph(nodes, "tiny", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    return model.SerializeToString()


class TinyTorch(torch.nn.Module):
    strides = (8, 16, 32)
    min_sizes_px = ((16, 32), (64, 128), (256, 512))

    def __init__(self) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)
        self.offset = torch.nn.Parameter(torch.tensor(0.25))

    def forward(self, images: torch.Tensor) -> HeadOutputs:
        batch, _, height, width = images.shape
        num_priors = sum(2 * (height // stride) * (width // stride) for stride in self.strides)
        everything = self.dropout(torch.ones(batch, num_priors, 16)) * self.offset
        return HeadOutputs(everything[..., :2], everything[..., 2:6], everything[..., 6:])


@pytest.fixture
def onnx_path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_onnx(ModelInfo(architecture="tiny", extra={"git_commit": "abc"}).to_metadata()))
    return path


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (2, 3, 64, 96), (1, 3, 1152, 1184)])
def test_onnx_answers_for_every_prior_of_every_size(onnx_path: Path, shape: tuple[int, ...]) -> None:
    outputs = OnnxBackend(onnx_path, num_threads=1)(np.ones(shape, dtype=np.float32))
    num_priors = len(make_priors(shape[2:]))
    assert {name: array.shape for name, array in outputs._asdict().items()} == {
        name: (shape[0], num_priors, size) for name, size in OUTPUT_SIZES.items()
    }
    assert all(array.dtype == np.float32 for array in outputs)


def test_onnx_reads_what_the_file_says_of_itself(onnx_path: Path) -> None:
    info = OnnxBackend(onnx_path).info
    assert info == ModelInfo(architecture="tiny", extra={"git_commit": "abc"})
    assert OnnxBackend(tiny_onnx()).info.architecture == "unknown"


def test_a_detector_runs_an_onnx_file_without_torch(onnx_path: Path) -> None:
    code = (
        "import sys, numpy as np; from featherface.inference.detector import FaceDetector\n"
        f"detector = FaceDetector({str(onnx_path)!r}, num_threads=1)\n"
        "faces = detector(np.full((50, 70, 3), 200, dtype=np.uint8))\n"
        "faces.plot(); print(type(faces).__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Faces", "False"]


@pytest.mark.parametrize(("asked", "reports"), [(None, False), ("0", True)])
def test_onnx_runtime_reports_nothing_unless_asked(
    asked: str | None, reports: bool, onnx_path: Path, tmp_path: Path
) -> None:
    # What it reports waits in a file at home. It is quiet in CI: the new process knows nothing of ours.
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    if asked is not None:
        environment["ORT_DISABLE_TELEMETRY"] = asked
    code = f"from featherface import FaceDetector; FaceDetector({str(onnx_path)!r}, num_threads=1)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    left = [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
    if reports and not left:
        pytest.skip("this ONNX Runtime reports nothing anyway")
    assert bool(left) == reports


def test_a_detector_gives_what_postprocessing_makes_of_its_network(onnx_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    limits = {"score_threshold": 0.1, "iou_threshold": 0.6, "max_faces": 9999}
    found = FaceDetector(onnx_path, image_size="original", **limits)(image)
    outputs = OnnxBackend(onnx_path)(to_network_input(image)[None])
    expected = postprocess(*(output[0] for output in outputs), make_priors((64, 96)), **limits)
    boxes = expected.boxes_xyxy.clip(0, (96, 64, 96, 64))
    is_inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # others are dropped
    assert 50 < len(found) < len(expected)
    np.testing.assert_allclose(found.boxes, boxes[is_inside], atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores[is_inside], atol=1e-5)


def test_memory_stays_flat_over_many_image_sizes(onnx_path: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    backend = OnnxBackend(onnx_path, num_threads=1)
    rng = np.random.default_rng(0)

    def resident_mib() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    def visit(count: int) -> None:
        for height, width in 32 * rng.integers(1, 40, (count, 2)):
            backend(np.zeros((1, 3, height, width), dtype=np.float32))

    visit(40)
    before = resident_mib()
    visit(120)
    assert resident_mib() - before < 40


def test_torch_runs_in_evaluation_mode_and_without_gradients() -> None:
    model = TinyTorch().train()
    outputs = TorchBackend(model, device="cpu")(np.zeros((2, 3, 32, 64), dtype=np.float32))
    assert outputs.cls_logits.shape == (2, len(make_priors((32, 64))), 2)
    for array in outputs:  # dropout would make zeros and halves
        np.testing.assert_array_equal(array, np.float32(0.25))
    assert not model.training


def test_priors_of_a_torch_network_are_read_from_it() -> None:
    model = TinyTorch()
    model.min_sizes_px = ((8, 16), (64, 128), (256, 512))
    assert info_of_module(model, architecture="x").min_sizes_px[0] == (8, 16)
    assert TorchBackend(model, device="cpu").info.min_sizes_px[0] == (8, 16)


@pytest.mark.parametrize("content", [b"", b"not onnx at all", tiny_onnx()[:200]])
def test_a_broken_onnx_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx: is no ONNX file that can be used") as refusal:
        open_backend(path)
    assert "\n" not in str(refusal.value)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file or directory"):
        open_backend(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="does not exist"):
        open_backend(tmp_path / "absent.safetensors")


def test_a_name_that_is_none_of_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a model's name is needed, got an empty one"):
        FaceDetector("")
    for name in ("a\0.onnx", "\ud800.onnx"):
        with pytest.raises(
            ModelError, match=r"\.onnx': cannot be read \(no name that a file can have\)"
        ) as refusal:
            FaceDetector(name)
        assert str(refusal.value).isprintable()


@pytest.mark.timeout(30)
def test_a_model_that_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match=r"pipe\.onnx: cannot be read \(it is a named pipe, not a file"):
        FaceDetector(tmp_path / "pipe.onnx")


def test_a_network_with_suppression_inside_is_refused_with_the_file_to_give(onnx_path: Path) -> None:
    content = add_suppression(onnx_path)
    with pytest.raises(
        ModelError, match=r"^nms\.onnx: has .* suppression inside.*beside it, featherface\.onnx"
    ):
        OnnxBackend(content, name="nms.onnx")


@pytest.mark.parametrize("output", OUTPUT_SIZES)
def test_a_network_that_answers_with_no_numbers_is_refused(output: str) -> None:
    class Damaged(OnnxBackend):
        def __call__(self, images: np.ndarray) -> NetworkOutputs:
            outputs = super().__call__(images)
            getattr(outputs, output)[0, 7, 1] = np.nan
            return outputs

    with pytest.raises(ModelError, match=r"answers with what is no number \(NaN\): its weights are damaged"):
        FaceDetector(Damaged(tiny_onnx()))(np.zeros((32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_copy_answers_as_the_detector_that_it_is_of(kind: str, onnx_path: Path) -> None:
    backend = (
        OnnxBackend(onnx_path, num_threads=1) if kind == "onnx" else TorchBackend(TinyTorch(), device="cpu")
    )
    detector = FaceDetector(backend, score_threshold=0.4, image_size=64)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    onnx_path.unlink()
    for copied in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        np.testing.assert_array_equal(copied(image).boxes, detector(image).boxes)
        assert (copied.score_threshold, copied.image_size, copied.info) == (0.4, 64, detector.info)
        assert getattr(copied._backend, "name", None) == getattr(backend, "name", None)


def test_a_copy_in_torch_is_a_network_of_its_own_with_as_many_threads() -> None:
    backend = TorchBackend(TinyTorch(), device="cpu", num_threads=2)
    pickled = pickle.dumps(backend)
    torch.set_num_threads(1)
    copied = pickle.loads(pickled)
    assert torch.get_num_threads() == 2
    with torch.no_grad():
        copied._model.offset += 1
    images = np.zeros((1, 3, 32, 32), dtype=np.float32)
    assert (backend(images).cls_logits == 0.25).all()
    assert (copied(images).cls_logits == 1.25).all()


def test_a_detector_goes_to_other_processes(onnx_path: Path, tmp_path: Path) -> None:
    detector, paths = FaceDetector(onnx_path, num_threads=1), [tmp_path / name for name in ("a.png", "b.png")]
    for seed, path in enumerate(paths):
        write_image(path, np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(detector, paths))
    assert sum(map(len, results)) > 0
    for faces, path in zip(results, paths, strict=True):
        np.testing.assert_array_equal(faces.boxes, detector(path).boxes)
        assert faces.blur().shape == (64, 96, 3)


def test_an_onnx_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(tiny_onnx(input_name="data"))
    with pytest.raises(ModelError, match=r"is no FeatherFace network: it has inputs \['data'\]"):
        open_backend(path)


def test_an_input_that_the_network_cannot_take_is_refused_in_one_line(onnx_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot run an input of shape \(1, 4, 32, 32\)") as refusal:
        OnnxBackend(onnx_path)(np.zeros((1, 4, 32, 32), dtype=np.float32))
    assert "\n" not in str(refusal.value)


def test_backend_and_file_must_fit(onnx_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run on backend 'onnx', not 'torch'"):
        open_backend(onnx_path, backend="torch")
    with pytest.raises(ModelError, match="run on backend 'torch', not 'onnx'"):
        open_backend(tmp_path / "w.safetensors", backend="onnx")
    with pytest.raises(ModelError, match=r"an \.onnx or a \.safetensors file, got '\.pth'"):
        open_backend(tmp_path / "w.pth")
    with pytest.raises(OptionError, match="allowed are auto, onnx, torch"):
        open_backend(onnx_path, backend="tensorrt")


def test_devices_that_are_not_there_are_refused(onnx_path: Path) -> None:
    with pytest.raises(OptionError, match="allowed are auto, cpu, cuda"):
        OnnxBackend(onnx_path, device="tpu")
    with pytest.raises(OptionError, match="allowed are auto, cpu, cuda"):
        TorchBackend(TinyTorch(), device="mps")


def test_onnx_without_cuda_is_refused(onnx_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(OptionError, match="has only CPUExecutionProvider; install onnxruntime-gpu"):
        FaceDetector(onnx_path, device="cuda")


def test_cuda_that_does_not_start_is_refused_where_it_was_asked_for(
    onnx_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine without a driver: ONNX Runtime has CUDA, and makes a session without it."""
    start, asked = ort.InferenceSession, []

    def start_on_the_cpu(content: bytes, options: ort.SessionOptions, providers: list[str]) -> Any:
        asked.append(providers[0])
        return start(content, options, providers=["CPUExecutionProvider"])

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)
    monkeypatch.setattr(ort, "InferenceSession", start_on_the_cpu)
    with pytest.raises(OptionError, match=r"cannot start CUDA here; see if `nvidia-smi`.*device='cpu'"):
        FaceDetector(onnx_path, device="cuda")
    FaceDetector(onnx_path, device="auto")(np.zeros((32, 32, 3), np.uint8))
    assert asked == ["CUDAExecutionProvider", "CUDAExecutionProvider"]


def test_without_shipped_weights_the_message_says_how_to_make_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SHIPPED_WEIGHTS", "weights/absent.onnx")
    with pytest.raises(ModelError, match="`featherface pipeline` trains and exports a model"):
        FaceDetector()
    with pytest.raises(ModelError, match="run on backend 'onnx'"):
        FaceDetector(backend="torch")


def test_an_address_is_resolved_by_whoever_announced_its_scheme(
    onnx_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(uri: str) -> Path:
        asked.append(uri)
        return onnx_path

    class Announced:
        def load(self) -> object:
            return fetch

    def announced(*, group: str, name: str) -> list[Announced]:
        return [Announced()] if (group, name) == ("featherface.model_resolvers", "models") else []

    monkeypatch.setattr(loading, "entry_points", announced)
    assert FaceDetector("models:/featherface@champion").info.architecture == "tiny"
    assert asked == ["models:/featherface@champion"]
    with pytest.raises(ModelError, match="nothing installed understands 's3:' addresses"):
        resolve_model("s3://bucket/model.onnx")


def test_a_resolver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("models", "featherface_absent_package:fetch", "featherface.model_resolvers")
    monkeypatch.setattr(loading, "entry_points", lambda **_: [entry])
    with pytest.raises(ModelError, match="needs 'featherface_absent_package', which is not installed"):
        resolve_model("models:/featherface/3")


@pytest.mark.parametrize("name", ["model.onnx", "./a:b.onnx", "C:/model.onnx", "/tmp/models:/x.onnx"])
def test_paths_are_not_taken_for_addresses(name: str) -> None:
    assert resolve_model(name) == Path(name)


def test_what_a_file_says_of_itself_survives_the_way_through_text() -> None:
    info = ModelInfo(
        architecture="v2-ultra",
        innovations=("feature_reuse",),
        strides=(4, 8),
        min_sizes_px=((8,), (16, 32)),
        extra={"license": "Apache-2.0"},
    )
    assert ModelInfo.from_metadata(info.to_metadata(), source="x") == info


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"featherface_schema": "99"},
            "written with model schema '99', this version of featherface reads '1'",
        ),
        ({"strides": "[8, 16"}, "its metadata is broken"),
        ({"strides": "8"}, "its metadata is broken"),
        ({"strides": "[8]"}, r"x\.onnx: one tuple of prior sizes per stride"),
        (
            {"strides": "[0, 16, 32]"},
            r"strides and prior sizes are from 1 to 100000 pixels, got \(0, 16, 32\)",
        ),
        ({"strides": "[-8, 16, 32]"}, "strides and prior sizes are"),
        ({"strides": "[]", "min_sizes_px": "[]"}, "strides and prior sizes are"),
        ({"strides": "[Infinity, 16, 32]"}, "its metadata is broken"),
        ({"min_sizes_px": "[[16, 32], [64, 0], [256, 512]]"}, r"x\.onnx: strides and prior sizes are"),
        ({"min_sizes_px": "[[16], [64], [1" + 400 * "0" + "]]"}, "strides and prior sizes are"),
        ({"variances": "[0.2, 0.2]"}, "made for variances"),
        ({"preprocessing": '{"color_order": "RGB"}'}, "made for preprocessing"),
    ],
)
def test_text_that_cannot_be_used_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelInfo.from_metadata(ModelInfo().to_metadata() | changes, source="x.onnx")
    incomplete = {key: value for key, value in ModelInfo().to_metadata().items() if key not in changes}
    if "featherface_schema" in incomplete:
        with pytest.raises(ModelError, match="its metadata is broken"):
            ModelInfo.from_metadata(incomplete, source="x.onnx")
