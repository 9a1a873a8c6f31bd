"""Modulated deformable 3x3 convolution (DCNv2) in plain torch, for the published teacher only.

Dimensions: `T`=9 taps of the kernel, in row-major order; offsets are (dy, dx) of each tap in pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.shapes import Float

_SIDE = 3
_TAPS = _SIDE * _SIDE


def deformable_conv2d(
    x: Float[Tensor, "B C H W"],
    offsets: Float[Tensor, "B 18 H W"],
    mask: Float[Tensor, "B 9 H W"],
    weight: Float[Tensor, "D C 3 3"],
) -> Float[Tensor, "B D H W"]:
    """3x3 convolution, step 1, whose taps look where `offsets` move them and count as much as `mask` says.

    Between pixels the map is read bilinearly, outside of it it is zero. Zero offsets and a mask of ones give
    `conv2d(x, weight, padding=1)`.

    Args:
        x: the map.
        offsets: (dy, dx) of tap 0, of tap 1, ... at each output pixel.
        mask: factor of each tap at each output pixel.
        weight: kernel.

    Reference:
        Deformable ConvNets v2, arXiv:1811.11168, section 3.2, equation 1; one deformable group.
    """
    batch, channels, height, width = x.shape
    # Tracing needs operators that the file format knows; in eager mode one fused operator is twice as fast.
    sample = _sample_grid if torch.compiler.is_exporting() else _sample_rows
    columns = sample(x, offsets, mask)  # (B, H*W, T*C)
    kernel = weight.permute(2, 3, 1, 0).reshape(_TAPS * channels, -1)  # (T*C, D)
    return (columns @ kernel).transpose(1, 2).reshape(batch, -1, height, width)


def _sample_rows(x: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
    """(B, H*W, T*C): each bilinear sample is a weighted sum of four rows of a table of pixels.

    `embedding_bag` gathers, weighs and sums whole rows of channels without writing the corners to memory: for
    64 channels at 80x80 12 ms on one core, where `grid_sample` takes 24 ms and indexing corner by corner 73
    ms.
    """
    batch, channels, height, width = x.shape
    # Positions need more digits than the map where that is in half precision.
    precise = torch.promote_types(offsets.dtype, torch.float32)
    y, x_position = _tap_positions(offsets.to(precise))
    # One line of zeros before and two behind make "zero outside" a matter of clamping the position.
    pitch = width + _SIDE
    table = F.pad(x, (1, 2, 1, 2)).permute(0, 2, 3, 1).reshape(-1, channels)  # pixels of the batch, C
    y, x_position = y.clamp(0, height + 1), x_position.clamp(0, width + 1)
    top, left = y.floor(), x_position.floor()
    first_row = torch.arange(batch, dtype=torch.int32, device=x.device) * ((height + _SIDE) * pitch)
    corner = top.int() * pitch + left.int() + first_row[:, None, None, None]  # (B, H, W, T)
    steps = torch.tensor((0, 1, pitch, pitch + 1), dtype=torch.int32, device=x.device)
    corners = corner[..., None] + steps  # (B, H, W, T, 4)
    factor = mask.permute(0, 2, 3, 1).to(precise)
    below = factor * (y - top)
    above = factor - below
    right = x_position - left
    above_right, below_right = above * right, below * right
    shares = torch.stack((above - above_right, above_right, below - below_right, below_right), dim=-1)
    shares = shares.reshape(-1, 4).to(table.dtype)
    samples = F.embedding_bag(
        corners.reshape(-1, 4), table, mode="sum", per_sample_weights=shares
    )  # (B*H*W*T, C)
    return samples.reshape(batch, height * width, _TAPS * channels)


def _sample_grid(x: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
    """(B, H*W, T*C) like `_sample_rows`, through `grid_sample`."""
    batch, channels, height, width = x.shape
    y, x_position = _tap_positions(offsets)
    # Positions count from the padding line: pixel j is at j + 1 and its middle at j + 0.5 from the border.
    grid = torch.stack(((2 * x_position - 1) / width - 1, (2 * y - 1) / height - 1), dim=-1)
    samples = F.grid_sample(
        x,
        grid.reshape(batch, height, width * _TAPS, 2),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    ).reshape(batch, channels, height * width, _TAPS)
    factor = mask.reshape(batch, 1, _TAPS, height * width).transpose(2, 3)
    return (samples * factor).permute(0, 2, 3, 1).reshape(batch, height * width, _TAPS * channels)


def _tap_positions(offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column, (B, H, W, T) each, of every tap; pixel (0, 0) is at (1, 1)."""
    batch, _, height, width = offsets.shape
    shifts = offsets.permute(0, 2, 3, 1).reshape(batch, height, width, _TAPS, 2)
    taps = torch.arange(_TAPS, device=offsets.device)
    rows = torch.arange(height, device=offsets.device)[:, None, None] + taps // _SIDE  # (H, 1, T)
    columns = torch.arange(width, device=offsets.device)[:, None] + taps % _SIDE  # (W, T)
    return shifts[..., 0] + rows, shifts[..., 1] + columns


class DeformableConv2d(nn.Module):
    """3x3 deformable convolution that predicts its own offsets and mask (2 * sigmoid) by plain convolutions.

    It starts as the plain convolution `conv`: offsets 0, mask 1.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.offset_conv = nn.Conv2d(in_channels, 2 * _TAPS, _SIDE, padding=1)
        self.modulator_conv = nn.Conv2d(in_channels, _TAPS, _SIDE, padding=1)
        self.conv = nn.Conv2d(in_channels, out_channels, _SIDE, padding=1, bias=False)
        self.initialize()

    def initialize(self) -> None:
        """Set offsets to 0 and the mask to 1, everywhere."""
        for conv in (self.offset_conv, self.modulator_conv):
            nn.init.zeros_(conv.weight)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Map of the same height and width."""
        # One convolution of 27 channels leaves fewer lanes of a register idle than two of 18 and 9.
        layers = (self.offset_conv, self.modulator_conv)
        weight = torch.cat([conv.weight for conv in layers])
        bias = torch.cat([conv.bias for conv in layers if conv.bias is not None])
        offsets, modulation = F.conv2d(x, weight, bias, padding=1).split((2 * _TAPS, _TAPS), dim=1)
        # Under autocast the map may still be in float32, and its rows twice as long.
        return deformable_conv2d(x.to(offsets.dtype), offsets, 2 * modulation.sigmoid(), self.conv.weight)
