"""`featherface export`: every file checked against its network, judged, timed, and written or refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from tiny_network import Tiny, make_tiny

from featherface.cli import main
from featherface.config import EvaluateConfig
from featherface.data.synthetic import synthesize_dataset
from featherface.deployment import run as deployment
from featherface.deployment.checks import check_answers
from featherface.deployment.formats import FILES, parse_formats, possible_formats
from featherface.deployment.report import ExportReport
from featherface.deployment.source import Source, open_source
from featherface.errors import DataError, ModelError, OptionError
from featherface.export import openvino
from featherface.export.onnx import export_onnx
from featherface.export.program import ProgramBackend, export_program
from featherface.export.quantize import quantize_onnx
from featherface.inference.backends import OnnxBackend, info_of_module
from featherface.inference.loading import SHIPPED_WEIGHTS
from featherface.inference.model_info import INPUT_NAME

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "featherface" / SHIPPED_WEIGHTS
QUICK = {
    "settings": EvaluateConfig(image_size=64, max_faces=20, num_threads=1),
    "input_hw": (64, 96),
    "rounds": 3,
    "num_calibration_images": 2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few drawn scenes with ground truth."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    synthesize_dataset(root, num_train=3, num_val=2, image_hw=(96, 128), seed=0)
    return root


@pytest.fixture(scope="module")
def source() -> Source:
    tiny = make_tiny()
    return Source("tiny.safetensors", None, tiny, info_of_module(tiny, architecture="tiny"))


@pytest.fixture(scope="module")
def made(source: Source, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    out = tmp_path_factory.mktemp("out") / "exports"
    formats = ("onnx", "onnx-nms", "int8", "torch")
    # What a network that never learnt loses in int8 is chance.
    return out, deployment.export_formats(source, out, formats, data=data, max_ap_drop=1.0, **QUICK)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 60, shape).astype(np.float32)


def test_all_that_was_asked_for_is_there_with_its_numbers(made: tuple[Path, ExportReport]) -> None:
    out, report = made
    files = [file for row in report.rows for file in row.files]
    assert sorted(path.name for path in out.iterdir()) == sorted([*files, "exports.json", "exports.md"])
    assert json.loads((out / "exports.json").read_text()) == json.loads(json.dumps(report.to_dict()))
    rows = {row.name: row for row in report.rows}
    for row in rows.values():
        assert row.num_bytes == sum((out / file).stat().st_size for file in row.files)
        assert row.ap is not None
        assert set(row.ap) == {"easy", "medium", "hard", "mean"}
        assert row.latency_ratio is not None
        assert row.latency_ratio > 0
    assert rows["onnx"].latency_ratio == 1
    for name in ("onnx", "torch"):
        parity = rows[name].parity
        assert parity is not None
        assert 0 <= parity.error < 1e-4
        assert parity.tolerance == 1e-3
    assert rows["int8"].parity is not None
    assert rows["int8"].parity.tolerance is None
    assert rows["int8"].parity.error > 1e-3
    assert (report.images, report.calibration_images) == (2, 2)
    table = (out / "exports.md").read_text()
    assert "| onnx-nms | featherface-nms.onnx |" in table
    assert "allowed 0.001" in table


def test_int8_keeps_what_the_file_says_and_the_last_layers_float(made: tuple[Path, ExportReport]) -> None:
    out, _ = made
    quantized, fp32 = onnx.load(out / "featherface-int8.onnx"), OnnxBackend(out / "featherface.onnx")
    backend = OnnxBackend(out / "featherface-int8.onnx")
    assert backend.info.architecture == "tiny"
    assert backend.info.extra["quantization"] == "int8, static"
    # Computed in float: without VNNI, processors add products in 16 bits, which noise overflows.
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(out / "featherface-int8.onnx", options, providers=["CPUExecutionProvider"])
    got, *_ = plain.run(["cls_logits"], {INPUT_NAME: noise(1, 3, 64, 96)})
    want = fp32(noise(1, 3, 64, 96)).cls_logits
    assert got.shape == want.shape == backend(noise(1, 3, 64, 96)).cls_logits.shape
    assert np.abs(got - want).max() < 0.2 * np.abs(want).max()
    assert any(item.data_type == onnx.TensorProto.INT8 for item in quantized.graph.initializer)


def test_parts_that_are_named_stay_float(made: tuple[Path, ExportReport], tmp_path: Path) -> None:
    def num_int8(content: bytes) -> int:
        items = onnx.load_model_from_string(content).graph.initializer
        return sum(item.data_type == onnx.TensorProto.INT8 and len(item.dims) == 4 for item in items)

    base, inputs = made[0] / "featherface.onnx", [noise(1, 3, 64, 96)]
    assert num_int8(quantize_onnx(base, inputs, float_parts=())) == 4  # the stem and three heads
    assert num_int8(quantize_onnx(base, inputs, float_parts=("detector.heads.",))) == 1
    with pytest.raises(ModelError, match="has no convolution to quantize"):
        quantize_onnx(base, inputs, float_parts=("detector.",))
    with pytest.raises(DataError, match="at least one training image"):
        quantize_onnx(base, [])
    (tmp_path / "broken.onnx").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"broken\.onnx: is no ONNX file that can be quantized"):
        quantize_onnx(tmp_path / "broken.onnx", inputs)


def test_a_torch_program_answers_at_sizes_it_was_not_traced_with(
    made: tuple[Path, ExportReport], source: Source
) -> None:
    out, _ = made
    program = ProgramBackend(out / "featherface.pt2")
    assert program.info == source.info
    for shape in ((1, 3, 64, 64), (3, 3, 160, 96)):
        with torch.no_grad():
            want = source.network(torch.from_numpy(noise(*shape)))
        for got, expected in zip(program(noise(*shape)), want, strict=True):
            np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)
    with pytest.raises(ModelError, match="sides are multiples of 32 from 64 px"):
        program(noise(1, 3, 64, 32))


def test_a_torch_program_tells_nothing_of_the_machine(made: tuple[Path, ExportReport]) -> None:
    content = (made[0] / "featherface.pt2").read_bytes()
    for word in (b"site-packages", str(REPOSITORY).encode(), b"tiny_network.py"):
        assert word not in content, word


def test_what_is_no_program_or_cannot_become_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.pt2").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"broken\.pt2: is no program of torch\.export"):
        ProgramBackend(tmp_path / "broken.pt2")

    class Branching(Tiny):
        def forward(self, images: torch.Tensor) -> object:  # type: ignore[override]
            return super().forward(images if images.mean() > 0 else images + 1)

    with pytest.raises(ModelError, match="cannot be exported by torch: "):
        export_program(Branching(), info=info_of_module(Tiny()))


def test_int8_that_loses_too_much_is_not_written(
    made: tuple[Path, ExportReport],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def judge(paths: Mapping[str, Path], *_: object) -> dict[str, Mapping[str, float]]:
        return {
            name: dict.fromkeys(("easy", "medium", "hard", "mean"), 0.79 if name == "int8" else 0.8125)
            for name in paths
        }

    monkeypatch.setattr(deployment, "_judge", judge)
    model, out = Path(shutil.copy(made[0] / "featherface.onnx", tmp_path / "m.onnx")), tmp_path / "out"
    arguments = ["export", "--model", str(model), "--out", str(out), "--formats", "onnx-nms,int8"]
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--data", str(data), "--calibration-images", "2", "--rounds", "1", "--json"])
    assert left.value.code == 2
    told, complaint = capsys.readouterr()
    assert "int8 loses too much: mean AP 79.00 against 81.25 of fp32, 2.25 points" in complaint
    assert sorted(path.name for path in out.iterdir()) == [
        "exports.json",
        "exports.md",
        "featherface-nms.onnx",
    ]
    rows = json.loads(told)["formats"]
    assert rows["int8"]["ap"]["mean"] == 0.79
    assert rows["int8"]["refused"].startswith("int8 loses too much")
    assert rows["onnx-nms"]["refused"] is None
    assert "| int8 | none: refused |" in (out / "exports.md").read_text()
    assert deployment._refusals({"onnx": {"mean": 0.8}, "int8": {"mean": 0.795}}, 0.01) == {}


def test_without_data_all_that_can_be_made_is(
    made: tuple[Path, ExportReport], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = Path(shutil.copy(made[0] / "featherface.onnx", tmp_path / "m.onnx")), tmp_path / "out"
    with pytest.raises(SystemExit) as left:
        main(["export", "--model", str(model), "--out", str(out), "--rounds", "1"])
    assert not left.value.code
    told, said = capsys.readouterr()
    assert "| onnx | featherface.onnx | " in told
    assert "| is the network | - | - | - | 1.00 (" in told
    assert "left out, as what they need is not here: int8" in said
    assert (out / "featherface.onnx").read_bytes() == model.read_bytes()
    assert (out / "featherface-nms.onnx").is_file()


def test_a_file_that_answers_differently_is_never_written(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(5)
    other = Tiny().eval()
    export_onnx(other, tmp_path / "other.onnx", info=source.info)
    wrong = Source("wrong", (tmp_path / "other.onnx").read_bytes(), source.network, source.info)
    with pytest.raises(ModelError, match=r"featherface\.onnx: differs from its network by more than 0\.001"):
        deployment.export_formats(wrong, tmp_path / "out", ("onnx",), **QUICK)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr("featherface.export.suppression_graph._MAX_LOG_SIDE", 0.01)
    unfit = Source("unfit", wrong.onnx, None, source.info)
    with pytest.raises(ModelError, match=r"featherface-nms\.onnx: (differs from|finds \d+ faces where) "):
        deployment.export_formats(unfit, tmp_path / "out", ("onnx-nms",), **QUICK)


def test_the_file_that_ships_is_used_as_it_is(tmp_path: Path) -> None:
    shipped = open_source(None)
    assert shipped.network is not None
    assert shipped.info.architecture == "v2-ultra"
    shipped.write_onnx(tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == SHIPPED.read_bytes()
    alone = open_source(str(shutil.copy(SHIPPED, tmp_path / "b.onnx")))
    assert alone.network is None
    assert check_answers("onnx", tmp_path / "b.onnx", alone, tmp_path / "b.onnx", []) is None
    assert possible_formats(alone, has_ground_truth=False)[:2] == ("onnx", "onnx-nms")
    assert "torch" not in possible_formats(alone, has_ground_truth=True)
    weights = open_source(str(SHIPPED.with_suffix(".safetensors")))
    assert weights.onnx is None
    assert weights.name == "featherface.safetensors"


def test_formats_are_read_from_a_list() -> None:
    assert parse_formats("torch, onnx,onnx") == ("onnx", "torch")
    for wrong in ("onnx,tflite", ",", ""):
        with pytest.raises(OptionError, match=r"known: onnx, onnx-nms, int8, openvino, torch"):
            parse_formats(wrong)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--formats", "onnx,tflite"], "there is no tflite; known: onnx, onnx-nms, int8, openvino, torch"),
        (["--formats", "int8"], "format 'int8' needs --data: training images to calibrate with"),
        (["--formats", "int8", "--data", "nowhere"], "nowhere: is no folder"),
        (["--model", "nosuch.onnx"], "nosuch.onnx: cannot be read"),
        (["--model", "nosuch.safetensors"], "nosuch.safetensors: does not exist"),
        (["--model", "broken.onnx"], "broken.onnx: is no ONNX file"),
        (["--model", "model.pt"], "model.pt: a model is an .onnx or a .safetensors file"),
        (
            ["--model", "alone.onnx", "--formats", "torch"],
            "alone.onnx is an ONNX file without the .safetensors",
        ),
        (["--formats", "onnx", "--out", "broken.onnx"], "broken.onnx: is no folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"no")
    shutil.copy(SHIPPED, tmp_path / "alone.onnx")
    with pytest.raises(SystemExit) as left:
        main(["export", *(() if "--out" in arguments else ("--out", "out")), *arguments])
    assert left.value.code == 2
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_openvino_is_asked_for_where_it_is_missing(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(openvino.importlib, "import_module", missing)
    with pytest.raises(OptionError, match=r"pip install 'featherface\[openvino\]'"):
        deployment.export_formats(source, tmp_path, ("openvino",))
    assert list(tmp_path.iterdir()) == []


def test_openvino_answers_as_the_network(source: Source, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    report = deployment.export_formats(source, tmp_path / "out", ("openvino",), data=data, **QUICK)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*FILES["openvino"], "exports.json", "exports.md"]
    )
    (row,) = report.rows
    assert row.parity is not None
    assert row.parity.error < 1e-3
    backend = openvino.OpenVinoBackend(tmp_path / "out" / "featherface.xml", info=source.info)
    with pytest.raises(ModelError, match="needs sides of at least 64 px"):
        backend(noise(1, 3, 32, 64))
    images = noise(1, 3, 64, 64)
    again = pickle.loads(pickle.dumps(backend))
    np.testing.assert_array_equal(again(images).cls_logits, backend(images).cls_logits)
    (tmp_path / "broken.xml").write_text("no")
    with pytest.raises(ModelError, match=r"broken\.xml: OpenVINO cannot load it"):
        openvino.OpenVinoBackend(tmp_path / "broken.xml", info=source.info)
