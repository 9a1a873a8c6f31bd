"""P3..P5 -> HeadOutputs: what every prior says, in the order of `make_priors`."""

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.models.layers import Levels
from featherface.models.rescoring import Rescorer
from featherface.structures import HeadOutputs

FACE_PROBABILITY_AT_START = 0.01
"""Of every prior before training: about the share of positives, so that no step is spent on undoing it."""
_OUTPUTS = (2, 4, 10)
"""Of a prior: class logits, box deltas, landmark deltas."""


class Head(nn.Module):
    """Three 1x1 convolutions a level: class, box, landmarks.

    Args:
        channels: channels of the maps that the 1x1 convolutions read.
        priors_per_cell: priors of a cell, one number a level.
        stems: a module for each level in front of its 1x1 convolutions, or none.
        rescorer: a second opinion of the class, heard in evaluation mode only: what the other layers learn
            does not depend on it. None: the network has none.
    """

    def __init__(
        self,
        channels: int,
        *,
        priors_per_cell: Sequence[int],
        stems: Sequence[nn.Module] = (),
        rescorer: Rescorer | None = None,
    ) -> None:
        super().__init__()

        def convs(outputs: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(channels, outputs * priors, 1) for priors in priors_per_cell)

        self.stems = nn.ModuleList(stems or [nn.Identity() for _ in priors_per_cell])
        self.cls, self.box, self.landmark = (convs(outputs) for outputs in _OUTPUTS)
        self.rescorer = rescorer

    def initialize(self) -> None:
        """Small weights, and the face probability of every prior at `FACE_PROBABILITY_AT_START`.

        Reference:
            RetinaNet, arXiv:1708.02002, section 4.1, for two softmax logits instead of one sigmoid's.
        """
        log_odds = math.log((1 - FACE_PROBABILITY_AT_START) / FACE_PROBABILITY_AT_START)
        _start(self.cls, biases=(log_odds / 2, -log_odds / 2))
        _start(self.box, biases=(0.0,))
        _start(self.landmark, biases=(0.0,))

    @torch.no_grad()
    def soften(self, temperature: float) -> None:
        """Divide all class logits by a temperature, in the weights of both opinions: order and 0.5 stay.

        Reference:
            Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599, section 4.2.
        """
        second = self.rescorer.margins.parameters() if self.rescorer is not None else ()
        for parameter in (*self.cls.parameters(), *second):
            parameter.div_(temperature)

    @torch.no_grad()
    def shift(self, level: int, offset: float) -> None:
        """Add to the margins of a level, face over background, in the weights of the first opinion."""
        bias = cast("Tensor", self.cls[level].bias)
        bias.view(-1, 2).add_(bias.new_tensor((-offset / 2, offset / 2)))

    def forget_second_opinion(self) -> None:
        """Let the first one count alone, as before the second was learnt; nothing where there is none."""
        if self.rescorer is not None:
            self.rescorer.forget()

    def forward(self, levels: Levels) -> HeadOutputs:
        """Logits and deltas of all priors of a batch."""
        maps = [stem(level) for stem, level in zip(self.stems, levels, strict=True)]
        by_level = [
            _predict(level_map, convs)
            for level_map, *convs in zip(maps, self.cls, self.box, self.landmark, strict=True)
        ]
        outputs = HeadOutputs(*(torch.cat(parts, dim=1) for parts in zip(*by_level, strict=True)))
        if self.rescorer is None or self.training:
            return outputs
        margins = [self.rescorer(level_map, level) for level, level_map in enumerate(maps)]
        second = torch.cat([margin.permute(0, 2, 3, 1).flatten(1) for margin in margins], dim=1)  # (B, P)
        first = outputs.cls_logits[..., 1] - outputs.cls_logits[..., 0]
        correction = self.rescorer.correction(first, second)
        both = outputs.cls_logits + torch.stack((-correction, correction), dim=2)
        return outputs._replace(cls_logits=both / self.rescorer.temperature)


def _start(convs: Iterable[nn.Module], *, biases: tuple[float, ...]) -> None:
    for conv in convs:
        if isinstance(conv, nn.Conv2d) and conv.bias is not None:
            nn.init.normal_(conv.weight, std=0.01)
            with torch.no_grad():
                conv.bias.copy_(torch.tensor(biases).repeat(conv.out_channels // len(biases)))


def _predict(level_map: Tensor, convs: Sequence[nn.Module]) -> list[Tensor]:
    """(B, H*W*A, 2), (B, H*W*A, 4) and (B, H*W*A, 10): row, column, size, as in `make_priors`."""
    # One convolution instead of three: each would read the map anew, and write its gradient anew.
    weight, bias = (torch.cat([getattr(conv, name) for conv in convs]) for name in ("weight", "bias"))
    predicted = F.conv2d(level_map, weight, bias)
    # Single precision at least, also where the network computes in half: losses and decoding need the digits.
    predicted = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
    channels_last = predicted.permute(0, 2, 3, 1)  # (B, H, W, outputs of all)
    parts = channels_last.split([cast("nn.Conv2d", conv).out_channels for conv in convs], dim=3)
    return [part.reshape(part.shape[0], -1, outputs) for part, outputs in zip(parts, _OUTPUTS, strict=True)]
