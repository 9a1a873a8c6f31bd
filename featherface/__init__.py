"""Ultra-light face detection: find faces, build the networks, load their weights.

Names are imported when they are first used, so that detecting faces does not wait for torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featherface.config import load_config
    from featherface.errors import FeatherFaceError
    from featherface.inference.detector import FaceDetector
    from featherface.inference.results import Face, Faces
    from featherface.inference.weights import load_model, load_public_v1
    from featherface.models.build import build_model

# From 1.29 on ONNX Runtime tells its maker what it runs, as soon as it is imported. Whoever looks for faces
# was not asked: off, unless the variable is set to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Face",
    "FaceDetector",
    "Faces",
    "FeatherFaceError",
    "build_model",
    "load_config",
    "load_model",
    "load_public_v1",
]

_HOMES = {
    "Face": "featherface.inference.results",
    "FaceDetector": "featherface.inference.detector",
    "Faces": "featherface.inference.results",
    "FeatherFaceError": "featherface.errors",
    "build_model": "featherface.models.build",
    "load_config": "featherface.config",
    "load_model": "featherface.inference.weights",
    "load_public_v1": "featherface.inference.weights",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'featherface' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
