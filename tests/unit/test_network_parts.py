"""Small parts of the networks: blocks, attention, neck, context, head."""

import pytest
import torch
from torch import nn

from featherface.models.attention import ChannelGate, LevelAttention, SpatialGate
from featherface.models.backbone import Backbone
from featherface.models.context import SSHContext
from featherface.models.head import FACE_PROBABILITY_AT_START, Head
from featherface.models.layers import ChannelShuffle, ConvBNAct, PerLevel, channel_shuffle
from featherface.models.neck import (
    BiFPN,
    BiFPNRepeat,
    Fusion,
    NodeConv,
    downsample,
    downsample_over_zeros,
    upsample,
)
from featherface.models.priors import make_priors
from featherface.models.rescoring import Rescorer


def test_channel_shuffle_interleaves_the_groups() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert channel_shuffle(x, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert channel_shuffle(x, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_shuffling_by_the_other_factor_undoes_it() -> None:
    x = torch.randn(2, 12, 3, 2)
    torch.testing.assert_close(channel_shuffle(channel_shuffle(x, 4), 3), x)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="got 4 groups and 6 channels"):
        ChannelShuffle(6, groups=4)


def test_one_module_serves_all_levels_and_three_serve_one_each() -> None:
    levels = (torch.ones(1), torch.ones(1), torch.ones(1))

    class Times(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    assert [level.item() for level in PerLevel([Times(2)])(levels)] == [2, 2, 2]
    assert [level.item() for level in PerLevel(Times(k) for k in (1, 2, 3))(levels)] == [1, 2, 3]
    with pytest.raises(ValueError, match="one module for all levels or three"):
        PerLevel([Times(1), Times(2)])


def test_channel_gate_is_the_sigmoid_of_two_perceptrons() -> None:
    torch.manual_seed(0)
    gate, x = ChannelGate(4, hidden=3, bias=True), torch.randn(2, 4, 5, 6)

    def perceptron(summary: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = gate.expand(torch.relu(gate.reduce(summary)))
        return out

    expected = torch.sigmoid(perceptron(x.mean(dim=(2, 3))) + perceptron(x.flatten(2).max(dim=2).values))
    torch.testing.assert_close(gate(x)[:, :, 0, 0], expected)


def test_spatial_gate_of_equal_pixels_is_equal_inside() -> None:
    gate = SpatialGate().eval()
    attention = gate(torch.full((1, 3, 16, 16), 2.0))
    assert attention.shape == (1, 1, 16, 16)
    inside = attention[..., 3:-3, 3:-3]
    torch.testing.assert_close(inside, inside[..., :1, :1].expand_as(inside))


def test_attention_without_gates_open_is_the_positive_part() -> None:
    attention = LevelAttention(
        (4, 4, 4), hidden=(2, 2, 2), bias=False, share_spatial_gate=True, sharpen=torch.zeros_like
    ).eval()
    levels = tuple(torch.randn(1, 4, size, size) for size in (4, 2, 1))
    for result, level in zip(attention(levels), levels, strict=True):
        torch.testing.assert_close(result, level.relu())


def test_fusion_is_a_mean_with_shares_of_the_weights_in_use() -> None:
    fusion = Fusion(3)
    with torch.no_grad():
        fusion.weights.copy_(torch.tensor([1.0, 3.0, 4.0]))
    ones = torch.ones(1, 1, 2, 2)
    torch.testing.assert_close(fusion(2 * ones, 6 * ones), 5 * ones, rtol=1e-4, atol=0)
    torch.testing.assert_close(fusion(ones, ones, ones), ones, rtol=1e-4, atol=0)
    fusion.dilute = True
    torch.testing.assert_close(fusion(2 * ones, 6 * ones), 2.5 * ones, rtol=1e-4, atol=0)


def test_a_negative_fusion_weight_counts_as_zero() -> None:
    fusion = Fusion(2)
    with torch.no_grad():
        fusion.weights.copy_(torch.tensor([-1.0, 2.0]))
    first, second = torch.full((1, 1, 1, 1), 7.0), torch.ones(1, 1, 1, 1)
    torch.testing.assert_close(fusion(first, second), second, rtol=1e-4, atol=0)
    with torch.no_grad():
        fusion.weights.fill_(-1.0)
    assert fusion(first, second).item() == 0.0, "nothing counts, and nothing is divided by it"


def test_upsampling_repeats_pixels() -> None:
    x = torch.tensor([[1.0, 2.0]]).reshape(1, 1, 1, 2)
    assert upsample(x).flatten().tolist() == [1, 1, 2, 2, 1, 1, 2, 2]


def test_downsampling_of_negative_maps_differs_only_where_zeros_are_in_sight() -> None:
    x = -1.0 - torch.arange(16.0).reshape(1, 1, 4, 4)
    assert downsample(x).flatten().tolist() == [-1, -3, -9, -11]
    assert downsample_over_zeros(x).flatten().tolist() == [-1, 0, 0, 0]
    torch.testing.assert_close(downsample(-x), downsample_over_zeros(-x))


def test_bifpn_nodes_read_what_the_paper_says() -> None:
    # Convolutions are replaced by the identity and all weights are equal, so that every node is a mean.
    repeat = BiFPNRepeat(
        make_conv=lambda: NodeConv(1), share_nodes=False, p5_weights=2, activation=nn.Identity()
    )
    for node in repeat.convs:
        repeat.convs[node] = nn.Identity()
    downward = (torch.full((1, 1, 4, 4), 8.0), torch.full((1, 1, 2, 2), 4.0), torch.full((1, 1, 1, 1), 2.0))
    upward = (downward[0], torch.full((1, 1, 2, 2), 10.0), torch.full((1, 1, 1, 1), 20.0))
    p3, p4, p5 = repeat(downward, upward)
    p4_td = (4 + 2) / 2
    p3_out = (8 + p4_td) / 2
    p4_out = (10 + p4_td + p3_out) / 3
    for level, expected in ((p3, p3_out), (p4, p4_out), (p5, (20 + p4_out) / 2)):
        torch.testing.assert_close(level, torch.full_like(level, expected), rtol=2e-4, atol=0)


def test_shared_nodes_hold_one_convolution_and_three_weights() -> None:
    repeat = BiFPNRepeat(
        make_conv=lambda: NodeConv(4), share_nodes=True, p5_weights=2, activation=nn.Identity()
    )
    assert sorted(name.split(".")[1] for name, _ in repeat.named_parameters()) == ["shared"] * 5
    assert repeat.fusions["shared"].weights.numel() == 3


def test_neck_brings_all_levels_to_one_width() -> None:
    neck = BiFPN(
        in_channels=(6, 8, 10),
        make_reducer=lambda width: ConvBNAct(width, 4),
        repeats=[
            BiFPNRepeat(make_conv=lambda: NodeConv(4), share_nodes=True, p5_weights=2, activation=torch.relu)
        ],
        second_reducers=True,
    )
    levels = (torch.randn(2, 6, 8, 4), torch.randn(2, 8, 4, 2), torch.randn(2, 10, 2, 1))
    assert [tuple(level.shape) for level in neck(levels)] == [(2, 4, 8, 4), (2, 4, 4, 2), (2, 4, 2, 1)]


def test_context_sees_seven_pixels_and_no_more() -> None:
    torch.manual_seed(0)
    context = SSHContext(8).eval()
    x = torch.randn(1, 8, 15, 15)
    touched = x.clone()
    touched[..., 7, 7] += 10
    changed = (context(touched) - context(x)).abs().sum(dim=1)[0] > 0
    assert changed[4:11, 4:11].any()
    changed[4:11, 4:11] = False
    assert not changed.any()
    half = (context(touched) - context(x))[:, :4].abs().sum(dim=1)[0] > 0
    half[6:9, 6:9] = False
    assert not half.any()


@pytest.mark.parametrize("stage3_channels", [(256, 256), (128, 128), (96,)])
def test_backbone_states_its_channels(stage3_channels: tuple[int, ...]) -> None:
    backbone = Backbone(stage3_channels=stage3_channels).eval()
    maps = backbone(torch.zeros(1, 3, 64, 32))
    assert tuple(level.shape[1] for level in maps) == backbone.channels
    assert [tuple(level.shape[2:]) for level in maps] == [(8, 4), (4, 2), (2, 1)]


def test_head_orders_its_outputs_as_the_priors() -> None:
    head = Head(1, priors_per_cell=(2, 2, 2))
    # Each map holds its level, row and column; the prior's size comes from the bias.
    with torch.no_grad():
        for conv in head.box:
            conv.weight.fill_(1)
            conv.bias.copy_(torch.tensor([0.0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5]))
    levels, expected = [], []
    for level, (height, width) in enumerate(((8, 4), (4, 2), (2, 1))):
        values = 100 * level + 10 * torch.arange(height)[:, None] + torch.arange(width)
        levels.append(values.float().reshape(1, 1, height, width))
        expected += [value + size for value in values.flatten().tolist() for size in (0, 0.5)]
    outputs = head(tuple(levels))
    assert outputs.box_deltas[0, :, 0].tolist() == expected
    assert outputs.cls_logits.shape == (1, len(make_priors((64, 32))), 2)
    assert outputs.landmark_deltas.shape == (1, len(make_priors((64, 32))), 10)


def test_the_second_opinion_speaks_of_the_priors_in_their_order() -> None:
    rescorer = Rescorer(4, priors_per_cell=(2, 2, 2))
    head = Head(4, priors_per_cell=(2, 2, 2), rescorer=rescorer).eval()
    with torch.no_grad():
        for parameter in (*head.cls.parameters(), *rescorer.parameters()):
            nn.init.normal_(parameter, std=0.2)
        for parameter in head.cls.parameters():
            parameter.zero_()
        rescorer.share.fill_(1)
    levels = tuple(torch.randn(1, 4, 2 * side, side) for side in (4, 2, 1))
    cells = torch.cat([level[0].flatten(1).T for level in levels])
    outputs = torch.cat(
        [2 * n + torch.arange(2).repeat(level[0, 0].numel()) for n, level in enumerate(levels)]
    )
    expected = rescorer.margins_of(cells.repeat_interleave(2, dim=0), outputs)
    assert expected.unique().numel() == len(expected)
    torch.testing.assert_close(head(levels).cls_logits[0].diff(dim=1)[:, 0], expected)


def test_head_answers_in_single_precision_at_least() -> None:
    head = Head(4, priors_per_cell=(2, 2, 2)).bfloat16()
    levels = tuple(torch.randn(1, 4, side, side, dtype=torch.bfloat16) for side in (4, 2, 1))
    assert {part.dtype for part in head(levels)} == {torch.float32}
    levels = tuple(level.double() for level in levels)
    assert {part.dtype for part in head.double()(levels)} == {torch.float64}


def test_an_untrained_head_says_that_faces_are_rare() -> None:
    head = Head(4, priors_per_cell=(2, 2, 2))
    head.initialize()
    levels = tuple(torch.zeros(1, 4, size, size) for size in (4, 2, 1))
    face = head(levels).cls_logits.softmax(dim=-1)[..., 1]
    torch.testing.assert_close(face, torch.full_like(face, FACE_PROBABILITY_AT_START))


@pytest.mark.parametrize("has_second_opinion", [False, True])
def test_softened_scores_keep_their_order_and_every_decision_at_one_half(has_second_opinion: bool) -> None:
    rescorer = Rescorer(4, priors_per_cell=(2, 2, 2)) if has_second_opinion else None
    head = Head(4, priors_per_cell=(2, 2, 2), rescorer=rescorer).eval()
    levels = tuple(torch.randn(1, 4, side, side) for side in (4, 2, 1))
    if rescorer is not None:
        rescorer.share.fill_(0.5)
        for parameter in rescorer.parameters():
            nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        before = head(levels)
        head.soften(1.6)
        after = head(levels)
    torch.testing.assert_close(after.cls_logits, before.cls_logits / 1.6)
    assert torch.equal(after.box_deltas, before.box_deltas)
    assert torch.equal(after.landmark_deltas, before.landmark_deltas)
