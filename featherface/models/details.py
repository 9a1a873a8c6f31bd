"""What tiny faces look like: a second way from the backbone's first layers to P3, beside the first."""

from typing import cast

import torch
from torch import Tensor, nn

from featherface.models.backbone import NUM_SHALLOW
from featherface.models.layers import ConvBNAct, Levels, SeparableConv, relu
from featherface.shapes import Float


class _ResidualSeparable(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 with nothing between them, normalization, the input added, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = ConvBNAct(channels, channels)
        self.activation = relu()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return cast("Tensor", self.activation(self.pointwise(self.depthwise(x)) + x))


class Details(nn.Module):
    """Adds to P3, as the head reads it, what is seen of tiny faces at strides 4 and 8.

    The backbone's own layers there were trained on faces that crops enlarge, and all that comes behind them
    counts on their answers: trained for faces below 16 px they find these, and forget the rest
    (docs/experiments.md, 1 December 2026). So tiny faces have layers of their own, which start as those of
    the backbone and are learnt when everything else has been. Until then they add nothing and are not
    computed. None of their numbers has a gradient unless who trains them asks for it.

    Args:
        channels: of P3.
        hidden: channels in which both ways meet.
    """

    def __init__(self, channels: int, *, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            SeparableConv(16, 32, stride=2),
            SeparableConv(32, 32),
            SeparableConv(32, 64, stride=2),
            SeparableConv(64, 64),
        )
        self.last = _ResidualSeparable(64)
        self.from_details = nn.Conv2d(64, hidden, 1)
        self.from_p3 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.activation = relu()
        self.to_p3 = nn.Conv2d(hidden, channels, 1)
        self.requires_grad_(requires_grad=False)

    @property
    def adds_anything(self) -> bool:
        """Whether P3 is another one with the details."""
        return bool(self.to_p3.weight.any())

    @property
    def has_learnt(self) -> bool:
        """Whether the layers have taken a training step, though what they add may have been forgotten."""
        return bool(self.last.pointwise.bn.num_batches_tracked)

    def forget(self) -> None:
        """Add nothing, as before they were learnt; the layers stay."""
        for parameter in self.to_p3.parameters():
            nn.init.zeros_(parameter)

    @torch.no_grad()
    def weigh(self, share: float) -> None:
        """Let what is added count by this factor, in the weights."""
        for parameter in self.to_p3.parameters():
            parameter.mul_(share)

    def start_as(self, backbone: nn.Module) -> None:
        """Take the weights of the backbone's layers that read the same map."""
        theirs = cast("nn.Sequential", backbone.stage1)[NUM_SHALLOW:].state_dict()
        self.layers.load_state_dict(dict(zip(self.layers.state_dict(), theirs.values(), strict=True)))

    def forward(self, levels: Levels, shallow: Float[Tensor, "B S h w"]) -> Levels:
        """The three levels, P3 of them with its details, of these and the map at stride 2."""
        p3, p4, p5 = levels
        details = self.last(self.layers(shallow))
        hidden = self.activation(self.from_details(details) + self.from_p3(p3))
        return p3 + self.to_p3(hidden), p4, p5
