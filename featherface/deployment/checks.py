"""Whether a file answers as its network does: outputs against outputs, or faces against faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from featherface.data.reading import read_photograph
from featherface.data.synthetic_scenes import render_scene
from featherface.deployment.formats import INT8, ONNX, ONNX_NMS, OPENVINO, TORCH, open_format
from featherface.deployment.report import Parity
from featherface.errors import ModelError
from featherface.export.openvino import MIN_SIDE_PX
from featherface.export.parity import DEFAULT_SIZES_PX, compare_backends, network_inputs
from featherface.export.suppression import DEFAULTS, SuppressingDetector
from featherface.imaging import RgbImage
from featherface.inference.backends import Backend, OnnxBackend, TorchBackend
from featherface.inference.postprocess import postprocess
from featherface.models.priors import make_priors

if TYPE_CHECKING:
    import numpy.typing as npt

    from featherface.data.widerface import Sample
    from featherface.deployment.source import Source
    from featherface.structures import Detections

TOLERANCE: Final = 1e-3
"""Of logits and deltas: a thousandth of a delta moves a box of the largest prior by 0.05 px."""
TOLERANCE_PX: Final = 1e-3
"""Of faces in pixels, where the network is the same and only decoding differs."""
_LOW_SCORE_THRESHOLD = 0.02
_PARITY_IMAGES = 2
_SCENE_HW = (320, 416)


def parity_images(samples: Sequence[Sample]) -> list[RgbImage]:
    """Photographs to compare answers on, from all over the split; drawn scenes if there are none."""
    if not samples:
        # Numbers of scenes with a few large and many small faces.
        return [render_scene(0, "val", index, _SCENE_HW)[0] for index in range(1, 1 + _PARITY_IMAGES)]
    chosen = np.linspace(0, len(samples) - 1, min(_PARITY_IMAGES, len(samples))).astype(int)
    return [read_photograph(samples[index]) for index in chosen]


def check_answers(
    name: str, path: Path, source: Source, base: Path, images: Sequence[RgbImage]
) -> Parity | None:
    """How far the answers of a file are from those of its network; None if the file is all there is of it.

    The network is that of torch where its weights are known, else the fp32 ONNX file. Suppression inside of a
    file is set against the decoding outside of it, on the outputs of the fp32 ONNX file.

    Args:
        name: of the format.
        path: of the file that is opened.
        source: what was exported.
        base: the fp32 ONNX file.
        images: to compare on, at several sizes.

    Raises:
        ModelError: a difference above the tolerance; int8 has none.
    """
    if name == ONNX_NMS:
        return Parity(_largest_face_difference(path, base, images), "px", TOLERANCE_PX)
    if source.network is None and name == ONNX:
        return None
    reference: Backend = OnnxBackend(base, device="cpu")
    if source.network is not None:
        reference = TorchBackend(source.network, device="cpu", info=source.info)
    # The shorter side of a photograph is a fifth of the longer one at least.
    smallest = 5 * MIN_SIDE_PX if name in (OPENVINO, TORCH) else 0
    report = compare_backends(
        reference,
        open_format(name, path, source, num_threads=1),
        images,
        name=path.name,
        tolerance=float("inf") if name == INT8 else TOLERANCE,
        sizes_px=[size for size in DEFAULT_SIZES_PX if size >= smallest],
    )
    return Parity(report.worst, "of logits and deltas", None if name == INT8 else TOLERANCE)


def _largest_face_difference(path: Path, base: Path, images: Sequence[RgbImage]) -> float:
    """Between the faces of a file with suppression inside and those of `postprocess`, in pixels.

    At a low threshold too, where many boxes overlap.
    """
    raw, largest = OnnxBackend(base, device="cpu", num_threads=1), 0.0
    iou_threshold, max_faces = DEFAULTS["iou_threshold"], int(DEFAULTS["max_faces"])
    for score_threshold in (DEFAULTS["score_threshold"], _LOW_SCORE_THRESHOLD):
        detector = SuppressingDetector(path, score_threshold=score_threshold, num_threads=1)
        for image in images:
            for batch in network_inputs(image, DEFAULT_SIZES_PX):
                single = batch[:1]
                outputs = raw(single)
                expected = postprocess(
                    outputs.cls_logits[0],
                    outputs.box_deltas[0],
                    outputs.landmark_deltas[0],
                    make_priors(
                        (single.shape[2], single.shape[3]),
                        strides=raw.info.strides,
                        min_sizes_px=raw.info.min_sizes_px,
                    ),
                    score_threshold=score_threshold,
                    iou_threshold=iou_threshold,
                    max_faces=max_faces,
                )
                largest = max(largest, _face_difference(expected, detector.run(single), path.name))
    if not largest <= TOLERANCE_PX:
        raise ModelError(
            f"{path.name}: differs from decoding outside by {largest:.3g} px, allowed are {TOLERANCE_PX:g}"
        )
    return largest


def _face_difference(expected: Detections, got: Detections, name: str) -> float:
    if len(expected) != len(got):
        raise ModelError(
            f"{name}: finds {len(got)} faces where decoding outside finds {len(expected)}; do not deploy it"
        )
    if not len(got):
        return 0.0
    if (np.diff(got.scores) > 0).any():
        raise ModelError(f"{name}: its faces are not sorted by score; do not deploy it")
    # Each with its nearest: of two scores that are equal but for rounding either may come first.
    distances = np.zeros((len(expected), len(got)), dtype=np.float32)
    for one, other in zip(_columns(expected), _columns(got), strict=True):
        np.maximum(distances, np.abs(one[:, None] - other), out=distances)
    return float(max(distances.min(axis=0).max(), distances.min(axis=1).max()))


def _columns(faces: Detections) -> npt.NDArray[np.float32]:
    """(15, N): boxes, landmarks and scores."""
    return np.concatenate(
        (faces.boxes_xyxy, faces.landmarks_xy.reshape(-1, 10), faces.scores[:, None]), axis=1
    ).T
