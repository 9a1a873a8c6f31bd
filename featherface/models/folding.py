"""Batch normalization folded into the convolution before it, for networks that no longer learn."""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ModuleT = TypeVar("ModuleT", bound=nn.Module)

# Names of the convolution that feeds the `bn` of the same block.
_CONVOLUTIONS = ("conv", "pointwise")


def fold_batch_norms(module: ModuleT) -> ModuleT:
    """A copy in evaluation mode that answers the same, up to rounding, with fewer operations.

    A normalization with fixed statistics is a scale and an offset of each channel, which the convolution in
    front of it can do. The first stage of the backbone takes a quarter of the time then, a fifth of an ONNX
    export goes. Normalizations behind anything but a plain convolution stay.

    Args:
        module: a detector or a part of one; not changed.

    Reference:
        Jacob et al., arXiv:1712.05877, section 3.2.
    """
    folded = copy.deepcopy(module).eval()
    for block in folded.modules():
        norm = getattr(block, "bn", None)
        for name in _CONVOLUTIONS:
            conv = getattr(block, name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, name, fuse_conv_bn_eval(conv, norm))
                block.bn = nn.Identity()
    return folded


def frozen_copy(module: ModuleT) -> ModuleT:
    """A copy that answers as fast as torch can, and learns nothing: folded, in channels-last layout.

    Give it channels-last input: a mix of layouts costs a copy at every layer.

    Args:
        module: as of `fold_batch_norms`.
    """
    folded = fold_batch_norms(module).requires_grad_(requires_grad=False)
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # torch's stub forgets modules
