"""The demo as a folder of files that any static file server can hand out."""

from __future__ import annotations

import json
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from featherface.data.synthetic_scenes import render_scene
from featherface.demo.runtime import find_runtime
from featherface.errors import ModelError, OptionError
from featherface.files import write_atomically
from featherface.imaging import MEAN_BGR, STRIDE_MULTIPLE
from featherface.inference.backends import OnnxBackend, read_model_file
from featherface.inference.detector import FaceDetector
from featherface.inference.loading import resolve_model, shipped_weights
from featherface.inference.model_info import VARIANCES
from featherface.inference.votes import VOTE_RULE

SETTINGS_FILE: Final = "model.json"
"""What the page knows of its model; a folder that has one of ours is a demo, and may be written again."""
MODEL_FILE: Final = "model.onnx"
_OUR_KEYS: Final = {"architecture", "strides", "min_sizes_px", "mean_bgr"}
# A drawn scene of three people, so that there is something to look at before one has a photograph at hand.
_SAMPLE_SEED, _SAMPLE_INDEX, _SAMPLE_HW = 77, 16, (720, 960)


def write_demo(out: Path, *, model: str | Path | None = None, runtime: Path | None = None) -> None:
    """Write page, model and runtime into a folder; an older demo there is replaced.

    Args:
        out: a new or empty folder, or an older demo.
        model: an .onnx file, an address such as `models:/featherface@champion`, or None for the weights that
            ship with the package.
        runtime: ONNX Runtime's package for browsers, where it should not come from npm.

    Raises:
        OptionError: the folder has something else in it.
        ModelError: the model cannot be used, or the folder cannot be written to.
        DownloadError: the runtime cannot be had.
    """
    _refuse_foreign(out)
    content, name = _read_model(model)
    # Refuses what is none of ours.
    detector = FaceDetector(OnnxBackend(content, device="cpu", num_threads=1, name=name))
    files = {f"runtime/{name}": content for name, content in find_runtime(runtime).items()}
    files |= {MODEL_FILE: content, "sample.jpg": _sample(), SETTINGS_FILE: _settings(detector)}
    page = resources.files("featherface.demo").joinpath("page")
    # The page itself last: until then a server has nothing to show, rather than half of it.
    for name, content in (files | _tree(page, "")).items():
        write_atomically(out / name, content)


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OptionError(f"{out}: is a file; give a new folder")
    if out.is_dir() and any(out.iterdir()) and not _is_demo(out):
        raise OptionError(f"{out}: has other files in it; give a new or an empty folder, or an older demo")


def _is_demo(folder: Path) -> bool:
    """Whether the settings there are ours: models of TensorFlow.js have a file of that name as well."""
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.keys() >= _OUR_KEYS


def _read_model(model: str | Path | None) -> tuple[bytes, str]:
    if model is None:
        return shipped_weights().read_bytes(), "the weights that ship"
    path = resolve_model(model)
    if path.suffix.lower() != ".onnx":
        raise ModelError(
            f"{path}: a browser runs .onnx files, got '{path.suffix or path.name}'; export it first"
        )
    return read_model_file(path), str(path)


def _settings(detector: FaceDetector) -> bytes:
    """What the page must do as Python does, from where Python has it."""
    info = detector.info
    settings: dict[str, Any] = {
        "architecture": info.architecture,
        "license": info.extra.get("license", ""),
        "strides": info.strides,
        "min_sizes_px": info.min_sizes_px,
        "variances": VARIANCES,
        "mean_bgr": MEAN_BGR,
        "stride_multiple": STRIDE_MULTIPLE,
        "score_threshold": detector.score_threshold,
        "iou_threshold": detector.iou_threshold,
        "max_faces": detector.max_faces,
        "votes": VOTE_RULE._asdict(),
    }
    return json.dumps(settings, indent=1).encode()


def _sample() -> bytes:
    image, _ = render_scene(_SAMPLE_SEED, "val", _SAMPLE_INDEX, _SAMPLE_HW)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return np.asarray(encoded).tobytes()


def _tree(folder: Traversable, prefix: str) -> dict[str, bytes]:
    """Files of the page by their path in it; `index.html` comes last."""
    files: dict[str, bytes] = {}
    for item in sorted(folder.iterdir(), key=lambda item: (item.name == "index.html", item.name)):
        if item.is_dir():
            files |= _tree(item, f"{prefix}{item.name}/")
        else:
            files[f"{prefix}{item.name}"] = item.read_bytes()
    return files
