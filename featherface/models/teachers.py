"""The teachers: `v1`, the published FeatherFace, and `v1-487k`, the smaller network trained in the pipeline.

Reference:
    Kim, Jung, Kim: FeatherFace, Electronics 2025, 14(3), 517.
"""

from typing import TypedDict

from torch import nn
from torch.nn import functional as F

from featherface.models.attention import LevelAttention
from featherface.models.backbone import Backbone
from featherface.models.context import SSHContext
from featherface.models.deformable import DeformableConv2d
from featherface.models.detector import FeatherFace
from featherface.models.head import Head
from featherface.models.layers import ChannelShuffle, ConvBNAct, PerLevel, ShuffleBlock, leaky_relu, relu
from featherface.models.neck import BiFPN, BiFPNRepeat, NodeConv, downsample_over_zeros
from featherface.models.priors import MIN_SIZES_PX, STRIDES


class _Norm(TypedDict):
    bn_eps: float
    bn_momentum: float


# Batch normalization inside the neck as EfficientDet has it; the published weights were trained so.
_NECK_NORM: _Norm = {"bn_eps": 1e-3, "bn_momentum": 0.01}


def build_v1() -> FeatherFace:
    """The published network: 592,371 parameters, deformable context, BiFPN of width 64 three times."""
    channels = 64
    return _build(
        channels=channels,
        attention_ratio=16,
        num_repeats=3,
        context=PerLevel(
            SSHContext(channels, make_conv=DeformableConv2d, inner_activation=leaky_relu) for _ in STRIDES
        ),
        # The published code shuffles pairs: channels 0, 2, 4, ... first, then 1, 3, 5, ...
        shuffle=PerLevel(ShuffleBlock(channels, groups=channels // 2) for _ in STRIDES),
    )


def build_v1_487k() -> FeatherFace:
    """The trainable teacher: 487,103 parameters, a plain 3x3 convolution as context, BiFPN of width 74."""
    channels = 74
    return _build(
        channels=channels,
        attention_ratio=48,
        num_repeats=2,
        context=PerLevel(ConvBNAct(channels, channels, kernel_size=3, activation=relu) for _ in STRIDES),
        shuffle=PerLevel([ChannelShuffle(channels, groups=2)]),
    )


def _build(
    *, channels: int, attention_ratio: int, num_repeats: int, context: nn.Module, shuffle: nn.Module
) -> FeatherFace:
    backbone = Backbone()

    def attention(widths: tuple[int, ...]) -> LevelAttention:
        hidden = [width // attention_ratio for width in widths]
        return LevelAttention(widths, hidden=hidden, bias=True, share_spatial_gate=False)

    neck = BiFPN(
        in_channels=backbone.channels,
        make_reducer=lambda width: ConvBNAct(width, channels, bias=True, **_NECK_NORM),
        repeats=[_published_repeat(channels) for _ in range(num_repeats)],
        second_reducers=True,
    )
    return FeatherFace(
        backbone=backbone,
        backbone_attention=attention(backbone.channels),
        neck=neck,
        feature_reuse=nn.Identity(),
        neck_attention=attention((channels,) * len(STRIDES)),
        multiscale_intelligence=nn.Identity(),
        context=context,
        dynamic_weight_sharing=nn.Identity(),
        shuffle=shuffle,
        progressive_enhancement=nn.Identity(),
        head=Head(channels, priors_per_cell=[len(sizes) for sizes in MIN_SIZES_PX]),
        strides=STRIDES,
        min_sizes_px=MIN_SIZES_PX,
    )


def _published_repeat(channels: int) -> BiFPNRepeat:
    # Three weights where p5_out uses two: the third only dilutes the sum, and published checkpoints carry it.
    return BiFPNRepeat(
        make_conv=lambda: NodeConv(channels, bias=True, **_NECK_NORM),
        share_nodes=False,
        p5_weights=3,
        dilute=True,
        down=downsample_over_zeros,
        activation=F.silu,
    )
