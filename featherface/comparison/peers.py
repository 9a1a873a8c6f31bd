"""Other people's detectors behind our call: an RGB image in, `Detections` in its pixels out.

A peer is recognized by the names of its outputs. To add one, write a class with `outputs` (names that must be
there) and `__call__`, and name it in `PEERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import cv2
import numpy as np
import onnxruntime as ort

from featherface.config import EvaluateConfig
from featherface.errors import ModelError
from featherface.evaluation.run import detector_for
from featherface.inference.backends import open_session, read_model_file
from featherface.inference.model_info import OUTPUT_NAMES
from featherface.inference.postprocess import non_maximum_suppression
from featherface.structures import Detections

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    RgbImage = npt.NDArray[np.uint8]
    Detect = Callable[[RgbImage], Detections]

_MULTIPLE_PX = 32


class Peer(Protocol):
    """A detector of somebody else."""

    outputs: ClassVar[frozenset[str]]
    """Names among its outputs by which it is known."""

    def __init__(self, session: ort.InferenceSession, settings: EvaluateConfig) -> None: ...

    def __call__(self, image: RgbImage) -> Detections:
        """The faces of an (H, W, 3) image, best first."""
        ...


class YuNet:
    """YuNet at the image's own size, sides padded with black to multiples of 32.

    Reference:
        Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research 20, 2023.
    """

    outputs: ClassVar[frozenset[str]] = frozenset(
        f"{part}_{stride}" for part in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)
    )
    _iou_threshold = 0.45

    def __init__(self, session: ort.InferenceSession, settings: EvaluateConfig) -> None:
        self._session, self._settings = session, settings
        self._input = session.get_inputs()[0].name
        self._names = sorted(self.outputs)

    def __call__(self, image: RgbImage) -> Detections:
        """The faces of an (H, W, 3) image, best first."""
        height, width = image.shape[:2]
        padded = np.zeros((1, 3, _rounded_up(height), _rounded_up(width)), dtype=np.float32)
        # Plane by plane, as in `imaging.to_network_input`: compared with us it must not lose time here.
        for plane, target in zip(reversed(cv2.split(image)), padded[0], strict=True):
            target[:height, :width] = plane
        found = self._session.run(self._names, {self._input: padded})
        by_name = dict(zip(self._names, (output[0] for output in found), strict=True))
        levels = [self._decode(by_name, stride, padded.shape[3]) for stride in (8, 16, 32)]
        scores, boxes, landmarks = (np.concatenate(parts) for parts in zip(*levels, strict=True))
        return _suppressed(boxes, scores, landmarks, self._iou_threshold, self._settings.max_faces)

    def _decode(self, outputs: dict[str, Floats], stride: int, width: int) -> tuple[Floats, Floats, Floats]:
        score = np.sqrt(outputs[f"cls_{stride}"] * outputs[f"obj_{stride}"])[:, 0]
        kept = np.flatnonzero(score > self._settings.score_threshold)
        row, column = np.divmod(kept, width // stride)
        cell_xy = np.stack((column, row), axis=1).astype(np.float32)
        box = outputs[f"bbox_{stride}"][kept]
        center, half = (cell_xy + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride / 2
        points = outputs[f"kps_{stride}"][kept].reshape(-1, 5, 2)
        return (
            score[kept],
            np.concatenate((center - half, center + half), axis=1),
            (cell_xy[:, None] + points) * stride,
        )


class UltraLight:
    """Ultra-Light-Fast-Generic-Face-Detector (RFB) at the fixed size of its file; it has no landmarks.

    Reference:
        Linzaer: Ultra-Light-Fast-Generic-Face-Detector-1MB, 2019.
    """

    outputs: ClassVar[frozenset[str]] = frozenset(("scores", "boxes"))
    _iou_threshold = 0.3

    def __init__(self, session: ort.InferenceSession, settings: EvaluateConfig) -> None:
        self._session, self._settings = session, settings
        image = session.get_inputs()[0]
        self._input, (_, _, self._height, self._width) = image.name, image.shape

    def __call__(self, image: RgbImage) -> Detections:
        """The faces of an (H, W, 3) image, best first."""
        height, width = image.shape[:2]
        # Averaged, like all our shrinking: single pixels picked out cost 0.15 points of easy AP.
        resized = cv2.resize(image, (self._width, self._height), interpolation=cv2.INTER_AREA)
        pixels = (resized.astype(np.float32) - 127) / 128
        scores, boxes = self._session.run(["scores", "boxes"], {self._input: pixels.transpose(2, 0, 1)[None]})
        score = scores[0, :, 1]
        kept = np.flatnonzero(score > self._settings.score_threshold)
        boxes_xyxy = boxes[0, kept] * np.asarray([width, height, width, height], dtype=np.float32)
        landmarks_xy = np.zeros((len(kept), 5, 2), dtype=np.float32)
        return _suppressed(
            boxes_xyxy, score[kept], landmarks_xy, self._iou_threshold, self._settings.max_faces
        )


PEERS: tuple[type[Peer], ...] = (YuNet, UltraLight)


def open_detector(path: Path, settings: EvaluateConfig) -> Detect:
    """A detector from an ONNX file of ours or of one of `PEERS`.

    Peers keep the suppression that their authors use; threshold and limit are those of the settings.

    Raises:
        ModelError: the file cannot be used, or is of no detector known here.
    """
    session = open_session(
        read_model_file(path),
        str(path),
        providers=["CPUExecutionProvider"],
        num_threads=settings.num_threads,
    )
    names = {output.name for output in session.get_outputs()}
    if set(OUTPUT_NAMES) <= names:
        return detector_for(path, settings).detect
    for peer in PEERS:
        if peer.outputs <= names:
            return peer(session, settings)
    raise ModelError(
        f"{path}: no detector with the outputs {', '.join(sorted(names))} is known; "
        "featherface/comparison/peers.py says how to add one"
    )


def _suppressed(
    boxes_xyxy: Floats, scores: Floats, landmarks_xy: Floats, iou_threshold: float, max_faces: int
) -> Detections:
    kept = non_maximum_suppression(boxes_xyxy, scores, iou_threshold=iou_threshold, max_faces=max_faces)
    return Detections(boxes_xyxy[kept], scores[kept], landmarks_xy[kept])


def _rounded_up(side: int) -> int:
    return -(-side // _MULTIPLE_PX) * _MULTIPLE_PX
