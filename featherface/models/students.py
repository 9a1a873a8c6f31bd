"""The students: `v2-ultra`, ours, and `v2-ultra-reference`, the allocation of the public reference.

Both hold the five innovations as switches. Order: backbone, attention (2 inside), neck, (1), attention (2
inside), (4), context wrapped in (5), channel shuffle, (3), head.
"""

from collections.abc import Callable, Collection, Sequence

from torch import nn

from featherface.models.attention import LevelAttention, Sharpen, identity
from featherface.models.backbone import Backbone
from featherface.models.context import SSHContext
from featherface.models.details import Details
from featherface.models.detector import FeatherFace
from featherface.models.head import Head
from featherface.models.innovations import (
    DynamicWeightSharing,
    FeatureReuse,
    MultiscaleIntelligence,
    ProgressiveEnhancement,
    multiply_attention,
)
from featherface.models.layers import (
    Activation,
    ChannelShuffle,
    ConvBNAct,
    PerLevel,
    ShuffleBlock,
    leaky_relu,
    relu,
)
from featherface.models.neck import BiFPN, BiFPNRepeat, NodeConv
from featherface.models.priors import MIN_SIZES_PX, STRIDES
from featherface.models.rescoring import Rescorer

_GATE_HIDDEN = 4
_SHUFFLE_GROUPS = 4


def build_v2_ultra(innovations: Collection[str]) -> FeatherFace:
    """Our student: the published teacher made thin, so that it can start as one (`distillation.pruning`).

    The pyramid is 40 channels wide instead of 64, and stage 3 of the backbone 64 and 128 instead of 256; what
    it gave up last is in the layers for tiny faces, which learn when all else has. The context is of plain
    convolutions. Attention is on the levels of the neck only: on those of the backbone it took a fifth of a
    training step. There is no channel shuffle: in front of a 1x1 convolution it only renames the weights.
    """
    channels = 40
    return _build(
        innovations,
        backbone=Backbone(stage3_channels=(64, 128)),
        backbone_attention=nn.Identity(),
        channels=channels,
        repeats=[_thin_repeat(channels) for _ in range(3)],
        neck_attention=LevelAttention(
            (channels,) * len(STRIDES),
            hidden=[_GATE_HIDDEN] * len(STRIDES),
            bias=True,
            share_spatial_gate=False,
            sharpen=_sharpen(innovations),
        ),
        context_activation=leaky_relu,
        shuffle=PerLevel(ShuffleBlock(channels) for _ in STRIDES),
        head=Head(
            channels,
            priors_per_cell=_priors_per_cell(),
            rescorer=Rescorer(channels, priors_per_cell=_priors_per_cell()),
        ),
        details=Details(channels),
    )


def build_v2_ultra_reference(innovations: Collection[str]) -> FeatherFace:
    """The reference student: 244,503 parameters, most in the backbone; one node serves a whole BiFPN."""
    channels, head_channels = 20, 10
    backbone, sharpen = Backbone(), _sharpen(innovations)
    return _build(
        innovations,
        backbone=backbone,
        backbone_attention=_light_attention(backbone.channels, sharpen),
        channels=channels,
        repeats=[_shared_repeat(channels) for _ in range(2)],
        neck_attention=_light_attention((channels,) * len(STRIDES), sharpen),
        context_activation=relu,
        shuffle=PerLevel([ChannelShuffle(channels, groups=_SHUFFLE_GROUPS)]),
        head=Head(
            head_channels,
            priors_per_cell=_priors_per_cell(),
            stems=[ConvBNAct(channels, head_channels, kernel_size=3, activation=relu) for _ in STRIDES],
        ),
    )


def _build(
    innovations: Collection[str],
    *,
    backbone: Backbone,
    backbone_attention: nn.Module,
    channels: int,
    repeats: Sequence[BiFPNRepeat],
    neck_attention: nn.Module,
    context_activation: Activation,
    shuffle: nn.Module,
    head: Head,
    details: Details | None = None,
) -> FeatherFace:
    def switched(name: str, make: Callable[[], nn.Module]) -> nn.Module:
        # One module for the three levels: (5) shares its weights over them, the others have none.
        return PerLevel([make()]) if name in innovations else nn.Identity()

    return FeatherFace(
        backbone=backbone,
        backbone_attention=backbone_attention,
        neck=BiFPN(
            in_channels=backbone.channels,
            make_reducer=lambda width: ConvBNAct(width, channels),
            repeats=repeats,
            second_reducers=False,
        ),
        feature_reuse=switched("feature_reuse", FeatureReuse),
        neck_attention=neck_attention,
        multiscale_intelligence=switched("multiscale_intelligence", MultiscaleIntelligence),
        context=PerLevel(SSHContext(channels, inner_activation=context_activation) for _ in STRIDES),
        dynamic_weight_sharing=switched("dynamic_weight_sharing", lambda: DynamicWeightSharing(channels)),
        shuffle=shuffle,
        progressive_enhancement=switched("progressive_enhancement", ProgressiveEnhancement),
        head=head,
        details=details,
        strides=STRIDES,
        min_sizes_px=MIN_SIZES_PX,
    )


def _sharpen(innovations: Collection[str]) -> Sharpen:
    return multiply_attention if "attention_multiplication" in innovations else identity


def _light_attention(channels: Sequence[int], sharpen: Sharpen) -> LevelAttention:
    return LevelAttention(
        channels,
        hidden=[_GATE_HIDDEN] * len(channels),
        bias=False,
        share_spatial_gate=True,
        sharpen=sharpen,
    )


def _thin_repeat(channels: int) -> BiFPNRepeat:
    return BiFPNRepeat(
        make_conv=lambda: NodeConv(channels), share_nodes=False, p5_weights=2, activation=nn.functional.silu
    )


def _shared_repeat(channels: int) -> BiFPNRepeat:
    return BiFPNRepeat(
        make_conv=lambda: NodeConv(channels, activation=relu),
        share_nodes=True,
        p5_weights=2,
        activation=nn.Identity(),
    )


def _priors_per_cell() -> list[int]:
    return [len(sizes) for sizes in MIN_SIZES_PX]
