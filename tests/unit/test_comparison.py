"""Other people's detectors: what their outputs mean, what they cost, and one table with ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from featherface.cli import main
from featherface.comparison.cost import count_cost
from featherface.comparison.peers import UltraLight, YuNet, open_detector
from featherface.config import EvaluateConfig
from featherface.errors import ModelError

SETTINGS = EvaluateConfig(num_threads=1)
SHARED = Path(__file__).resolve().parents[3] / "shared"


def constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, f"{name}_value"))


def save(path: Path, nodes: list[onnx.NodeProto], outputs: list[str], shape: list[int | str]) -> Path:
    graph = helper.make_graph(
        nodes,
        "peer",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_yunet_says_offsets_from_the_corner_of_a_cell_in_strides(tmp_path: Path) -> None:
    # An image of 60 x 40 is padded to 64 x 64: 8 x 8 cells at stride 8. Cell (2, 3) holds a face.
    cells = {8: 64, 16: 16, 32: 4}
    arrays = {}
    for stride, count in cells.items():
        for part, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            arrays[f"{part}_{stride}"] = np.zeros((1, count, width), dtype=np.float32)
    index = 2 * 8 + 3
    arrays["cls_8"][0, index], arrays["obj_8"][0, index] = 0.81, 0.64
    arrays["bbox_8"][0, index] = [0.5, 0.25, np.log(2), np.log(1.5)]
    arrays["kps_8"][0, index] = np.arange(10) / 10
    path = save(
        tmp_path / "yunet.onnx",
        [constant(name, value) for name, value in arrays.items()],
        list(arrays),
        ["batch", 3, "height", "width"],
    )
    detect = open_detector(path, SETTINGS)
    assert isinstance(detect, YuNet)
    found = detect(np.zeros((40, 60, 3), dtype=np.uint8))
    assert found.scores.tolist() == pytest.approx([0.72])
    # Center (3.5, 2.25) x 8, sides 16 and 12.
    np.testing.assert_allclose(found.boxes_xyxy, [[28 - 8, 18 - 6, 28 + 8, 18 + 6]], rtol=1e-6)
    np.testing.assert_allclose(found.landmarks_xy[0, 0], [24, 16.8], rtol=1e-6)


def test_ultralight_says_shares_of_the_image(tmp_path: Path) -> None:
    scores = np.asarray([[[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]], dtype=np.float32)
    boxes = np.asarray([[[0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.41]]], dtype=np.float32)
    path = save(
        tmp_path / "rfb.onnx",
        [constant("scores", scores), constant("boxes", boxes)],
        ["scores", "boxes"],
        [1, 3, 48, 64],
    )
    detect = open_detector(path, EvaluateConfig(num_threads=1, score_threshold=0.5))
    assert isinstance(detect, UltraLight)
    found = detect(np.zeros((100, 200, 3), dtype=np.uint8))
    np.testing.assert_allclose(found.boxes_xyxy, [[20, 20, 60, 40]], rtol=1e-6)
    assert found.scores.tolist() == pytest.approx([0.8])


def test_peers_may_return_as_many_faces_as_ours(tmp_path: Path) -> None:
    scores = np.asarray([[[0.1, 0.9], [0.3, 0.7], [0.2, 0.8]]], dtype=np.float32)
    boxes = np.asarray([[[0, 0, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3], [0.5, 0.5, 0.6, 0.6]]], dtype=np.float32)
    path = save(
        tmp_path / "rfb.onnx",
        [constant("scores", scores), constant("boxes", boxes)],
        ["scores", "boxes"],
        [1, 3, 48, 64],
    )
    detect = open_detector(path, EvaluateConfig(num_threads=1, max_faces=2))
    assert detect(np.zeros((100, 200, 3), dtype=np.uint8)).scores.tolist() == pytest.approx([0.9, 0.8])


def test_an_unknown_detector_is_refused_with_its_outputs(tmp_path: Path) -> None:
    path = save(
        tmp_path / "other.onnx", [constant("heat", np.zeros((1, 1), np.float32))], ["heat"], [1, 3, 8, 8]
    )
    with pytest.raises(ModelError, match="no detector with the outputs heat is known"):
        open_detector(path, SETTINGS)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="is no ONNX file that can be used"):
        open_detector(tmp_path / "broken.onnx", SETTINGS)


def test_cost_by_hand(tmp_path: Path) -> None:
    # 3 -> 8 channels, 3x3, stride 2 on 16 x 16; then a matrix of 8 x 5 on the mean.
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "weight")
    bias = numpy_helper.from_array(np.ones(8, np.float32), "bias")
    matrix = numpy_helper.from_array(np.ones((8, 5), np.float32), "matrix")
    unused = numpy_helper.from_array(np.ones(1000, np.float32), "unused")
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["map"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["row"]),
        helper.make_node("MatMul", ["row", "matrix"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "counted",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [weight, bias, matrix, unused],
    )
    path = tmp_path / "counted.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    cost = count_cost(path, input_hw=(16, 16))
    assert cost.params == 8 * 27 + 8 + 40
    assert cost.multiply_adds == 8 * 8 * 8 * 27 + 8 * 5
    assert cost.file_bytes == path.stat().st_size


@pytest.mark.skipif(not (SHARED / "peers").is_dir(), reason="needs real detectors")
@pytest.mark.parametrize(
    ("name", "params", "multiply_adds"),
    [("yunet_n_dynamic", 73_848, 542_393_600), ("yunet_s_dynamic", 53_112, 344_224_000)],
)
def test_real_networks_cost_what_their_authors_say(name: str, params: int, multiply_adds: int) -> None:
    """75,856 and 54,608 published: their files hold normalizations folded into the convolutions."""
    cost = count_cost(SHARED / "peers" / f"{name}.onnx")
    assert (cost.params, cost.multiply_adds) == (params, multiply_adds)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "peers").is_dir(), reason="needs real detectors and photographs")
def test_real_detectors_reach_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole chain of judging: decoding, suppression, protocol, against an independent evaluator."""
    data, out = SHARED / "data" / "widerface", tmp_path / "out"
    arguments = ["bench", "--data", str(data), "--peers", str(SHARED / "peers"), "--rounds", "3"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--out", str(out), "--json"])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    known = {
        "yunet_n_dynamic": (87.32, 85.73, 80.93),
        "yunet_s_dynamic": (87.15, 84.33, 76.34),
        "ultralight_rfb_640": (85.03, 79.77, 56.67),
    }
    for name, expected in known.items():
        aps = [100 * found[name][setting] for setting in ("easy", "medium", "hard")]
        assert aps == pytest.approx(expected, abs=0.3), name
    assert found["featherface"]["latency_ratio"] == 1
    assert "| yunet_n_dynamic |" in (out / "comparison.md").read_text()
    assert (out / "comparison.png").stat().st_size > 10_000
