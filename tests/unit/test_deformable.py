"""Modulated deformable convolution against hand-made values, plain convolution and a slow loop."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from featherface.models import deformable
from featherface.models.deformable import DeformableConv2d, deformable_conv2d

TAPS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


def random_case(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 4, 5, generator=generator, dtype=dtype)
    offsets = 2 * torch.randn(2, 18, 4, 5, generator=generator, dtype=dtype)
    mask = 2 * torch.rand(2, 9, 4, 5, generator=generator, dtype=dtype)
    weight = torch.randn(2, 3, 3, 3, generator=generator, dtype=dtype)
    return x, offsets, mask, weight


def bilinear(x: Tensor, y: float, column: float) -> Tensor:
    """Channels of one map (C, H, W) at a position; zero outside."""
    _, height, width = x.shape
    total = x.new_zeros(x.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for col in (math.floor(column), math.floor(column) + 1):
            if 0 <= row < height and 0 <= col < width:
                total = total + x[:, row, col] * (1 - abs(y - row)) * (1 - abs(column - col))
    return total


def slow_deformable_conv2d(x: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    out = x.new_zeros(batch, weight.shape[0], height, width)
    for item in range(batch):
        for row in range(height):
            for column in range(width):
                for tap, (dy, dx) in enumerate(TAPS):
                    shift_y = offsets[item, 2 * tap, row, column].item()
                    shift_x = offsets[item, 2 * tap + 1, row, column].item()
                    sample = bilinear(x[item], row + dy + shift_y, column + dx + shift_x)
                    kernel = weight[:, :, dy + 1, dx + 1]
                    out[item, :, row, column] += mask[item, tap, row, column] * (kernel @ sample)
    return out


@pytest.mark.parametrize("seed", [0, 1])
def test_it_equals_a_slow_loop(seed: int) -> None:
    case = random_case(seed)
    torch.testing.assert_close(deformable_conv2d(*case), slow_deformable_conv2d(*case))


def test_zero_offsets_and_a_mask_of_ones_give_plain_convolution() -> None:
    x, offsets, mask, weight = random_case(2)
    result = deformable_conv2d(x, torch.zeros_like(offsets), torch.ones_like(mask), weight)
    torch.testing.assert_close(result, F.conv2d(x, weight, padding=1))


def test_a_half_pixel_offset_reads_the_mean_of_two_pixels() -> None:
    x = torch.tensor([[1.0, 3.0], [5.0, 11.0]]).reshape(1, 1, 2, 2)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1.0
    offsets = torch.zeros(1, 18, 2, 2)
    offsets[:, 9] = 0.5  # dx of tap 4, the middle one
    result = deformable_conv2d(x, offsets, torch.ones(1, 9, 2, 2), weight)
    torch.testing.assert_close(result, torch.tensor([[2.0, 1.5], [8.0, 5.5]]).reshape(1, 1, 2, 2))
    offsets = torch.zeros(1, 18, 2, 2)
    offsets[:, 8] = 1.0  # dy of the middle tap
    result = deformable_conv2d(x, offsets, torch.full((1, 9, 2, 2), 2.0), weight)
    torch.testing.assert_close(result, torch.tensor([[10.0, 22.0], [0.0, 0.0]]).reshape(1, 1, 2, 2))


def test_offsets_far_outside_read_zero() -> None:
    x, offsets, mask, weight = random_case(3)
    for shift in (-1e4, 1e4):
        result = deformable_conv2d(x, torch.full_like(offsets, shift), mask, weight)
        torch.testing.assert_close(result, torch.zeros_like(result))


def test_the_formulation_for_export_equals_the_fast_one() -> None:
    x, offsets, mask, _ = random_case(4)
    torch.testing.assert_close(
        deformable._sample_grid(x, offsets, mask), deformable._sample_rows(x, offsets, mask)
    )


def test_gradients_are_those_of_finite_differences() -> None:
    case = tuple(tensor[:1, ..., :2, :3].clone() for tensor in random_case(5)[:3])
    x, offsets, mask = (tensor.requires_grad_() for tensor in case)
    weight = random_case(5)[3].requires_grad_()
    assert torch.autograd.gradcheck(deformable_conv2d, (x, offsets, mask, weight))


def test_a_one_pixel_map_works() -> None:
    x, offsets, mask, weight = random_case(6)
    one = tuple(tensor[..., :1, :1] for tensor in (x, offsets, mask))
    torch.testing.assert_close(deformable_conv2d(*one, weight), slow_deformable_conv2d(*one, weight))


def test_a_new_layer_is_its_plain_convolution() -> None:
    torch.manual_seed(0)
    layer, x = DeformableConv2d(3, 4), torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(layer(x), layer.conv(x))


def test_offsets_and_mask_learn() -> None:
    torch.manual_seed(0)
    layer = DeformableConv2d(3, 4)
    layer(torch.randn(2, 3, 5, 6)).square().sum().backward()
    for conv in (layer.offset_conv, layer.modulator_conv, layer.conv):
        assert conv.weight.grad is not None
        assert conv.weight.grad.abs().sum() > 0
