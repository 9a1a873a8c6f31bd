"""The five innovations of the student, each a switch of the model configuration.

1 `FeatureReuse`, 2 `multiply_attention`, 3 `ProgressiveEnhancement`, 4 `MultiscaleIntelligence`,
5 `DynamicWeightSharing`. All are for single maps. All start near the identity, so that a backbone copied from
a teacher meets the features it knows. What each one is worth is measured, not assumed: see
docs/experiments.md.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherface.models.kernels import resize_kernel, scale_space_kernel
from featherface.shapes import Float

SCALES = (1.0, 0.8, 0.6, 0.4)
"""Relative sizes of the copies that innovations 3 and 4 look at."""
_TINY = 1e-6


class FeatureReuse(nn.Module):
    """Innovation 1: each channel takes over a part of the channels that look like it.

    With F the map as C rows of H*W values, Fn its rows at unit length and A = softmax(Fn Fn^T / temperature):
    Y = A F, scaled down where needed so that |Y| <= |F|, and the result is F + mix * (Y - F). No parameters;
    permuting the channels permutes the result; the norm never grows.

    Args:
        temperature: of the softmax over channels; small keeps every channel with itself.
        mix: share of Y in the result, in [0, 1].

    Reference:
        Channel attention of DANet, arXiv:1809.02983, section 3.3, with the cosine similarity and temperature
        of XCiT, arXiv:2106.09681, section 3.
    """

    def __init__(self, *, temperature: float = 0.1, mix: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature
        self.mix = mix

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Routed map."""
        rows = x.flatten(2)  # (B, C, H*W)
        mixing = self.mixing(rows @ rows.transpose(1, 2))
        if x.is_contiguous(memory_format=torch.channels_last):
            # In the layout of training the product is taken the other way round, or the whole map is copied.
            return (rows.transpose(1, 2) @ mixing.transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        return (mixing @ rows).reshape(x.shape)

    def mixing(self, gram: Float[Tensor, "*B C C"]) -> Float[Tensor, "*B C C"]:
        """The matrix that maps the channels of a map to those of the result, from their products.

        Everything but the last product happens between channels; |A F| follows from the Gram matrix too.
        """
        squares = gram.diagonal(dim1=-2, dim2=-1)  # (*B, C)
        lengths = squares.clamp(min=_TINY).sqrt()
        cosines = gram / (lengths[..., :, None] * lengths[..., None, :])
        routing = (cosines / self.temperature).softmax(dim=-1)
        routed_square = ((routing @ gram) * routing).sum(dim=(-2, -1)).clamp(min=_TINY)
        shrink = (squares.sum(dim=-1) / routed_square).clamp(min=_TINY, max=1.0).sqrt()
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        return (1 - self.mix) * identity + (self.mix * shrink)[..., None, None] * routing


def multiply_attention(
    attention: Float[Tensor, "*dims"], *, times: int = 3, rescale: bool = True
) -> Float[Tensor, "*dims"]:
    """Innovation 2: attention times its own sigmoid, again and again, which favors what is already high.

    Increasing in each element, and never above the attention it was given. Stays in (0, 1).

    Args:
        attention: values in (0, 1).
        times: how often it is multiplied; 0 returns it as it is.
        rescale: divide by what 1 becomes (0.30642 after three times), so that full attention stays full.

    Reference:
        The recurrence A <- A * sigmoid(A) is SiLU, arXiv:1702.03118, applied to a map in (0, 1).
    """
    one = attention.new_ones(())
    for _ in range(times):
        attention = attention * attention.sigmoid()
        one = one * one.sigmoid()
    return attention / one if rescale else attention


class LowPass(nn.Module):
    """Fixed symmetric filter that keeps constants, never increases the norm, and works down to 1x1 maps.

    A tap that falls outside of the map reads the pixel in the middle instead. The operator is then a
    symmetric matrix of non-negative numbers whose rows sum to 1, so constants are kept and no singular value
    exceeds 1; padding by copies of the border would keep constants but could increase the norm.
    """

    kernel: Tensor

    def __init__(self, kernel: Float[Tensor, "K K"]) -> None:
        super().__init__()
        # Not in checkpoints: it follows from the configuration.
        self.register_buffer("kernel", kernel[None, None], persistent=False)  # (1, 1, K, K)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Filtered map."""
        channels, pad = x.shape[1], self.kernel.shape[-1] // 2
        inside = F.conv2d(torch.ones_like(x[:1, :1]), self.kernel, padding=pad)  # (1, 1, H, W)
        smooth = F.conv2d(x, self.kernel.expand(channels, -1, -1, -1), padding=pad, groups=channels)
        return torch.addcmul(smooth, x, 1 - inside)


class ProgressiveEnhancement(LowPass):
    """Innovation 3: at each scale in turn, x <- (x + 0.25 g_t * x) / 1.25 with a Gaussian g_t of variance t.

    The steps are linear and shift-invariant, so they are one 5x5 filter. No parameters.

    Reference:
        Scale space: Lindeberg 1994, "Scale-Space Theory in Computer Vision"; residual pyramid: Burt and
        Adelson 1983, "The Laplacian Pyramid as a Compact Image Code".
    """

    def __init__(self) -> None:
        super().__init__(torch.tensor(scale_space_kernel(SCALES, residual=0.25)))


class MultiscaleIntelligence(LowPass):
    """Innovation 4: mean of copies resized to each scale and back, weighted by the root of the scale.

    Resizing there and back is linear; its response, averaged over the positions of the two grids, is a fixed
    filter. It costs one depthwise convolution instead of six resizes, favors no position, and works where 0.4
    of a map would be no pixel at all. No parameters.

    Reference:
        Weights that sum to 1, as in the fusion of EfficientDet, arXiv:1911.09070, section 3.3, but fixed.
    """

    def __init__(self) -> None:
        super().__init__(torch.tensor(resize_kernel(SCALES)))


class DynamicWeightSharing(nn.Module):
    """Innovation 5: x * (W * sigmoid(mean of x)), one W for every map it is called with.

    W starts at 2, so that a channel of mean 0 passes as it is.

    Args:
        channels: channels of the maps, and the number of parameters.

    Reference:
        Squeeze-and-Excitation, arXiv:1709.01507, section 3, without its perceptron; W as in LayerScale,
        arXiv:2103.17239, section 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), 2.0))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Map with each channel scaled by its content."""
        return x * (self.weight * x.mean(dim=(2, 3), keepdim=True).sigmoid())
