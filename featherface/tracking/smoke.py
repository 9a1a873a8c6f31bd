"""Does a registered model detect at all? Asked once more where it has just become the champion."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featherface.errors import FeatherFaceError, ModelError
from featherface.inference.detector import FaceDetector

# Sides that are no multiples of 32, so that the padding is part of the test.
_SHAPE = (101, 75, 3)


def smoke_test(onnx_path: Path) -> None:
    """Load the file and detect on a picture of noise.

    Args:
        onnx_path: as downloaded from the registry.

    Raises:
        ModelError: it cannot be loaded or run, or answers with what is no number.
    """
    image = np.random.default_rng(0).integers(0, 256, _SHAPE, dtype=np.uint8)
    try:
        detections = FaceDetector(onnx_path, score_threshold=0.0, num_threads=1).detect(image)
    except FeatherFaceError:
        raise
    except Exception as error:
        raise ModelError(f"{onnx_path}: cannot be run ({error})") from error
    # With this threshold every prior is a detection; only what is no number is above no threshold at all.
    if len(detections) == 0:
        raise ModelError(f"{onnx_path}: answers with scores that are no numbers")
    for name in ("boxes_xyxy", "scores", "landmarks_xy"):
        if not np.isfinite(getattr(detections, name)).all():
            raise ModelError(f"{onnx_path}: answers with {name} that are no finite numbers")
