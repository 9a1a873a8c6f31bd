"""MobileNetV1 x0.25: images -> C3, C4, C5 at strides 8, 16, 32."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from featherface.models.layers import ConvBNAct, Levels, SeparableConv, leaky_relu
from featherface.shapes import Float

NUM_SHALLOW = 2
"""Layers at stride 2; the network's details read what they answer."""


class Backbone(nn.Module):
    """The three stages of MobileNetV1 x0.25, without its classifier.

    The students and the teachers share stages 1 and 2, names and shapes, so that weights can be copied by
    key.

    Args:
        stage3_channels: outputs of the two separable layers of the last stage.

    Attributes:
        channels: channels of C3, C4, C5.

    Reference:
        MobileNets, arXiv:1704.04861, table 1 with width multiplier 0.25.
    """

    def __init__(self, *, stage3_channels: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        self.channels = (64, 128, stage3_channels[-1])
        self.stage1 = nn.Sequential(
            ConvBNAct(3, 8, kernel_size=3, stride=2, activation=leaky_relu),
            SeparableConv(8, 16),
            SeparableConv(16, 32, stride=2),
            SeparableConv(32, 32),
            SeparableConv(32, 64, stride=2),
            SeparableConv(64, 64),
        )
        self.stage2 = nn.Sequential(
            SeparableConv(64, 128, stride=2), *(SeparableConv(128, 128) for _ in range(5))
        )
        first, *others = stage3_channels
        inputs = (first, *others)
        self.stage3 = nn.Sequential(
            SeparableConv(128, first, stride=2),
            *(SeparableConv(before, after) for before, after in zip(inputs, others, strict=False)),
        )

    def shallow(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B S h w"]:
        """The map at stride 2 of network input."""
        return cast("Tensor", self.stage1[:NUM_SHALLOW](images))

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        *,
        known: Sequence[Tensor] = (),
        shallow: Tensor | None = None,
    ) -> Levels:
        """C3, C4, C5 of network input (BGR minus mean).

        Args:
            images: network input.
            known: the first of the three, if known.
            shallow: what the first `NUM_SHALLOW` layers make of them, if known.
        """
        levels = [*known]
        if not levels:
            levels.append(self.stage1(images) if shallow is None else self.stage1[NUM_SHALLOW:](shallow))
        for stage in (self.stage2, self.stage3)[len(levels) - 1 :]:
            levels.append(stage(levels[-1]))
        c3, c4, c5 = levels
        return c3, c4, c5
