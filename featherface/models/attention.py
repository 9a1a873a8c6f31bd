"""Channel and spatial attention (CBAM) over the three levels.

Innovation 2, attention multiplication, enters here as a map of the gates' outputs: see `innovations`.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from featherface.models.layers import Levels
from featherface.shapes import Float

Sharpen: TypeAlias = Callable[[Tensor], Tensor]
"""Maps attention in (0, 1) to attention in (0, 1)."""


def identity(attention: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """The attention as it is."""
    return attention


class ChannelGate(nn.Module):
    """One number in (0, 1) a channel, from the channels' mean and maximum through one shared perceptron.

    Reference:
        CBAM, arXiv:1807.06521, section 3.1.
    """

    def __init__(self, channels: int, *, hidden: int, bias: bool) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, hidden, bias=bias)
        self.expand = nn.Linear(hidden, channels, bias=bias)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 1 1"]:
        """Attention of every channel."""
        # The second layer is linear, so it serves the sum of the two hidden vectors at once.
        hidden = self.reduce(x.mean(dim=(2, 3))).relu() + self.reduce(x.amax(dim=(2, 3))).relu()
        logits: Tensor = nn.functional.linear(hidden, self.expand.weight)
        if self.expand.bias is not None:
            logits = logits + 2 * self.expand.bias
        return logits.sigmoid()[:, :, None, None]  # (B, C, 1, 1)


class SpatialGate(nn.Module):
    """One number in (0, 1) a pixel, from the maximum and the mean over channels through a 7x7 convolution.

    Reference:
        CBAM, arXiv:1807.06521, section 3.2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
        """Attention of every pixel."""
        summary = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)  # (B, 2, H, W)
        logits: Tensor = self.bn(self.conv(summary))
        return logits.sigmoid()


class LevelAttention(nn.Module):
    """A level module: `relu(x * channel gate * spatial gate + x)` on each of the three maps.

    Args:
        channels: channels of the three maps.
        hidden: hidden units of the three channel gates.
        bias: whether the channel gates have biases.
        share_spatial_gate: one spatial gate for all levels instead of three.
        sharpen: applied to the output of every gate.

    Reference:
        CBAM, arXiv:1807.06521; the residual sum is that of the published FeatherFace code.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        hidden: Sequence[int],
        bias: bool,
        share_spatial_gate: bool,
        sharpen: Sharpen = identity,
    ) -> None:
        super().__init__()
        self.channel_gates = nn.ModuleList(
            ChannelGate(width, hidden=units, bias=bias) for width, units in zip(channels, hidden, strict=True)
        )
        num_spatial = 1 if share_spatial_gate else len(channels)
        self.spatial_gates = nn.ModuleList(SpatialGate() for _ in range(num_spatial))
        self.sharpen = sharpen

    def forward(self, levels: Levels) -> Levels:
        """The three maps, attended."""
        p3, p4, p5 = levels
        return self._attend(p3, 0), self._attend(p4, 1), self._attend(p5, 2)

    def _attend(self, x: Tensor, level: int) -> Tensor:
        gated = x * self.sharpen(self.channel_gates[level](x))
        spatial_gate = self.spatial_gates[level % len(self.spatial_gates)]
        return (gated * self.sharpen(spatial_gate(gated)) + x).relu()
