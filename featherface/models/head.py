"""P3..P5 -> HeadOutputs: what every prior says, in the order of `make_priors`."""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featherface.models.layers import Levels
from featherface.structures import HeadOutputs

FACE_PROBABILITY_AT_START = 0.01
"""Of every prior before training: about the share of positives, so that no step is spent on undoing it."""


class Head(nn.Module):
    """Three 1x1 convolutions a level: class, box, landmarks.

    Args:
        channels: channels of the maps that the 1x1 convolutions read.
        priors_per_cell: priors of a cell, one number a level.
        stems: a module for each level in front of its 1x1 convolutions, or none.
    """

    def __init__(
        self, channels: int, *, priors_per_cell: Sequence[int], stems: Sequence[nn.Module] = ()
    ) -> None:
        super().__init__()

        def convs(outputs: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(channels, outputs * priors, 1) for priors in priors_per_cell)

        self.stems = nn.ModuleList(stems or [nn.Identity() for _ in priors_per_cell])
        self.cls = convs(2)
        self.box = convs(4)
        self.landmark = convs(10)

    def initialize(self) -> None:
        """Small weights, and the face probability of every prior at `FACE_PROBABILITY_AT_START`.

        Reference:
            RetinaNet, arXiv:1708.02002, section 4.1, for two softmax logits instead of one sigmoid's.
        """
        log_odds = math.log((1 - FACE_PROBABILITY_AT_START) / FACE_PROBABILITY_AT_START)
        _start(self.cls, biases=(log_odds / 2, -log_odds / 2))
        _start(self.box, biases=(0.0,))
        _start(self.landmark, biases=(0.0,))

    def forward(self, levels: Levels) -> HeadOutputs:
        """Logits and deltas of all priors of a batch."""
        maps = [stem(level) for stem, level in zip(self.stems, levels, strict=True)]
        return HeadOutputs(
            cls_logits=_predict(self.cls, maps, 2),
            box_deltas=_predict(self.box, maps, 4),
            landmark_deltas=_predict(self.landmark, maps, 10),
        )


def _start(convs: Iterable[nn.Module], *, biases: tuple[float, ...]) -> None:
    for conv in convs:
        if isinstance(conv, nn.Conv2d) and conv.bias is not None:
            nn.init.normal_(conv.weight, std=0.01)
            with torch.no_grad():
                conv.bias.copy_(torch.tensor(biases).repeat(conv.out_channels // len(biases)))


def _predict(convs: nn.ModuleList, levels: Sequence[Tensor], outputs: int) -> Float[Tensor, "B P outputs"]:
    flat = [
        # (B, H*W*A, outputs): row, column, size; as in make_priors
        conv(level).permute(0, 2, 3, 1).reshape(level.shape[0], -1, outputs)
        for conv, level in zip(convs, levels, strict=True)
    ]
    return torch.cat(flat, dim=1)  # (B, P, outputs)
