"""Decoding and suppression inside an ONNX file equal `inference.postprocess` outside of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tiny_network import make_tiny

from featherface.data.synthetic_scenes import render_scene
from featherface.errors import ModelError
from featherface.export.onnx import export_onnx
from featherface.export.suppression import DEFAULTS, SuppressingDetector, add_suppression
from featherface.imaging import letterbox, to_network_input
from featherface.inference.backends import OnnxBackend, info_of_module
from featherface.inference.detector import FaceDetector
from featherface.inference.loading import SHIPPED_WEIGHTS
from featherface.inference.postprocess import postprocess
from featherface.models.priors import make_priors
from featherface.structures import Detections

SHIPPED = Path(__file__).resolve().parents[2] / "featherface" / SHIPPED_WEIGHTS
TINY, OWN = "tiny", "shipped"
LOOSE = {"score_threshold": 0.02, "iou_threshold": 0.7, "max_faces": 30}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[OnnxBackend, Path]]:
    """By network: what runs it, and its file with suppression inside."""
    folder = tmp_path_factory.mktemp("suppression")
    tiny = make_tiny()
    export_onnx(tiny, folder / "raw.onnx", info=info_of_module(tiny, architecture=TINY))
    pairs = {}
    for name, raw in ((TINY, folder / "raw.onnx"), (OWN, SHIPPED)):
        path = folder / f"{name}.onnx"
        path.write_bytes(add_suppression(raw))
        pairs[name] = (OnnxBackend(raw), path)
    return pairs


def noise(*hw: int) -> np.ndarray:
    return np.random.default_rng(sum(hw)).normal(0, 60, (1, 3, *hw)).astype(np.float32)


def outside(raw: OnnxBackend, images: np.ndarray, **options: float) -> Detections:
    priors = make_priors(images.shape[2:])
    return postprocess(*(output[0] for output in raw(images)), priors, **{**DEFAULTS, **options})


def assert_equal(got: Detections, want: Detections) -> None:
    assert len(got) == len(want)
    assert got.landmarks_xy.shape == (len(want), 5, 2)
    np.testing.assert_allclose(got.scores, want.scores, rtol=0, atol=1e-6)
    # Sums of votes are rounded in another order: of scores that are equal but for that any comes first.
    order = np.lexsort((*want.boxes_xyxy.T.round(1), -want.scores.round(4)))
    got_order = np.lexsort((*got.boxes_xyxy.T.round(1), -got.scores.round(4)))
    np.testing.assert_allclose(got.boxes_xyxy[got_order], want.boxes_xyxy[order], rtol=0, atol=1e-3)
    np.testing.assert_allclose(got.landmarks_xy[got_order], want.landmarks_xy[order], rtol=0, atol=1e-3)


@pytest.mark.parametrize("hw", [(32, 32), (64, 96), (96, 64), (160, 224)])
@pytest.mark.parametrize("options", [{}, LOOSE, {"score_threshold": 0.0, "iou_threshold": 1.0}])
def test_faces_of_noise_are_those_found_outside(
    files: dict[str, tuple[OnnxBackend, Path]], hw: tuple[int, int], options: dict[str, float]
) -> None:
    raw, path = files[TINY]
    want = outside(raw, noise(*hw), **options)
    assert len(want) > 3
    assert_equal(SuppressingDetector(path, **options).run(noise(*hw)), want)


def test_faces_of_a_picture_are_those_of_the_detector(files: dict[str, tuple[OnnxBackend, Path]]) -> None:
    image, faces = render_scene(0, "val", 1, (320, 416))
    got = SuppressingDetector(files[OWN][1], image_size=320).detect(image)
    want = FaceDetector(SHIPPED, image_size=320).detect(image)
    assert 0 < len(want) <= len(faces)
    assert_equal(got, want)
    batch = to_network_input(letterbox(image, 320).image)[None]
    many = SuppressingDetector(files[OWN][1], score_threshold=0.02).run(batch)
    assert_equal(many, outside(files[OWN][0], batch, score_threshold=0.02))


def test_no_face_is_an_empty_result(files: dict[str, tuple[OnnxBackend, Path]]) -> None:
    found = SuppressingDetector(files[OWN][1]).run(np.zeros((1, 3, 64, 96), dtype=np.float32))
    assert (found.boxes_xyxy.shape, found.scores.shape, found.landmarks_xy.shape) == ((0, 4), (0,), (0, 5, 2))


def test_a_flat_picture_whose_cells_say_the_same(files: dict[str, tuple[OnnxBackend, Path]]) -> None:
    raw, path = files[TINY]
    flat, options = np.zeros((1, 3, 96, 96), dtype=np.float32), LOOSE | {"max_faces": 750}
    want = outside(raw, flat, **options)
    assert len(np.unique(want.scores.round(4))) < len(want)
    assert_equal(SuppressingDetector(path, **options).run(flat), want)
    few = SuppressingDetector(path, **LOOSE).run(flat)  # which of equal ones are left is open
    np.testing.assert_allclose(few.scores, want.scores[: len(few)], rtol=0, atol=1e-6)
    assert len(few) == LOOSE["max_faces"]


def test_priors_without_finite_answers_are_dropped(files: dict[str, tuple[OnnxBackend, Path]]) -> None:
    raw, path = files[TINY]
    images = noise(64, 96)
    images[:, :, :8, :8], images[:, :, 32:40, 32:40] = np.nan, np.inf
    want = outside(raw, images, score_threshold=0.02)
    assert len(want) > 3
    assert not all(np.isfinite(output).all() for output in raw(images))
    assert_equal(SuppressingDetector(path, score_threshold=0.02).run(images), want)


def test_a_program_in_another_language_finds_its_way(files: dict[str, tuple[OnnxBackend, Path]]) -> None:
    session = ort.InferenceSession(files[OWN][1], providers=["CPUExecutionProvider"])
    assert [(item.name, item.shape) for item in session.get_inputs()] == [
        ("images", [1, 3, "height", "width"])
    ]
    optional = [(item.name, item.type) for item in session.get_overridable_initializers()]
    assert optional == [
        ("score_threshold", "tensor(float)"),
        ("iou_threshold", "tensor(float)"),
        ("max_faces", "tensor(int64)"),
    ]
    assert [(item.name, item.shape) for item in session.get_outputs()] == [
        ("boxes_xyxy", ["faces", 4]),
        ("scores", ["faces"]),
        ("landmarks", ["faces", 5, 2]),
    ]
    metadata = session.get_modelmeta().custom_metadata_map
    assert '"score_threshold": 0.5' in metadata["defaults"]
    assert '"color_order": "BGR"' in metadata["preprocessing"]


def test_the_fixed_filters_of_the_file_that_ships_are_one_depthwise_kernel_each() -> None:
    proto = onnx.load(SHIPPED)
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}
    kernels = [
        weights[node.input[1]]
        for node in proto.graph.node
        if node.op_type == "Conv" and weights[node.input[1]].shape[1:] == (1, 5, 5)
    ]
    depthwise = [kernel for kernel in kernels if len(kernel) > 1]
    assert len(depthwise) == 6  # innovations 3 and 4 on three levels; the others say what lies inside a map
    assert all((kernel == kernel[:1]).all() for kernel in depthwise)
    assert {node.op_type for node in proto.graph.node}.isdisjoint({"BatchNormalization"})


def test_what_is_no_network_of_ours_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no")
    with pytest.raises(ModelError, match=r"broken\.onnx: is no ONNX file"):
        add_suppression(broken)
    with pytest.raises(ModelError, match=r"nosuch\.onnx: cannot be read"):
        add_suppression(tmp_path / "nosuch.onnx")
    twice = tmp_path / "twice.onnx"
    twice.write_bytes(add_suppression(SHIPPED))
    with pytest.raises(ModelError, match=r"twice\.onnx: is no FeatherFace network"):
        add_suppression(twice)
