"""BiFPN: C3..C5 -> P3..P5 of one width, fused down and up the pyramid with learnt weights.

Node names: `p4_td` on the way down, then `p3_out`, `p4_out`, `p5_out` on the way up.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.models.layers import ConvBNAct, Levels
from featherface.shapes import Float

NODES = ("p4_td", "p3_out", "p4_out", "p5_out")
SHARED = "shared"
_NUM_INPUTS = {"p4_td": 2, "p3_out": 2, "p4_out": 3, "p5_out": 2}
_EPSILON = 1e-4

MapFunction: TypeAlias = Callable[[Tensor], Tensor]


class Fusion(nn.Module):
    """Weighted mean of the maps of a node, with learnt weights that ReLU keeps from being negative.

    Args:
        num_weights: length of the weight vector.
        dilute: divide by the sum of all weights, also of those that the node does not use. Published
            checkpoints were trained so; elsewhere only the weights in use count.

    Reference:
        EfficientDet, arXiv:1911.09070, section 3.3, "fast normalized fusion".
    """

    def __init__(self, num_weights: int, *, dilute: bool = False) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_weights))
        self.dilute = dilute

    def forward(self, *maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Mean of two or three maps of one shape."""
        shares = self.shares(len(maps))
        fused = maps[0] * shares[0]
        for index in range(1, len(maps)):
            fused = fused + maps[index] * shares[index]
        return fused

    def shares(self, num_maps: int) -> Float[Tensor, " num_maps"]:
        """What each map counts: not negative, and together a little below 1."""
        weights = self.weights.relu()
        used = weights[:num_maps]
        total = weights.sum() if self.dilute else used.sum()
        return used / (total + _EPSILON)


class NodeConv(nn.Module):
    """Depthwise 3x3, pointwise 1x1, batch normalization, `activation`; nothing between the convolutions."""

    def __init__(
        self,
        channels: int,
        *,
        bias: bool = False,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        activation: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=bias)
        self.bn = nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum)
        self.activation = activation()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Map of the same shape."""
        y: Tensor = self.activation(self.bn(self.pointwise(self.depthwise(x))))
        return y


class BiFPNRepeat(nn.Module):
    """One pass down and up the pyramid.

    Args:
        make_conv: makes the convolution of a node.
        share_nodes: one convolution and one weight vector for all nodes instead of one each.
        p5_weights: length of the weight vector of `p5_out`; 3 where a published checkpoint must load.
        dilute: as in `Fusion`.
        activation: applied to the fused map before the convolution.
        down: halves a map; None: `downsample`.
    """

    def __init__(
        self,
        *,
        make_conv: Callable[[], NodeConv],
        share_nodes: bool,
        p5_weights: int,
        activation: MapFunction,
        dilute: bool = False,
        down: MapFunction | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.down = down or downsample
        if share_nodes:
            self.convs = nn.ModuleDict({SHARED: make_conv()})
            self.fusions = nn.ModuleDict({SHARED: Fusion(3)})
            return
        self.convs = nn.ModuleDict({node: make_conv() for node in NODES})
        num_weights = {**_NUM_INPUTS, "p5_out": p5_weights}
        self.fusions = nn.ModuleDict({node: Fusion(num_weights[node], dilute=dilute) for node in NODES})

    def forward(self, downward: Levels, upward: Levels) -> Levels:
        """P3, P4, P5 of the maps read on the way down and of those read on the way up."""
        p3, p4, p5 = downward
        _, p4_again, p5_again = upward
        p4_td = self._node("p4_td", p4, upsample(p5))
        p3_out = self._node("p3_out", p3, upsample(p4_td))
        p4_out = self._node("p4_out", p4_again, p4_td, self.down(p3_out))
        p5_out = self._node("p5_out", p5_again, self.down(p4_out))
        return p3_out, p4_out, p5_out

    def _node(self, name: str, *maps: Tensor) -> Tensor:
        key = name if name in self.convs else SHARED
        y: Tensor = self.convs[key](self.activation(self.fusions[key](*maps)))
        return y


class BiFPN(nn.Module):
    """Level module: 1x1 reducers to one width, then repeated fusion.

    Args:
        in_channels: channels of C3, C4, C5.
        make_reducer: channels of a map -> the 1x1 convolution that brings it to the width of P3, P4, P5.
        repeats: the passes, in order.
        second_reducers: C4 and C5 are reduced a second time for the way up of the first pass.

    Reference:
        EfficientDet, arXiv:1911.09070, section 3.2, cut to three levels.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        make_reducer: Callable[[int], ConvBNAct],
        repeats: Sequence[BiFPNRepeat],
        second_reducers: bool,
    ) -> None:
        super().__init__()

        self.reducers = nn.ModuleList(make_reducer(width) for width in in_channels)
        again = in_channels[1:] if second_reducers else ()
        self.second_reducers = nn.ModuleList(make_reducer(width) for width in again)
        self.repeats = nn.ModuleList(repeats)

    def forward(self, levels: Levels) -> Levels:
        """P3, P4, P5."""
        c3, c4, c5 = levels
        downward: Levels = (self.reducers[0](c3), self.reducers[1](c4), self.reducers[2](c5))
        upward = downward
        if len(self.second_reducers) > 0:
            upward = (downward[0], self.second_reducers[0](c4), self.second_reducers[1](c5))
        for repeat in self.repeats:
            downward = upward = repeat(downward, upward)
        return downward


def upsample(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 2*H 2*W"]:
    """Every pixel four times (nearest neighbor)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def downsample(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Max pool 3x3 with step 2 of a map with even sides; windows that reach over the border end there."""
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


def downsample_over_zeros(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Like `downsample`, but beyond the right and bottom border are zeros, which win over negative values.

    The published weights were trained so. The zeros are not put there by `F.pad`: onnxruntime (1.31, basic
    optimizations) merges a Pad into the MaxPool behind it, whose own padding is minus infinity.
    """
    x = torch.cat((x, torch.zeros_like(x[..., :1])), dim=-1)
    x = torch.cat((x, torch.zeros_like(x[..., :1, :])), dim=-2)
    return F.max_pool2d(x, 3, 2)
