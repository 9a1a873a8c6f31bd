"""Sizes and answers of the networks, and the priors of one input size; `make golden` rewrites the file."""

import json
import math
import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from featherface.models.build import build_model
from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.models.priors import make_priors
from featherface.names import ARCHITECTURES

GOLDEN = Path(__file__).with_name("networks.json")


@cache
def measure(architecture: str) -> dict[str, object]:
    model = build_model(architecture)
    if model.details is not None:
        nn.init.ones_(model.details.to_p3.weight)  # as if learnt: what adds nothing is not computed
    parts = {name: count_parameters(part) for name, part in model.named_children()}
    details = {
        f"{name}.{child}": count_parameters(grandchild)
        for name, part in model.named_children()
        if isinstance(part, nn.Module)
        for child, grandchild in part.named_children()
    }
    return {
        "parameters": count_parameters(model),
        "parameters_of_parts": {name: count for name, count in {**parts, **details}.items() if count},
        "normalizations": dict(
            Counter(
                f"epsilon {part.eps:g}, momentum {part.momentum:g}"
                for part in model.modules()
                if isinstance(part, nn.BatchNorm2d)
            )
        ),
        "multiply_adds_640": count_multiply_adds(model, (640, 640)),
        "backbone_multiply_adds_640": count_multiply_adds(model.backbone, (640, 640)),
    }


@cache
@torch.no_grad()
def answer(architecture: str) -> dict[str, list[float]]:
    """Sums over all that a network with seeded weights says of each of two images, no two numbers alike."""
    generator = torch.Generator().manual_seed(2026)
    model = build_model(architecture).eval()
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        numbers = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            tensor.copy_(numbers * math.sqrt(2 / tensor[0].numel()))
        elif name.endswith(("weight", "weights", "running_var", "temperature")):
            tensor.copy_(1 + 0.2 * numbers.clamp(-2, 2))
        else:
            tensor.copy_(0.3 * numbers)
    outputs = model(50 * torch.randn(2, 3, 64, 96, generator=generator))
    return {
        name: (part * torch.randn(part[0].shape, generator=generator)).sum(dim=(1, 2)).tolist()
        for name, part in outputs._asdict().items()
    }


@pytest.fixture(scope="module")
def golden() -> dict[str, object]:
    if os.environ.get("FEATHERFACE_REWRITE_GOLDEN"):
        numbers = {"networks": {name: measure(name) for name in ARCHITECTURES}}
        numbers["answers"] = {name: answer(name) for name in ARCHITECTURES}
        numbers["priors_32x64"] = make_priors((32, 64)).tolist()
        GOLDEN.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    loaded: dict[str, object] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_networks_have_the_recorded_sizes(architecture: str, golden: dict[str, dict[str, object]]) -> None:
    assert measure(architecture) == golden["networks"][architecture]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_networks_answer_as_recorded(architecture: str, golden: dict[str, dict[str, object]]) -> None:
    """Whatever is wired in another way, in another order or left out shows here."""
    recorded = golden["answers"][architecture]
    assert isinstance(recorded, dict)
    for name, sums in answer(architecture).items():
        assert sums == pytest.approx(recorded[name], rel=5e-3, abs=2), name


def test_priors_are_the_recorded_ones(golden: dict[str, object]) -> None:
    assert make_priors((32, 64)).tolist() == golden["priors_32x64"]


@pytest.mark.parametrize(
    ("architecture", "parameters", "mega_multiply_adds"),
    [("v1", 592_371, 1244), ("v1-487k", 487_103, 967), ("v2-ultra-reference", 244_503, None)],
)
def test_published_sizes_are_met(architecture: str, parameters: int, mega_multiply_adds: int | None) -> None:
    measured = measure(architecture)
    assert measured["parameters"] == parameters
    if mega_multiply_adds is not None:
        assert round(int(str(measured["multiply_adds_640"])) / 1e6) == mega_multiply_adds


V1_PARTS = {
    "backbone.stage1": 10_128, "backbone.stage2": 99_392, "backbone.stage3": 103_552, "backbone": 213_072,
    "backbone_attention": 680 + 2_284 + 8_564, "neck": 112_606, "neck.repeats": 3 * 19_466,
    "neck_attention": 3 * 680, "context.0": 77_655, "context.2": 77_655, "shuffle.1": 4_640,
    "head.cls": 780, "head.box": 1_560, "head.landmark": 3_900,
}  # fmt: skip
V1_487K_PARTS = {
    "backbone": 213_072, "backbone_attention": 293 + 742 + 2_921, "neck": 113_610, "neck_attention": 3 * 323,
    "context.1": 49_432, "head.cls": 900, "head.box": 1_800, "head.landmark": 4_500,
}  # fmt: skip
REFERENCE_PARTS = {
    "backbone": 213_072, "backbone_attention.channel_gates": 3_584, "backbone_attention.spatial_gates": 100,
    "neck.reducers": 9_080, "neck.repeats": 2 * 623, "neck": 10_326, "neck_attention": 580,
    "context.0": 3_435, "head": 3 * 2_172, "head.stems": 3 * 1_820, "head.cls": 3 * 44, "head.box": 3 * 88,
    "head.landmark": 3 * 220, "dynamic_weight_sharing": 20,
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [("v1", V1_PARTS), ("v1-487k", V1_487K_PARTS), ("v2-ultra-reference", REFERENCE_PARTS)],
)
def test_published_parts_have_their_sizes(architecture: str, expected: dict[str, int]) -> None:
    parts = measure(architecture)["parameters_of_parts"]
    assert isinstance(parts, dict)
    assert {name: parts[name] for name in expected} == expected
