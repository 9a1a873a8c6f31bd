"""How large a network is and how much it computes."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from featherface.models.lowered import decide_details


def count_parameters(module: nn.Module) -> int:
    """Learnable numbers of a module; a parameter shared by several parts counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_multiply_adds(module: nn.Module, input_hw: tuple[int, int]) -> int:
    """Multiply-adds of convolutions and matrix products for one image of `input_hw` pixels.

    Counted at the operators rather than by hooks on modules: a profiler of modules overlooks every weight
    that is applied by a function call, and so a published count of this network lacks its deformable
    convolutions. Elementwise work, pooling and bilinear sampling do not count, nor do layers for tiny faces
    that add nothing yet. Nothing is computed: only shapes pass through.
    """
    twin = copy.deepcopy(module)
    decide_details(twin)
    twin = twin.to("meta").eval()
    images = torch.zeros(1, 3, *input_hw, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(images)
    # The counter takes a multiply-add for two operations.
    return int(counter.get_total_flops()) // 2
