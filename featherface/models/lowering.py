"""A trained network rewritten so that ONNX Runtime computes the same in less time; for exports only.

What is rewritten and what each rewrite gains is in docs/experiments.md (2026-11-25). Weights, results and
the order of the outputs stay; training and checkpoints know nothing of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from featherface.models.attention import LevelAttention
from featherface.models.backbone import Backbone
from featherface.models.context import SSHContext
from featherface.models.detector import FeatherFace
from featherface.models.folding import fold_batch_norms
from featherface.models.innovations import DynamicWeightSharing, FeatureReuse, LowPass
from featherface.models.layers import LEAKY_SLOPE, PerLevel, SeparableConv, ShuffleBlock, relu
from featherface.models.lowered import (
    LoweredAttention,
    LoweredContext,
    LoweredFeatureReuse,
    LoweredHead,
    LoweredLowPass,
    LoweredRescorer,
    LoweredRescoringHead,
    ScaledSqueeze,
    decide_details,
)
from featherface.models.lowered_neck import lower_neck
from featherface.models.neck import BiFPN
from featherface.models.rescoring import MOST_APART

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Part = Any
"""A module whose parts are looked at: torch types each of them as tensor or module."""

_LANES = 16
"""Channels that ONNX Runtime computes together with AVX-512."""
# Sides of the input are multiples of 32 pixels, so those of P3, P4, P5 are multiples of these. Blocks of four
# on P3 would bring too many numbers into the file: it must stay below 245,000.
_BLOCKS = (2, 2, 1)


def lower(module: ModuleT) -> ModuleT:
    """A copy in evaluation mode that answers the same up to rounding, written for ONNX Runtime on a CPU.

    Parts of other kinds than those that a rewrite is for stay as they are, as do networks that are no
    `FeatherFace`; normalizations are folded in any case.

    Args:
        module: a detector; not changed.
    """
    lowered = fold_batch_norms(module)
    if not isinstance(lowered, FeatherFace):
        return lowered
    with torch.no_grad():
        _lower_parts(lowered)
    return lowered.eval()


def _lower_parts(model: Part) -> None:
    if isinstance(model.backbone, Backbone):
        _fill_lanes(model.backbone)
    if isinstance(model.neck, BiFPN):
        lower_neck(model.neck)
    if _all_are(model.feature_reuse, FeatureReuse) and len(model.feature_reuse) == 1:
        model.feature_reuse = LoweredFeatureReuse(model.feature_reuse[0])
    if isinstance(model.neck_attention, LevelAttention):
        model.neck_attention = _lower_attention(model.neck_attention)
    model.multiscale_intelligence = _lower_filter(model.multiscale_intelligence)
    if _all_are(model.context, SSHContext):
        model.context = PerLevel(_lower_context(block) for block in model.context)
    _scale_in_squeeze(model)
    decide_details(model)
    _lower_head(model)


def _all_are(part: Part, kind: type[nn.Module]) -> bool:
    return isinstance(part, PerLevel) and all(isinstance(module, kind) for module in part)


def _fill_lanes(backbone: Part) -> None:
    """Sixteen channels instead of eight in the first two layers, where eight lanes would idle.

    Each channel of the first layer comes twice. The depthwise convolution answers d and -d, of which ReLU
    keeps the positive parts, and LeakyReLU(d) is relu(d) - 0.1 relu(-d), which the next convolution sums.
    ReLU costs a convolution nothing, LeakyReLU a pass over the map; and with eight channels ONNX Runtime
    changes its layout twice.
    """
    first, separable = backbone.stage1[0], backbone.stage1[1]
    if 2 * first.conv.out_channels != _LANES or not isinstance(separable, SeparableConv):
        return
    depthwise, pointwise = separable.depthwise, separable.pointwise
    first.conv = _joined(first.conv, first.conv)
    depthwise.conv = _joined(depthwise.conv, depthwise.conv, signs=(1.0, -1.0))
    depthwise.activation = relu()
    weight, bias = pointwise.conv.weight, pointwise.conv.bias
    pointwise.conv = _conv(pointwise.conv, torch.cat((weight, -LEAKY_SLOPE * weight), dim=1), bias)


def _conv(like: Part, weight: torch.Tensor, bias: torch.Tensor | None, *, groups: int = 1) -> nn.Conv2d:
    """A convolution of these numbers, with stride and padding of another."""
    conv = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        like.kernel_size,
        like.stride,
        like.padding,
        groups=groups,
        bias=bias is not None,
    ).to(weight)
    conv.weight.copy_(weight)
    if conv.bias is not None and bias is not None:
        conv.bias.copy_(bias)
    return conv


def _joined(*convs: Part, signs: Sequence[float] = ()) -> nn.Conv2d:
    """One convolution with the outputs of all, each times its sign; all have a bias."""
    factors = signs or (1.0,) * len(convs)
    first = convs[0]
    return _conv(
        first,
        torch.cat([conv.weight * factor for conv, factor in zip(convs, factors, strict=True)]),
        torch.cat([conv.bias * factor for conv, factor in zip(convs, factors, strict=True)]),
        groups=sum(conv.groups for conv in convs) if first.groups > 1 else 1,
    )


def _lower_attention(attention: Part) -> PerLevel:
    gates = attention.spatial_gates
    return PerLevel(
        LoweredAttention(
            channel_gate, gates[level % len(gates)].conv, sharpen=attention.sharpen, block=_BLOCKS[level]
        )
        for level, channel_gate in enumerate(attention.channel_gates)
    )


def _lower_filter(part: Part) -> nn.Module:
    if not _all_are(part, LowPass):
        kept: nn.Module = part
        return kept
    return PerLevel(
        LoweredLowPass(part[level % len(part)], block=block) for level, block in enumerate(_BLOCKS)
    )


def _lower_context(block: Part) -> nn.Module:
    convs = [
        block.window3.conv,
        block.window5_first.conv,
        block.window5_second.conv,
        block.window7_second.conv,
        block.window7_third.conv,
    ]
    if not all(isinstance(conv, nn.Conv2d) and conv.bias is not None for conv in convs):
        kept: nn.Module = block  # deformable: its normalization is not folded either
        return kept
    return LoweredContext(
        _joined(convs[0], convs[1]),
        _joined(convs[2], convs[3]),
        convs[4],
        activation=block.window5_first.activation,
    )


def _scale_in_squeeze(model: Part) -> None:
    """Innovation 5 moves into the 1x1 convolutions behind it, where nothing lies between them."""
    sharing, shuffle = model.dynamic_weight_sharing, model.shuffle
    if not _all_are(sharing, DynamicWeightSharing) or not _all_are(shuffle, ShuffleBlock):
        return
    if all(isinstance(block.shuffle, nn.Identity) for block in shuffle):
        for level, block in enumerate(shuffle):
            block.squeeze = ScaledSqueeze(sharing[level % len(sharing)], block.squeeze.conv)
        model.dynamic_weight_sharing = nn.Identity()


def _lower_head(model: Part) -> None:
    """Innovation 3 moves behind the output layers, unless other layers lie between them."""
    head = model.head
    counts = {conv.out_channels for conv in head.cls}
    if len(counts) > 1 or not all(isinstance(stem, nn.Identity) for stem in head.stems):
        return
    priors_per_cell = counts.pop() // 2
    temperature = 1.0 if head.rescorer is None else float(head.rescorer.temperature)
    head.soften(temperature)
    convs = [_joined(*level) for level in zip(head.cls, head.box, head.landmark, strict=True)]
    has_second_opinion = head.rescorer is not None and bool(head.rescorer.share)
    if has_second_opinion or model.details is not None:
        # They are not linear, so innovation 3 stays in front of them.
        model.progressive_enhancement = _lower_filter(model.progressive_enhancement)
    if has_second_opinion:
        model.head = LoweredRescoringHead(
            _lower_rescorer(head),
            convs,
            priors_per_cell=priors_per_cell,
            share=float(head.rescorer.share),
            most_apart=MOST_APART / temperature,
        )
        return
    filters: Sequence[nn.Module] = [nn.Identity() for _ in head.cls]
    if model.details is None and _all_are(model.progressive_enhancement, LowPass):
        filters = [*_lower_filter(model.progressive_enhancement).children()]
        model.progressive_enhancement = nn.Identity()
    model.head = LoweredHead(convs, filters, priors_per_cell=priors_per_cell)


def _lower_rescorer(head: Part) -> list[nn.Module]:
    """The second opinion of each level."""
    rescorer = head.rescorer

    def lowered(layer: Part) -> nn.Conv2d:
        return _conv(head.cls[0], layer.weight[:, :, None, None], layer.bias)

    hidden = [lowered(layer) for layer in (rescorer.first, rescorer.second)]
    return [LoweredRescorer(hidden, lowered(margins)) for margins in rescorer.margins]
