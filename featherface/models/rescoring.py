"""A second opinion of how likely each prior has a face, learnt after everything else; off until then."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 32
"""Channels of both hidden layers: ONNX Runtime computes sixteen together."""
MOST_APART = 4.0
"""Margins of the two opinions that lie further apart count as so far apart.

The second one has never seen what the first is sure to be no face, and may answer anything there.
"""


class Rescorer(nn.Module):
    """Two hidden layers on the maps that the head reads, and a margin for each prior.

    The layers in front are what the network has learnt from single views, where most priors are easy. This
    part learns from what they make of whole photographs, from their mistakes above all: priors that they take
    for a face, and whether the box of each lies where a face is (`training.rescoring`). The first margins
    move towards these by `share`, which is 0 until then, and no further than `MOST_APART` allows; what comes
    of it is divided by `temperature`.

    All numbers start at zero without a look at the random generator: with and without this part, the rest of
    a network starts as the same. None has a gradient unless who trains it asks for it.

    Args:
        channels: of the maps.
        priors_per_cell: of a level.
        hidden: channels of both hidden layers, which the levels share; each level has its outputs.

    Attributes:
        share: how much this opinion counts, in [0, 1]; a tensor of no dimension, like the next.
        temperature: above 0. Above 1 all scores come nearer to 0.5, in their order.

    Reference:
        Cascade R-CNN, arXiv:1712.00726, section 3.2: a classifier that learns from what the one in front of
        it answers. IoU-Net, arXiv:1807.11590, section 3: of scores that know how well a box lies.
        Guo et al., arXiv:1706.04599, section 4.2: the temperature.
    """

    share: Tensor
    temperature: Tensor

    def __init__(self, channels: int, *, priors_per_cell: Sequence[int], hidden: int = HIDDEN) -> None:
        super().__init__()
        self.first = _linear(channels, hidden)
        self.second = _linear(hidden, hidden)
        self.margins = nn.ModuleList(_linear(hidden, priors) for priors in priors_per_cell)
        self.register_buffer("share", torch.zeros(()))
        self.register_buffer("temperature", torch.ones(()))
        self.requires_grad_(requires_grad=False)

    def forward(self, level_map: Tensor, level: int) -> Tensor:
        """Margins (B, A, H, W), face over background, of a map (B, C, H, W) of that level."""
        hidden = level_map
        for layer in (self.first, self.second):
            hidden = _at_each_cell(layer, hidden).relu()
        return _at_each_cell(cast("nn.Linear", self.margins[level]), hidden)

    def correction(self, first: Tensor, second: Tensor) -> Tensor:
        """What a logit of a face gains, and one of background loses, before the temperature.

        Args:
            first: margins of the first opinion, of any shape.
            second: of this one, of the same shape.
        """
        return self.share / 2 * (second - first).clamp(-MOST_APART, MOST_APART)

    @torch.no_grad()
    def forget(self) -> None:
        """Leave the first opinion as it is, as before this one was learnt."""
        self.share.zero_()
        self.temperature.fill_(1)

    def margins_of(self, features: Tensor, outputs: Tensor) -> Tensor:
        """Margins (N,) of priors that were picked from maps.

        Args:
            features: (N, C) of their cells.
            outputs: (N,) int64, level times priors per cell plus place in the cell.
        """
        hidden = self.second(self.first(features).relu()).relu()
        by_output = torch.cat([last(hidden) for last in self.margins], dim=1)  # (N, levels * A)
        return by_output.gather(1, outputs[:, None])[:, 0]


def _at_each_cell(layer: nn.Linear, level_map: Tensor) -> Tensor:
    return F.conv2d(level_map, layer.weight[:, :, None, None], layer.bias)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
