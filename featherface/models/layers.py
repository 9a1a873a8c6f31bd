"""The small parts of every network: convolution blocks, channel shuffle, and modules over three levels.

A *level module* maps the three maps (P3, P4, P5) to three maps; `PerLevel` makes one of modules for single
maps.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from torch import Tensor, nn

from featherface.shapes import Float

Levels: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Three maps (B, C, H, W) at strides 8, 16 and 32."""
Activation: TypeAlias = Callable[[], nn.Module]

LEAKY_SLOPE = 0.1


def leaky_relu() -> nn.Module:
    """LeakyReLU with the slope that all networks here use."""
    return nn.LeakyReLU(LEAKY_SLOPE, inplace=True)


def relu() -> nn.Module:
    """ReLU that overwrites its input."""
    return nn.ReLU(inplace=True)


class ConvBNAct(nn.Module):
    """Convolution ("same" padding), batch normalization, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd side of the kernel.
        stride: step in both directions.
        groups: groups of the convolution; `in_channels` makes it depthwise.
        bias: whether the convolution has a bias of its own.
        bn_eps: added to the variance.
        bn_momentum: weight of a new batch in the running statistics.
        activation: makes the activation; `nn.Identity` for none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        activation: Activation = nn.Identity,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=bn_eps, momentum=bn_momentum)
        self.activation = activation()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Normalized and activated map."""
        y: Tensor = self.activation(self.bn(self.conv(x)))
        return y


class SeparableConv(nn.Module):
    """Depthwise 3x3 and pointwise 1x1, each followed by batch normalization and LeakyReLU (MobileNetV1).

    Reference:
        MobileNets, arXiv:1704.04861, section 3.1; LeakyReLU(0.1) instead of ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvBNAct(
            in_channels, in_channels, kernel_size=3, stride=stride, groups=in_channels, activation=leaky_relu
        )
        self.pointwise = ConvBNAct(in_channels, out_channels, activation=leaky_relu)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Map with `out_channels` channels, smaller by `stride`."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


class PerLevel(nn.ModuleList):
    """A level module: one module for each of the three maps, or a single one shared by them.

    Args:
        modules: three modules for single maps, or one.

    Raises:
        ValueError: neither one nor three modules are given.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__(modules)
        if len(self) not in (1, 3):
            raise ValueError(f"one module for all levels or three are needed, got {len(self)}")

    def forward(self, levels: Levels) -> Levels:
        """The three maps, each through its module."""
        p3, p4, p5 = levels
        own = len(self) == 3
        return self[0](p3), self[1 if own else 0](p4), self[2 if own else 0](p5)


def channel_shuffle(x: Float[Tensor, "B C H W"], groups: int) -> Float[Tensor, "B C H W"]:
    """The same channels, interleaved: the first of every group, then the second of every group, and so on.

    Reference:
        ShuffleNet, arXiv:1707.01083, section 3.1.
    """
    batch, channels, height, width = x.shape
    grouped = x.reshape(batch, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(batch, channels, height, width)  # (B, C, H, W)


class ChannelShuffle(nn.Module):
    """Channel shuffle without parameters.

    Args:
        channels: channels of the map.
        groups: groups between which the channels are interleaved.

    Raises:
        ValueError: `groups` does not divide `channels`.
    """

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"groups must divide the channels, got {groups} groups and {channels} channels")
        self.groups = groups

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The shuffled map."""
        return channel_shuffle(x, self.groups)


class ShuffleBlock(nn.Module):
    """Channel shuffle, then 1x1 to half the channels, depthwise 3x3, 1x1 back, and ReLU only at the end.

    Args:
        channels: channels of input and output.
        groups: of the shuffle; None: no shuffle, which in front of a 1x1 convolution only renames weights.
    """

    def __init__(self, channels: int, *, groups: int | None = None) -> None:
        super().__init__()
        half = channels // 2
        self.shuffle = nn.Identity() if groups is None else ChannelShuffle(channels, groups=groups)
        self.squeeze = ConvBNAct(channels, half)
        self.depthwise = ConvBNAct(half, half, kernel_size=3, groups=half)
        self.expand = ConvBNAct(half, channels, activation=relu)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Map of the same shape."""
        y: Tensor = self.expand(self.depthwise(self.squeeze(self.shuffle(x))))
        return y
