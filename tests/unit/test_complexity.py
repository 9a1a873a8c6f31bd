"""Counts of parameters and multiply-adds worked out by hand."""

import torch
from torch import nn

from featherface.models.complexity import count_multiply_adds, count_parameters
from featherface.models.deformable import DeformableConv2d


def test_convolutions_are_counted_with_stride_and_groups() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8)
    )
    assert count_parameters(network) == (3 * 8 * 9 + 8) + (8 * 9 + 8)
    assert count_multiply_adds(network, (8, 12)) == 4 * 6 * (3 * 8 * 9 + 8 * 9)


def test_deformable_weights_are_counted() -> None:
    # Offsets and mask are 27 channels of plain convolution; the deformed taps meet a kernel of 4.
    assert count_multiply_adds(DeformableConv2d(3, 4), (5, 7)) == 5 * 7 * 9 * 3 * (27 + 4)


def test_a_shared_parameter_counts_once() -> None:
    linear = nn.Linear(4, 4, bias=False)
    assert count_parameters(nn.ModuleList([linear, linear])) == 16


def test_counting_leaves_the_network_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count_multiply_adds(network, (4, 4))
    assert network.training
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
