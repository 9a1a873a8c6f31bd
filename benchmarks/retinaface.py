"""RetinaFace-MobileNet0.25, the network that training speed is compared with, from the blocks of ours.

426,608 parameters, 981 M multiply-adds at 640 px. Reference: arXiv:1905.00641 and its published PyTorch code.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from featherface.models.backbone import Backbone
from featherface.models.context import SSHContext
from featherface.models.detector import FeatherFace
from featherface.models.head import Head
from featherface.models.layers import ConvBNAct, Levels, PerLevel, leaky_relu
from featherface.models.priors import MIN_SIZES_PX, STRIDES

CHANNELS = 64
PARAMETERS = 426_608


class FPN(nn.Module):
    """Level module: one way down the pyramid, each sum followed by a 3x3 convolution."""

    def __init__(self, in_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.reducers = nn.ModuleList(
            ConvBNAct(width, CHANNELS, activation=leaky_relu) for width in in_channels
        )
        self.merges = nn.ModuleList(
            ConvBNAct(CHANNELS, CHANNELS, kernel_size=3, activation=leaky_relu) for _ in in_channels[:-1]
        )

    def forward(self, levels: Levels) -> Levels:
        p3, p4, p5 = (reduce(level) for reduce, level in zip(self.reducers, levels, strict=True))
        p4 = self.merges[1](p4 + _grow(p5))
        return self.merges[0](p3 + _grow(p4)), p4, p5


def build_retinaface() -> FeatherFace:
    """The network, freshly initialized."""
    backbone = Backbone()
    return FeatherFace(
        backbone=backbone,
        backbone_attention=nn.Identity(),
        neck=FPN(backbone.channels),
        feature_reuse=nn.Identity(),
        neck_attention=nn.Identity(),
        multiscale_intelligence=nn.Identity(),
        context=PerLevel(SSHContext(CHANNELS, inner_activation=leaky_relu) for _ in STRIDES),
        dynamic_weight_sharing=nn.Identity(),
        shuffle=nn.Identity(),
        progressive_enhancement=nn.Identity(),
        head=Head(CHANNELS, priors_per_cell=[len(sizes) for sizes in MIN_SIZES_PX]),
        strides=STRIDES,
        min_sizes_px=MIN_SIZES_PX,
    )


def _grow(level: Tensor) -> Tensor:
    return F.interpolate(level, scale_factor=2.0, mode="nearest")
