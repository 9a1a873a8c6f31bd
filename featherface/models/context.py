"""Context blocks: what a level sees around each pixel before the heads read it."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from featherface.models.layers import Activation, relu
from featherface.shapes import Float

MakeConv: TypeAlias = Callable[[int, int], nn.Module]
"""in_channels, out_channels -> a 3x3 convolution that keeps height and width."""


def plain_conv(in_channels: int, out_channels: int) -> nn.Module:
    """3x3 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)


class _Branch(nn.Module):
    def __init__(self, conv: nn.Module, out_channels: int, activation: Activation) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(out_channels)
        self.activation = activation()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        y: Tensor = self.activation(self.bn(self.conv(x)))
        return y


class SSHContext(nn.Module):
    """Half the channels from a 3x3 window, a quarter from 5x5, a quarter from 7x7; concatenated, ReLU.

    The larger windows are stacks of 3x3 convolutions and share their first.

    Args:
        channels: channels of input and output; a multiple of 4.
        make_conv: makes the 3x3 convolutions, plain or deformable.
        inner_activation: activation between stacked convolutions.

    Reference:
        SSH, arXiv:1708.03979, section 3.2, with a 7x7 branch as in RetinaFace's published code.
    """

    def __init__(
        self, channels: int, *, make_conv: MakeConv = plain_conv, inner_activation: Activation = relu
    ) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4

        def branch(inputs: int, outputs: int, activation: Activation = nn.Identity) -> nn.Module:
            return _Branch(make_conv(inputs, outputs), outputs, activation)

        self.window3 = branch(channels, half)
        self.window5_first = branch(channels, quarter, inner_activation)
        self.window5_second = branch(quarter, quarter)
        self.window7_second = branch(quarter, quarter, inner_activation)
        self.window7_third = branch(quarter, quarter)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Map of the same shape, not negative."""
        stem = self.window5_first(x)
        window7 = self.window7_third(self.window7_second(stem))
        return torch.cat((self.window3(x), self.window5_second(stem), window7), dim=1).relu()
