"""Is the exported file the network that was trained? Both answer the same images, and are compared."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featherface.errors import DataError, ModelError
from featherface.imaging import RgbImage, letterbox, to_network_input
from featherface.inference.backends import Backend, OnnxBackend, TorchBackend
from featherface.inference.model_info import OUTPUT_NAMES

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import nn

DEFAULT_TOLERANCE = 1e-4
# From the smallest input there is upwards: every free side is seen at several values.
DEFAULT_SIZES_PX: tuple[int, ...] = (32, 160, 320, 640)


@dataclass(frozen=True)
class ParityReport:
    """How far an exported file is from its network."""

    max_abs_error: dict[str, float]
    """Largest difference of each output, over all inputs: what the tolerance holds for."""
    max_scaled_error: dict[str, float]
    """The same, each difference over max(1, size of the value): about 1e-6 of what is large is rounding."""
    num_inputs: int
    sizes_hw: tuple[tuple[int, int], ...]
    """Sizes of the network inputs that were compared."""
    batch_sizes: tuple[int, ...]
    tolerance: float

    @property
    def worst(self) -> float:
        """The largest difference of all outputs; NaN if any output is not a number."""
        return float(np.max(list(self.max_abs_error.values())))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "worst": self.worst}


def check_parity(
    model: nn.Module,
    onnx_path: Path | str,
    images: Sequence[RgbImage],
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    sizes_px: Sequence[int] = DEFAULT_SIZES_PX,
) -> ParityReport:
    """Compare a network with its export on photographs, scaled to several sizes, alone and in a batch of two.

    Args:
        model: the network that was exported.
        onnx_path: its export.
        images: (H, W, 3) uint8 RGB; they go through the preprocessing of deployment.
        tolerance: largest absolute difference that is accepted, in units of the outputs (logits, deltas).
        sizes_px: longer sides of the network inputs.

    Raises:
        ModelError: a difference above the tolerance, outputs that are not finite, or a broken file.
        DataError: no images.
    """
    # A copy: a backend moves its network and puts it in evaluation mode.
    reference = TorchBackend(copy.deepcopy(model), device="cpu")
    exported = OnnxBackend(onnx_path, device="cpu")
    return compare_backends(
        reference, exported, images, name=str(onnx_path), tolerance=tolerance, sizes_px=sizes_px
    )


def compare_backends(
    reference: Backend,
    exported: Backend,
    images: Sequence[RgbImage],
    *,
    name: str,
    tolerance: float = DEFAULT_TOLERANCE,
    sizes_px: Sequence[int] = DEFAULT_SIZES_PX,
) -> ParityReport:
    """Compare what runs a network with what runs its export; see `check_parity`.

    Args:
        reference: the network.
        exported: its export.
        images: see there.
        name: the export is called in errors.
        tolerance: see there; infinite measures only.
        sizes_px: see there.

    Raises:
        ModelError: see there.
        DataError: no images.
    """
    if not images:
        raise DataError("parity needs at least one image to compare on, got none")
    errors, scaled_errors = dict.fromkeys(OUTPUT_NAMES, 0.0), dict.fromkeys(OUTPUT_NAMES, 0.0)
    sizes_hw: set[tuple[int, int]] = set()
    batch_sizes: set[int] = set()
    inputs = [batch for image in images for batch in network_inputs(image, sizes_px)]
    for batch in inputs:
        sizes_hw.add((batch.shape[2], batch.shape[3]))
        batch_sizes.add(batch.shape[0])
        for output, expected, got in zip(OUTPUT_NAMES, reference(batch), exported(batch), strict=True):
            difference = _difference(expected, got)
            scaled = difference / np.maximum(1, np.abs(expected))
            errors[output] = float(np.maximum(errors[output], difference.max()))  # np.maximum keeps NaN
            scaled_errors[output] = float(np.maximum(scaled_errors[output], scaled.max()))
    report = ParityReport(
        max_abs_error=errors,
        max_scaled_error=scaled_errors,
        num_inputs=len(inputs),
        sizes_hw=tuple(sorted(sizes_hw)),
        batch_sizes=tuple(sorted(batch_sizes)),
        tolerance=tolerance,
    )
    if not report.worst <= tolerance:  # so that NaN is refused too
        listed = ", ".join(
            f"{output} {error:.3g}, scaled {scaled_errors[output]:.3g}" for output, error in errors.items()
        )
        raise ModelError(
            f"{name}: differs from its network by more than {tolerance:g} ({listed}); do not deploy it "
            "unless the scaled differences show mere rounding: then raise the tolerance"
        )
    return report


def network_inputs(image: RgbImage, sizes_px: Sequence[int]) -> list[npt.NDArray[np.float32]]:
    """Network inputs (B, 3, H, W) of an image: alone, turned by 90 degrees, in a batch with its mirror."""
    inputs = []
    for size_px in sizes_px:
        upright = to_network_input(letterbox(image, size_px).image)
        turned = to_network_input(letterbox(np.ascontiguousarray(np.rot90(image)), size_px).image)
        # The second of the batch differs from the first, or a batch axis that is mixed up would not show.
        inputs += [upright[None], turned[None], np.stack((upright, upright[:, :, ::-1]))]
    return inputs


def _difference(expected: npt.NDArray[np.float32], got: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if expected.shape != got.shape:
        raise ModelError(
            f"the export answers with shape {got.shape} where its network gives {expected.shape}"
        )
    difference: npt.NDArray[np.float32] = np.abs(expected - got)
    return difference
