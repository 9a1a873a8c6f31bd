"""The invariants of the five innovations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.models.innovations import (
    SCALES,
    DynamicWeightSharing,
    FeatureReuse,
    LowPass,
    MultiscaleIntelligence,
    ProgressiveEnhancement,
    multiply_attention,
)
from featherface.models.kernels import resize_kernel, scale_space_kernel, scale_weights

FILTERS = [ProgressiveEnhancement, MultiscaleIntelligence]
SIZES = [(1, 1), (1, 2), (2, 2), (3, 5), (7, 4)]


def random_map(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def norms(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)


class TestFeatureReuse:
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_it_is_the_definition_written_out(self, layout: torch.memory_format) -> None:
        x, temperature, mix = random_map(2, 4, 3, 5).contiguous(memory_format=layout), 0.2, 0.7
        for item, result in zip(x, FeatureReuse(temperature=temperature, mix=mix)(x), strict=True):
            rows = item.reshape(4, 15)
            unit = rows / rows.norm(dim=1, keepdim=True)
            routed = ((unit @ unit.T) / temperature).softmax(dim=1) @ rows
            routed = routed * min(1.0, float(rows.norm() / routed.norm()))
            torch.testing.assert_close(result.reshape(4, 15), rows + mix * (routed - rows))

    @given(st.integers(0, 10_000), st.floats(0.05, 5), st.floats(0, 1), st.floats(-3, 3))
    @settings(max_examples=30, deadline=None)
    def test_the_norm_never_grows(self, seed: int, temperature: float, mix: float, shift: float) -> None:
        x = random_map(2, 6, 2, 3, seed=seed) + shift
        result = FeatureReuse(temperature=temperature, mix=mix)(x)
        assert (norms(result) <= norms(x) * (1 + 1e-9)).all()

    def test_permuting_channels_permutes_the_output(self) -> None:
        x, order, reuse = random_map(2, 8, 3, 4), torch.randperm(8), FeatureReuse()
        torch.testing.assert_close(reuse(x[:, order]), reuse(x)[:, order])

    def test_images_of_a_batch_do_not_touch_each_other(self) -> None:
        x, reuse = random_map(3, 8, 3, 4), FeatureReuse()
        changed = x.clone()
        changed[0] *= -7
        torch.testing.assert_close(reuse(changed)[1:], reuse(x)[1:])
        torch.testing.assert_close(reuse(x)[2:], reuse(x[2:]))

    def test_a_zero_map_stays_zero_with_finite_gradients(self) -> None:
        x = torch.zeros(1, 4, 2, 2, requires_grad=True)
        result = FeatureReuse()(x)
        result.sum().backward()
        torch.testing.assert_close(result, torch.zeros_like(result))
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()

    def test_unlike_channels_pass_nearly_unchanged(self) -> None:
        x = torch.eye(16).reshape(1, 16, 4, 4)
        assert (FeatureReuse()(x) - x).abs().max() < 1e-3


class TestAttentionMultiplication:
    def test_full_attention_decays_as_stated(self) -> None:
        values = [multiply_attention(torch.ones(1), times=times, rescale=False).item() for times in range(4)]
        assert values == pytest.approx([1.0, 0.73106, 0.49349, 0.30642], abs=5e-6)

    def test_rescaled_full_attention_stays_full(self) -> None:
        torch.testing.assert_close(multiply_attention(torch.ones(3)), torch.ones(3))

    @pytest.mark.parametrize("rescale", [False, True])
    def test_it_is_increasing_and_never_above_its_input(self, rescale: bool) -> None:
        attention = torch.linspace(0, 1, 1001, dtype=torch.float64)
        previous = attention
        for times in range(1, 5):
            result = multiply_attention(attention, times=times, rescale=rescale)
            assert (result.diff() > 0).all()
            assert (result <= previous + 1e-12).all()
            assert result.min() >= 0
            previous = result

    def test_zero_times_is_the_identity(self) -> None:
        attention = torch.rand(2, 3)
        torch.testing.assert_close(multiply_attention(attention, times=0), attention)


class TestLowPassFilters:
    @pytest.mark.parametrize("make", FILTERS)
    @pytest.mark.parametrize("hw", SIZES)
    def test_a_constant_stays_itself(self, make: type[nn.Module], hw: tuple[int, int]) -> None:
        x = torch.full((2, 3, *hw), 4.25)
        torch.testing.assert_close(make()(x), x)

    @pytest.mark.parametrize("make", FILTERS)
    @pytest.mark.parametrize("hw", SIZES)
    def test_no_singular_value_exceeds_one(self, make: type[nn.Module], hw: tuple[int, int]) -> None:
        pixels = hw[0] * hw[1]
        impulses = torch.eye(pixels, dtype=torch.float64).reshape(pixels, 1, *hw)
        operator = make().double()(impulses).reshape(pixels, pixels)
        torch.testing.assert_close(operator, operator.T)
        assert (operator >= 0).all()
        assert torch.linalg.matrix_norm(operator, ord=2) <= 1 + 1e-6

    @pytest.mark.parametrize("make", FILTERS)
    def test_noise_shrinks_and_channels_stay_apart(self, make: type[nn.Module]) -> None:
        x = random_map(1, 2, 16, 16, dtype=torch.float32)
        result = make()(x)
        assert (norms(result) < norms(x)).all()
        torch.testing.assert_close(result[:, 1:], make()(x[:, 1:]))

    @pytest.mark.parametrize("make", FILTERS)
    def test_it_has_no_parameters_and_nothing_in_a_checkpoint(self, make: type[nn.Module]) -> None:
        assert list(make().parameters()) == []
        assert make().state_dict() == {}

    def test_a_single_pixel_passes(self) -> None:
        kernel = torch.zeros(5, 5)
        kernel[2, 2], kernel[2, 3], kernel[2, 1] = 0.5, 0.25, 0.25
        x = torch.tensor([[1.0, 2.0, 4.0]]).reshape(1, 1, 1, 3)
        expected = torch.tensor([[1.25, 2.25, 3.5]]).reshape(1, 1, 1, 3)
        torch.testing.assert_close(LowPass(kernel)(x), expected)


def test_progressive_enhancement_is_the_scale_space_step_by_step() -> None:
    x = random_map(1, 2, 24, 24)
    offsets = torch.arange(-8, 9, dtype=torch.float64)
    expected = x
    for scale in SCALES[1:]:  # at scale 1 the Gaussian is the identity, and so is the step
        gaussian = torch.exp(-offsets.square() / (2 * (1 / scale**2 - 1) / 4))
        gaussian = gaussian / gaussian.sum()
        blurred = F.conv2d(
            expected, gaussian.reshape(1, 1, 1, -1).expand(2, 1, 1, -1), padding=(0, 8), groups=2
        )
        blurred = F.conv2d(
            blurred, gaussian.reshape(1, 1, -1, 1).expand(2, 1, -1, 1), padding=(8, 0), groups=2
        )
        expected = (expected + 0.25 * blurred) / 1.25
    inside = (..., slice(8, -8), slice(8, -8))
    error = (ProgressiveEnhancement().double()(x) - expected)[inside].abs().max()
    assert error < 0.03 * x.std()  # what the crop to 5x5 costs


def test_multiscale_intelligence_is_the_mean_response_of_resizing_there_and_back() -> None:
    side, middle = 60, 30
    responses = []
    for row in range(5):  # 0.8, 0.6 and 0.4 all repeat every five pixels
        for column in range(5):
            impulse = torch.zeros(1, 1, side, side, dtype=torch.float64)
            impulse[..., middle + row, middle + column] = 1
            fused = torch.zeros_like(impulse)
            for weight, scale in zip(scale_weights(SCALES), SCALES, strict=True):
                small = F.interpolate(impulse, size=(round(side * scale),) * 2, mode="bilinear")
                fused += weight * F.interpolate(small, size=(side, side), mode="bilinear")
            window = (
                ...,
                slice(middle + row - 2, middle + row + 3),
                slice(middle + column - 2, middle + column + 3),
            )
            responses.append(fused[window][0, 0])
    mean = torch.stack(responses).mean(dim=0)
    assert mean.sum() > 0.995
    expected = (mean / mean.sum()).float()
    torch.testing.assert_close(torch.tensor(resize_kernel(SCALES)), expected)


def test_scale_weights_are_roots_that_sum_to_one() -> None:
    weights = scale_weights(SCALES)
    assert sum(weights) == pytest.approx(1)
    assert weights == pytest.approx((0.3029, 0.2709, 0.2346, 0.1916), abs=5e-5)


@pytest.mark.parametrize("kernel", [scale_space_kernel(SCALES, residual=0.25), resize_kernel(SCALES)])
def test_kernels_are_symmetric_and_sum_to_one(kernel: np.ndarray) -> None:
    assert kernel.shape == (5, 5)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(kernel, kernel.T, atol=1e-7)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
    assert kernel.max() == kernel[2, 2]


class TestDynamicWeightSharing:
    def test_it_scales_each_channel_by_weight_and_sigmoid_of_its_mean(self) -> None:
        module = DynamicWeightSharing(2)
        with torch.no_grad():
            module.weight[1] = -3.0
        x = torch.tensor([[1.0, 3.0], [0.0, 0.0]]).reshape(1, 2, 1, 2) + torch.tensor([0.0, 1.0]).reshape(
            1, 2, 1, 1
        )
        first, second = 2 / (1 + np.exp(-2)), -3 / (1 + np.exp(-1))
        expected = torch.tensor([[first, 3 * first], [second, second]], dtype=torch.float32).reshape(
            1, 2, 1, 2
        )
        torch.testing.assert_close(module(x), expected)

    def test_images_of_a_batch_do_not_touch_each_other(self) -> None:
        x, module = random_map(2, 3, 4, 5, dtype=torch.float32), DynamicWeightSharing(3)
        torch.testing.assert_close(module(x)[1:], module(x[1:]))

    def test_a_channel_of_mean_zero_passes_at_the_start(self) -> None:
        x = torch.tensor([-1.0, 1.0, -2.0, 2.0]).reshape(1, 1, 2, 2)
        torch.testing.assert_close(DynamicWeightSharing(1)(x), x)

    def test_its_weights_are_counted_saved_loaded_and_moved(self) -> None:
        module, other = DynamicWeightSharing(5), DynamicWeightSharing(5)
        with torch.no_grad():
            module.weight.mul_(torch.arange(5.0)[:, None, None])
        assert sum(parameter.numel() for parameter in module.parameters()) == 5
        other.load_state_dict(module.state_dict(), strict=True)
        torch.testing.assert_close(other.weight, module.weight)
        assert other.double().weight.dtype == torch.float64
