"""Networks rewritten for exports answer as before, at all sizes and with any subset of innovations."""

from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.export import onnx as export
from featherface.export.quantize import FLOAT_PARTS
from featherface.inference.backends import info_of_module
from featherface.models.build import build_model
from featherface.models.innovations import MultiscaleIntelligence, ProgressiveEnhancement
from featherface.models.lowered import (
    BlockConv,
    LoweredContext,
    LoweredDetails,
    LoweredHead,
    LoweredLowPass,
    LoweredRescoringHead,
)
from featherface.models.lowered_neck import LoweredRepeat, Rescale
from featherface.models.lowering import lower
from featherface.models.neck import BiFPNRepeat, Fusion
from featherface.models.rescoring import Rescorer
from featherface.names import ARCHITECTURES, INNOVATIONS

# None, each alone, and all but each; all together is the network itself.
SUBSETS = [subset for size in (0, 1, 4) for subset in combinations(INNOVATIONS, size)]
SHAPES = [(1, 3, 32, 32), (3, 3, 64, 96)]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def trained_looking(architecture: str, innovations: tuple[str, ...] | None = None) -> nn.Module:
    """A network in float64 none of whose numbers is where it started, so that rounding alone is small."""
    torch.manual_seed(0)
    model = build_model(architecture, innovations=innovations).double()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.2)
            nn.init.normal_(part.running_mean, std=0.2)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
        elif isinstance(part, Fusion):
            nn.init.uniform_(part.weights, 0.2, 2.0)
        elif isinstance(part, nn.Conv2d) and part.bias is not None:
            nn.init.normal_(part.bias, std=0.2)
        elif isinstance(part, Rescorer):
            for parameter in part.parameters():
                nn.init.normal_(parameter, std=0.2)
            nn.init.constant_(part.share, 0.3)
            nn.init.constant_(part.temperature, 1.7)
    if model.details is not None:
        nn.init.normal_(model.details.to_p3.weight, std=0.2)
    return model.eval()


def assert_answers_alike(model: nn.Module, shapes: list[tuple[int, ...]]) -> None:
    lowered = lower(model)
    for shape in shapes:
        images = 50 * noise(*shape)
        with torch.no_grad():
            for got, want in zip(lowered(images), model(images), strict=True):
                torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9 * float(want.std()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_answers_the_same(architecture: str) -> None:
    assert_answers_alike(trained_looking(architecture), SHAPES)


@pytest.mark.parametrize("subset", SUBSETS, ids=lambda subset: "+".join(subset) or "none")
def test_subsets_of_innovations_answer_the_same(subset: tuple[str, ...]) -> None:
    assert_answers_alike(trained_looking("v2-ultra", subset), SHAPES)


def test_large_images_are_answered_the_same() -> None:
    assert_answers_alike(trained_looking("v2-ultra"), [(1, 3, 640, 640)])


def test_the_network_itself_stays_as_it_is() -> None:
    model = build_model("v2-ultra").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lowered = lower(model)
    assert model.training
    assert not lowered.training
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("subset", [INNOVATIONS, ("progressive_enhancement",), ()], ids=len)
def test_without_a_second_opinion_nothing_is_computed_for_it(subset: tuple[str, ...]) -> None:
    model = trained_looking("v2-ultra", subset)
    model.head.rescorer.share.zero_()  # its temperature still holds
    assert_answers_alike(model, SHAPES)
    kinds = [type(part) for part in lower(model).modules()]
    assert (kinds.count(LoweredHead), kinds.count(LoweredRescoringHead)) == (1, 0)


@pytest.mark.parametrize("subset", [INNOVATIONS, ("progressive_enhancement",), ()], ids=len)
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_details_that_add_nothing_are_not_computed(subset: tuple[str, ...], share: float) -> None:
    model = trained_looking("v2-ultra", subset)
    model.head.rescorer.share.fill_(share)
    model.details.forget()
    assert_answers_alike(model, SHAPES)
    assert lower(model).details is None


def test_all_parts_of_the_student_are_rewritten() -> None:
    lowered = lower(trained_looking("v2-ultra"))
    kinds = [type(part) for part in lowered.modules()]
    assert kinds.count(LoweredRepeat) == 3
    assert kinds.count(LoweredContext) == 3
    assert kinds.count(LoweredLowPass) == 6
    assert (kinds.count(LoweredHead), kinds.count(LoweredRescoringHead)) == (0, 1)
    assert kinds.count(LoweredDetails) == 1
    assert nn.BatchNorm2d not in kinds
    assert lowered.backbone.stage1[0].conv.out_channels == 16
    # Two maps of each pass are read with two shares, and those that leave the last pass are not scaled.
    assert kinds.count(Rescale) >= 3 * 2


def test_a_map_that_does_not_count_keeps_its_fusion() -> None:
    model = trained_looking("v2-ultra")
    with torch.no_grad():
        model.neck.repeats[1].fusions["p4_out"].weights[1] = -1
    assert sum(isinstance(part, BiFPNRepeat) for part in lower(model).modules()) == 3
    assert_answers_alike(model, SHAPES)


def test_int8_finds_the_parts_that_stay_float_by_their_names() -> None:
    lowered = lower(trained_looking("v2-ultra"))
    names = [name for name, part in lowered.named_modules() if isinstance(part, nn.Conv2d)]
    in_float = [name for name in names if f"detector.{name}.weight".startswith(FLOAT_PARTS)]
    assert {
        "head.joined.0",
        "head.joined.1",
        "head.joined.2",
        "backbone.stage1.0.conv",
        "details.details.to_p3",
    } <= {*in_float}
    assert {name.partition(".")[0] for name in names if name not in in_float} == {
        "backbone",
        "context",
        "neck",
        "shuffle",
    }
    # The fixed filters, and what is made of them, are no weights at all.
    assert not any("intelligence" in name for name, _ in lowered.named_parameters())


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("hw", [(4, 4), (8, 12)])
def test_a_block_of_pixels_is_what_each_pixel_would_be(block: int, hw: tuple[int, int]) -> None:
    weight, x = noise(1, 2, 7, 7), noise(3, 2, *hw)
    conv = BlockConv(weight, 0.25, block=block)
    want = F.conv2d(x, weight, weight.new_tensor([0.25]), padding=3)
    torch.testing.assert_close(conv.spread(conv(x)), want)


@pytest.mark.parametrize("make", [ProgressiveEnhancement, MultiscaleIntelligence])
@pytest.mark.parametrize(("block", "hw"), [(1, (1, 1)), (1, (1, 3)), (2, (2, 4)), (4, (4, 12))])
def test_fixed_filters_agree_at_the_borders(make: type[nn.Module], block: int, hw: tuple[int, int]) -> None:
    original, x = make().double(), noise(2, 3, *hw)
    torch.testing.assert_close(LoweredLowPass(original, block=block)(x), original(x))


def test_the_export_is_of_the_rewritten_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SeenError(Exception):
        pass

    def trace(model: nn.Module, *_: object) -> None:
        assert isinstance(model.head, LoweredHead)
        raise SeenError

    monkeypatch.setattr(export, "_trace", trace)
    model = build_model("v2-ultra")
    with pytest.raises(SeenError):
        export.export_onnx(model, tmp_path / "a.onnx", info=info_of_module(model))


def pool(**settings: object) -> onnx.ModelProto:
    value = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["b", "c", height, width])
        for name, height, width in (("x", "h", "w"), ("y", "h2", "w2"))
    ]
    node = onnx.helper.make_node("MaxPool", ["x"], ["y"], **settings)
    graph = onnx.helper.make_graph([node], "pool", value[:1], value[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("hw", [(2, 2), (4, 10), (80, 80)])
def test_a_pool_that_pads_is_one_that_rounds_up(hw: tuple[int, int]) -> None:
    proto = pool(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = -10 - np.random.default_rng(0).random((2, 3, *hw), dtype=np.float32)  # zeros would show
    before = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    export._pad_instead_of_rounding_up(proto)
    after = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    assert "ceil_mode" not in [item.name for item in proto.graph.node[0].attribute]
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_shape": [3, 3], "strides": [2, 2]},
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ],
)
def test_other_pools_stay(settings: dict[str, object]) -> None:
    proto = pool(**settings)
    before = proto.SerializeToString()
    export._pad_instead_of_rounding_up(proto)
    assert proto.SerializeToString() == before
