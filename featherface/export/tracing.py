"""What exports to ONNX and to torch programs share: which sides are free, and a tracer that is not heard."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import torch

from featherface.imaging import STRIDE_MULTIPLE

if TYPE_CHECKING:
    from torch import Tensor, nn

EXAMPLE_SHAPE: Final = (2, 3, 2 * STRIDE_MULTIPLE, 3 * STRIDE_MULTIPLE)
"""Small, for a fast trace; two different sides and a batch of two, so that none of the three is taken for
another or for the constant 1."""
_MAX_SIDE_PX = 32_768
_NOISY_LOGGERS = ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir")


def free_sides() -> dict[int, Any]:
    """The axes of the images that stay free: any batch, sides in multiples of 32."""
    blocks = _MAX_SIDE_PX // STRIDE_MULTIPLE
    height, width = (torch.export.Dim(name, min=1, max=blocks) for name in ("blocks_high", "blocks_wide"))
    return {0: torch.export.Dim("batch"), 2: STRIDE_MULTIPLE * height, 3: STRIDE_MULTIPLE * width}


class Images(torch.nn.Module):
    """Calls a detector with an argument of a known name, which the free sides are declared by."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of the detector, as a plain tuple."""
        cls_logits, box_deltas, landmark_deltas = self.detector(images)
        return cls_logits, box_deltas, landmark_deltas


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep the exporter's progress and its own deprecations from the user; what fails still raises."""
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def innermost(error: BaseException) -> str:
    """First line of the error that started it: the exporter wraps it in advice of many colored lines."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
