"""The students through torch.onnx.export and onnxruntime: equal outputs at sizes and batches never traced."""

import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from featherface.models.build import build_model
from featherface.models.detector import FeatherFace
from featherface.names import INNOVATIONS

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

# An export is some twenty seconds of one core; a crowded machine can stretch it far.
# The default suite exports the student once, on its way through the pipeline (tests/e2e).
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

# None, each alone, each left out: every two innovations are seen together, apart, and both away.
OTHERS = [subset for size in (0, 1, 4) for subset in combinations(INNOVATIONS, size)]


def noise(*shape: int) -> Tensor:
    return 60 * torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def assert_export_answers_as_its_network(model: FeatherFace, path: Path) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of the batches seen
    model.train()
    with torch.no_grad():
        model(noise(4, 3, 64, 64))
    model.eval()
    shapes = {0: Dim("batch"), 2: 32 * Dim("rows", max=128), 3: 32 * Dim("columns", max=128)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            model, (noise(2, 3, 64, 96),), path, dynamo=True, verbose=False, external_data=False,
            input_names=["images"], output_names=["cls_logits", "box_deltas", "landmark_deltas"],
            dynamic_shapes=(shapes,), opset_version=18,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 32, 32), (3, 3, 96, 64)):
        images = noise(*shape)
        with torch.no_grad():
            outputs = model(images)
        exported = session.run(None, {"images": images.numpy()})
        for name, output, other in zip(outputs._fields, outputs, exported, strict=True):
            np.testing.assert_allclose(other, output.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)


def test_our_student_exports_with_all_innovations(tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert_export_answers_as_its_network(build_model("v2-ultra"), tmp_path / "model.onnx")


@pytest.mark.parametrize("subset", OTHERS, ids=lambda subset: "+".join(subset) or "none")
def test_other_subsets_of_innovations_export(subset: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert_export_answers_as_its_network(build_model("v2-ultra", innovations=subset), tmp_path / "model.onnx")


@pytest.mark.parametrize("architecture", ["v2-ultra-reference", "v1", "v1-487k"])
def test_the_other_networks_export(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert_export_answers_as_its_network(build_model(architecture), tmp_path / "model.onnx")
