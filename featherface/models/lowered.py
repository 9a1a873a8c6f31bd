"""Blocks that answer like those of `layers`, `attention`, `context`, `innovations` and `head`, in less time.

Made by `lowering` from trained blocks with folded normalizations, for exports only: they compute what the
originals define, in an order that suits ONNX Runtime on a CPU. It works in blocks of 16 channels (8 without
AVX-512), runs convolutions near the peak of a core and everything between them far from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.models.attention import ChannelGate, Sharpen
from featherface.models.details import Details
from featherface.models.innovations import DynamicWeightSharing, FeatureReuse, LowPass
from featherface.models.layers import Levels
from featherface.shapes import Float
from featherface.structures import HeadOutputs

_OUTPUTS = (2, 4, 10)


class BlockConv(nn.Module):
    """A convolution to one channel that computes square blocks of pixels as channels of one convolution.

    A single output channel would be computed as sixteen, fifteen of which are thrown away. A 4x4 block of its
    pixels fills them: the 7x7 convolution of a spatial gate takes a fifth of the time.

    Args:
        weight: (1, C, K, K), K odd; padding keeps height and width.
        bias: of the channel.
        block: side of the blocks; must divide height and width.
    """

    kernel: Tensor
    offset: Tensor

    def __init__(self, weight: Float[Tensor, "1 C K K"], bias: float, *, block: int) -> None:
        super().__init__()
        self.block, self.padding = block, weight.shape[-1] // 2
        # Each pixel of a block reads the window around itself: the kernel, shifted. (block**2, C, K', K')
        shifted = [
            F.pad(weight[0], (column, block - 1 - column, row, block - 1 - row))
            for row in range(block)
            for column in range(block)
        ]
        # Not called a weight: int8 would take it for a trained layer of its own (`export.quantize`).
        self.register_buffer("kernel", torch.stack(shifted))
        self.register_buffer("offset", weight.new_full((block * block,), bias))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """(B, block**2, H/block, W/block): the pixels of a block by row and column; see `spread`."""
        return F.conv2d(x, self.kernel, self.offset, stride=self.block, padding=self.padding)

    def spread(self, blocks: Float[Tensor, "B D h w"]) -> Float[Tensor, "B 1 H W"]:
        """The map of what `forward` gave."""
        return F.pixel_shuffle(blocks, self.block) if self.block > 1 else blocks


class LoweredLowPass(nn.Module):
    """`LowPass` for one level, with what lies outside computed in blocks, from the size alone.

    Args:
        original: the filter.
        block: see `BlockConv`.
    """

    kernel: Tensor

    def __init__(self, original: LowPass, *, block: int) -> None:
        super().__init__()
        self.register_buffer("kernel", original.kernel.clone())
        self.outside = BlockConv(-original.kernel, 1.0, block=block)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Filtered map."""
        ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
        kernel = self.kernel.expand(x.shape[1], -1, -1, -1)
        smooth = F.conv2d(x, kernel, padding=self.kernel.shape[-1] // 2, groups=x.shape[1])
        return smooth + x * self.outside.spread(self.outside(ones))


def decide_details(model: Any) -> None:
    """Of a copy that is traced or counted: no details that add nothing, and no look whether those there do.

    Args:
        model: changed in place; any module, of which only a `FeatherFace` has details.
    """
    details = getattr(model, "details", None)
    if isinstance(details, Details):
        model.details = LoweredDetails(details) if details.adds_anything else None


class LoweredDetails(nn.Module):
    """`Details` that add something; nobody need look whether they do."""

    adds_anything = True

    def __init__(self, details: Details) -> None:
        super().__init__()
        self.details = details

    def forward(self, levels: Levels, shallow: Float[Tensor, "B S h w"]) -> Levels:
        """See `Details`."""
        answer: Levels = self.details(levels, shallow)
        return answer


class LoweredFeatureReuse(nn.Module):
    """`FeatureReuse` on the three levels, their small matrices worked out together.

    On a small input a step costs as much as it takes to call it.

    Args:
        original: innovation 1.
    """

    def __init__(self, original: FeatureReuse) -> None:
        super().__init__()
        self.original = original

    def forward(self, levels: Levels) -> Levels:
        """Routed maps."""
        rows = [level.flatten(2) for level in levels]  # (B, C, H*W) each
        grams = torch.stack([each @ each.transpose(1, 2) for each in rows], dim=1)  # (B, 3, C, C)
        mixings = self.original.mixing(grams).unbind(dim=1)
        p3, p4, p5 = (
            (mixing @ each).reshape(level.shape)
            for mixing, each, level in zip(mixings, rows, levels, strict=True)
        )
        return p3, p4, p5


class LoweredAttention(nn.Module):
    """`LevelAttention` on one level.

    Args:
        channel_gate: of the level.
        spatial_conv: 7x7 convolution of the spatial gate, its normalization folded.
        sharpen: applied to the output of both gates.
        block: see `BlockConv`.
    """

    def __init__(
        self, channel_gate: ChannelGate, spatial_conv: nn.Conv2d, *, sharpen: Sharpen, block: int
    ) -> None:
        super().__init__()
        self.channel_gate = channel_gate
        bias = 0.0 if spatial_conv.bias is None else float(spatial_conv.bias.detach())
        self.spatial = BlockConv(spatial_conv.weight.detach(), bias, block=block)
        self.sharpen = sharpen

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Attended map."""
        gated = x * self.sharpen(self.channel_gate(x))
        # A product with a row of ones: ONNX Runtime takes seven times as long for a mean over channels.
        ones = torch.full((1, 1, x.shape[1]), 1 / x.shape[1], dtype=x.dtype, device=x.device)
        mean = (ones @ gated.flatten(2)).reshape(x.shape[0], 1, *x.shape[2:])  # (B, 1, H, W)
        # Of few pixels a single step is faster than many.
        largest = _largest_channel(gated) if self.spatial.block > 2 else gated.amax(dim=1, keepdim=True)
        summary = torch.cat((largest, mean), dim=1)  # (B, 2, H, W)
        attention = self.spatial.spread(self.sharpen(self.spatial(summary).sigmoid()))
        return (gated * attention + x).relu()


def _largest_channel(x: Tensor) -> Tensor:
    """Maximum over channels (B, 1, H, W), by halves first: half the time of ONNX Runtime's reduction."""
    while x.shape[1] % 2 == 0:
        x = torch.maximum(*x.chunk(2, dim=1))
    return x.amax(dim=1, keepdim=True)


class LoweredContext(nn.Module):
    """`SSHContext` with the two convolutions that read the same map joined into one, twice.

    The LeakyReLU that only the stem of the wider windows needs is applied to the outputs as well: they end in
    ReLU, and ReLU of LeakyReLU is ReLU.

    Args:
        first: 3x3 window and stem, in this order.
        second: 5x5 window and the stem of the 7x7 one.
        third: 7x7 window.
        activation: between stacked convolutions.
    """

    def __init__(
        self, first: nn.Conv2d, second: nn.Conv2d, third: nn.Conv2d, *, activation: nn.Module
    ) -> None:
        super().__init__()
        self.first, self.second, self.third = first, second, third
        self.activation = activation
        quarter = third.out_channels
        self.first_sizes = (first.out_channels - quarter, quarter)
        self.second_sizes = (second.out_channels - quarter, quarter)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Map of the same shape, not negative."""
        window3, stem = self.activation(self.first(x)).split(self.first_sizes, dim=1)
        window5, stem7 = self.activation(self.second(stem)).split(self.second_sizes, dim=1)
        return torch.cat((window3, window5, self.third(stem7)), dim=1).relu()


class ScaledSqueeze(nn.Module):
    """`DynamicWeightSharing` and the 1x1 convolution behind it as one product of matrices.

    The scale of a channel is taken into the weights that read it: 40 x 20 numbers instead of the whole map.

    Args:
        sharing: innovation 5.
        conv: 1x1 convolution with bias.
    """

    def __init__(self, sharing: DynamicWeightSharing, conv: nn.Conv2d) -> None:
        super().__init__()
        self.sharing = sharing.weight
        self.weight = conv.weight
        self.bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Squeezed map."""
        scale = self.sharing[:, 0, 0] * x.mean(dim=(2, 3)).sigmoid()  # (B, C)
        weight = self.weight[:, :, 0, 0] * scale[:, None]  # (B, D, C)
        squeezed = weight @ x.flatten(2) + self.bias[:, None]  # (B, D, H*W)
        return squeezed.reshape(x.shape[0], -1, *x.shape[2:])


class LoweredRescorer(nn.Module):
    """Margins of the second opinion of one level.

    Args:
        hidden: both hidden layers as 1x1 convolutions; the levels share them.
        margins: the last layer as a 1x1 convolution.
    """

    def __init__(self, hidden: Sequence[nn.Conv2d], margins: nn.Conv2d) -> None:
        super().__init__()
        self.hidden, self.margins = nn.ModuleList(hidden), margins

    def forward(self, level_map: Tensor) -> Tensor:
        """(B, A, H, W)."""
        hidden = level_map
        for conv in self.hidden:
            hidden = conv(hidden).relu()
        margins: Tensor = self.margins(hidden)
        return margins


class LoweredRescoringHead(nn.Module):
    """`Head` with a second opinion: one convolution a level, and the margins beside it.

    The levels are joined before the two opinions meet, so that they meet once.

    Args:
        rescorers: the margins of each level.
        convs: a 1x1 convolution of a level to its class, box and landmark outputs, in this order.
        priors_per_cell: the same for all levels.
        share: of the second opinion.
        most_apart: opinions that lie further apart count as so far apart.
    """

    halves: Tensor

    def __init__(
        self,
        rescorers: Sequence[nn.Module],
        convs: Sequence[nn.Module],
        *,
        priors_per_cell: int,
        share: float,
        most_apart: float,
    ) -> None:
        super().__init__()
        self.rescorers, self.joined = nn.ModuleList(rescorers), nn.ModuleList(convs)
        self.priors_per_cell, self.most_apart = priors_per_cell, most_apart
        # Half of a difference to either logit.
        halves = share / 2 * torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
        self.register_buffer("halves", halves.to(next(convs[0].parameters()).dtype))

    def forward(self, levels: Levels) -> HeadOutputs:
        """Logits and deltas of all priors of a batch."""
        cells = torch.cat([conv(x).flatten(2) for x, conv in zip(levels, self.joined, strict=True)], dim=2)
        second = torch.cat(
            [rescorer(x).flatten(2) for x, rescorer in zip(levels, self.rescorers, strict=True)], dim=2
        )  # (B, A, cells of all levels)
        cls, *others = cells.split([outputs * self.priors_per_cell for outputs in _OUTPUTS], dim=1)
        first = cls.unflatten(1, (self.priors_per_cell, 2))  # (B, A, 2, cells)
        apart = second - (first[:, :, 1] - first[:, :, 0])
        both = first + apart.clamp(-self.most_apart, self.most_apart)[:, :, None] * self.halves
        return HeadOutputs(*_in_their_order((both.flatten(1, 2), *others)))


class LoweredHead(nn.Module):
    """`Head` of one convolution a level, with innovation 3 behind it instead of in front.

    The filter is linear, the same for all channels and keeps constants, so it and a 1x1 convolution with bias
    change places; the outputs are fewer channels than the inputs. Levels are joined before they are cut into
    the three outputs, so that each is brought into its order once.

    Args:
        convs: a 1x1 convolution of a level to its class, box and landmark outputs, in this order.
        filters: innovation 3 of a level; `nn.Identity` without it.
        priors_per_cell: the same for all levels.
    """

    def __init__(
        self, convs: Sequence[nn.Module], filters: Sequence[nn.Module], *, priors_per_cell: int
    ) -> None:
        super().__init__()
        self.joined, self.filters = nn.ModuleList(convs), nn.ModuleList(filters)
        self.priors_per_cell = priors_per_cell

    def forward(self, levels: Levels) -> HeadOutputs:
        """Logits and deltas of all priors of a batch."""
        maps = [
            smooth(conv(level)).flatten(2)
            for level, conv, smooth in zip(levels, self.joined, self.filters, strict=True)
        ]
        cells = torch.cat(maps, dim=2)  # (B, outputs of all, cells of all levels)
        parts = cells.split([outputs * self.priors_per_cell for outputs in _OUTPUTS], dim=1)
        return HeadOutputs(*_in_their_order(parts))


def _in_their_order(parts: Sequence[Tensor]) -> Sequence[Tensor]:
    """(B, P, outputs of a prior) of (B, outputs of all priors of a cell, cells), for each of `_OUTPUTS`."""
    return [
        part.transpose(1, 2).reshape(part.shape[0], -1, outputs)
        for part, outputs in zip(parts, _OUTPUTS, strict=True)
    ]
