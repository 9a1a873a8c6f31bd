"""A BiFPN whose learnt weights are taken into the convolutions that make its maps.

The sum of a node, w0*a + w1*b, is a plain a + b where the convolutions that make `a` and `b` bring the
factors along: ONNX Runtime adds in the layout of its convolutions, and leaves it to multiply by a number.
Each map of the pyramid is stored times one factor, the share that it has in the node of the most pixels that
reads it. Where another node wants another share, it is multiplied by a depthwise 1x1 convolution, at the
smallest size at which that can be done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.models.layers import Levels
from featherface.models.neck import (
    NODES,
    NodeConv,
    downsample,
    upsample,
)
from featherface.shapes import Float

_LEVELS = ("p3", "p4", "p5")
# What each node reads, in the order of its weights, and what is done to it on the way.
_READS = {
    "p4_td": ("p4", "p5"),
    "p3_out": ("p3", "p4_td"),
    "p4_out": ("p4", "p4_td", "p3_out"),
    "p5_out": ("p5", "p4_out"),
}
# The node whose share a map is stored with; the nodes of the next pass for P3, P4, P5.
_STORED_FOR = {"p3": "p3_out", "p4": "p4_td", "p5": "p4_td", "p4_td": "p3_out"}
# Other shares are divided by that one: of a map that hardly counts little would be left but rounding.
_MIN_SHARE = 1e-3


class Rescale(nn.Module):
    """A map times a constant, as a convolution: the one multiplication that keeps ONNX Runtime's layout."""

    factor: Tensor

    def __init__(self, factor: Float[Tensor, "C 1 1 1"]) -> None:
        super().__init__()
        self.register_buffer("factor", factor)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Multiplied map."""
        return F.conv2d(x, self.factor, groups=len(self.factor))


class LoweredNode(nn.Module):
    """Sum of maps, the last one resampled; SiLU; the convolutions of the node.

    Args:
        conv: of the node.
        rescales: of each map, `nn.Identity` for most.
        is_down: whether the last map comes from the finer level.
    """

    def __init__(self, conv: NodeConv, rescales: Sequence[nn.Module], *, is_down: bool) -> None:
        super().__init__()
        self.conv, self.rescales, self.is_down = conv, nn.ModuleList(rescales), is_down

    def forward(self, *maps: Float[Tensor, "B C _ _"]) -> Float[Tensor, "B C H W"]:
        """Map of the node's level."""
        *own, other = maps
        rescale_other = self.rescales[-1]
        total = rescale_other(downsample(other)) if self.is_down else upsample(rescale_other(other))
        for level_map, rescale in zip(own, self.rescales, strict=False):
            total = total + rescale(level_map)
        y: Tensor = self.conv(F.silu(total))
        return y


class LoweredRepeat(nn.Module):
    """`BiFPNRepeat` of such nodes; what it reads on the way down and up is the same."""

    def __init__(self, nodes: dict[str, LoweredNode]) -> None:
        super().__init__()
        self.nodes = nn.ModuleDict(nodes)

    def forward(self, downward: Levels, _upward: Levels) -> Levels:
        """P3, P4, P5 of those before, times their factors."""
        maps = dict(zip(_LEVELS, downward, strict=True))
        for name in NODES:
            maps[name] = self.nodes[name](*(maps[read] for read in _READS[name]))
        return maps["p3_out"], maps["p4_out"], maps["p5_out"]


def lower_neck(neck: Any) -> None:
    """Change a `BiFPN` with folded normalizations in place, where it is of the kind that this is for."""
    if not _is_plain(neck):
        return
    shares = [_shares(repeat) for repeat in neck.repeats]
    for level, reducer in zip(_LEVELS, neck.reducers, strict=True):
        _multiply(reducer.conv, shares[0][_STORED_FOR[level], level])
    lowered = []
    for index, repeat in enumerate(neck.repeats):
        own, following = shares[index], shares[index + 1] if index + 1 < len(shares) else None
        stored = {name: own[reader, name] for name, reader in _STORED_FOR.items()}
        for level in _LEVELS:
            stored[f"{level}_out"] = following[_STORED_FOR[level], level] if following else 1.0
        lowered.append(LoweredRepeat({name: _lower_node(name, repeat, own, stored) for name in NODES}))
    neck.repeats = nn.ModuleList(lowered)


def _shares(repeat: Any) -> dict[tuple[str, str], float]:
    """What a node's mean counts of a map, by the names of both."""
    return {
        (name, read): share
        for name, reads in _READS.items()
        for read, share in zip(reads, repeat.fusions[name].shares(len(reads)).tolist(), strict=True)
    }


def _lower_node(
    name: str, repeat: Any, shares: dict[tuple[str, str], float], stored: dict[str, float]
) -> LoweredNode:
    conv = repeat.convs[name]
    ratios = [shares[name, read] / stored[read] for read in _READS[name]]
    rescales = [
        nn.Identity()
        if math.isclose(ratio, 1)
        else Rescale(conv.pointwise.weight.new_full((conv.pointwise.out_channels, 1, 1, 1), ratio))
        for ratio in ratios
    ]
    _multiply(conv.pointwise, stored[name])
    return LoweredNode(conv, rescales, is_down=name in ("p4_out", "p5_out"))


def _multiply(conv: Any, factor: float) -> None:
    with torch.no_grad():
        conv.weight.mul_(factor)
        if conv.bias is not None:
            conv.bias.mul_(factor)


def _is_plain(neck: Any) -> bool:
    """Nodes of their own with SiLU, nothing behind their convolutions, and no map that hardly counts."""
    return len(neck.second_reducers) == 0 and all(
        set(repeat.convs) == set(NODES)
        and repeat.activation is F.silu
        and repeat.down is downsample
        and all(isinstance(conv.bn, nn.Identity) for conv in repeat.convs.values())
        and all(isinstance(conv.activation, nn.Identity) for conv in repeat.convs.values())
        and all(
            float(fusion.shares(len(_READS[name])).min()) >= _MIN_SHARE
            for name, fusion in repeat.fusions.items()
        )
        for repeat in neck.repeats
    )
