"""A network of a few layers that answers as a detector does, for tests of exports."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.structures import HeadOutputs


class Tiny(nn.Module):
    """A few layers with what is hard to export: batch norm, zeros around a maximum, free sides."""

    strides = (8, 16, 32)
    min_sizes_px = ((16, 32), (64, 128), (256, 512))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, stride=8, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.heads = nn.ModuleList(nn.Conv2d(8, 32, 1) for _ in self.strides)

    def forward(self, images: Tensor) -> HeadOutputs:
        # Mostly negative, so that a padding of zeros is the maximum where it is seen.
        level = self.bn(self.stem(images * 0.01)) - 2
        flat = []
        for index, head in enumerate(self.heads):
            if index:
                level = F.max_pool2d(F.pad(level, (0, 1, 0, 1)), 3, 2)
            flat.append(head(level).permute(0, 2, 3, 1).reshape(images.shape[0], -1, 16))
        everything = torch.cat(flat, dim=1)
        return HeadOutputs(everything[..., :2], everything[..., 2:6], everything[..., 6:])


def make_tiny() -> Tiny:
    """One with statistics that are not the identity, always the same."""
    torch.manual_seed(0)
    tiny = Tiny()
    tiny.bn.running_mean.normal_()
    tiny.bn.running_var.uniform_(0.5, 2)
    return tiny.eval()
