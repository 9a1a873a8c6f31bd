"""An exported network with priors, decoding, non-maximum suppression and votes inside the file.

The nodes are added to the graph of a file that exists, so torch is not needed, and the network is the same
to the last bit. They do what `inference.postprocess` does. For programs in other languages: an image goes in
(one at a time, sides in multiples of 32, see `preprocessing` in the metadata), faces come out.

Dimensions as in `inference.postprocess`: `P` priors, `M` candidates, `N` faces.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import helper

from featherface.errors import ModelError
from featherface.export.suppression_graph import suppression_graph
from featherface.imaging import (
    RgbImage,
    letterbox,
    to_network_input,
    unletterbox_boxes,
    unletterbox_landmarks,
)
from featherface.inference.backends import open_session, read_model_file
from featherface.inference.model_info import FACE_OUTPUT_NAMES, INPUT_NAME, OUTPUT_NAMES, ModelInfo
from featherface.structures import Detections

if TYPE_CHECKING:
    import numpy.typing as npt

DEFAULTS: Final = {"score_threshold": 0.5, "iou_threshold": 0.4, "max_faces": 750}
"""Of the optional inputs; as in `FaceDetector`."""


def add_suppression(onnx_path: Path | str) -> bytes:
    """The content of an ONNX file that answers with faces instead of raw outputs.

    Its input is `images` (1, 3, H, W) as before. Three more inputs may be given and have defaults
    (`DEFAULTS`): `score_threshold` and `iou_threshold`, float scalars in [0, 1], and `max_faces`, an int64
    scalar. The outputs are `boxes_xyxy` (N, 4) and `landmarks` (N, 5, 2) in pixels of the input, and `scores`
    (N,), best first; N may be 0.

    Args:
        onnx_path: a file of `export_onnx`.

    Raises:
        ModelError: the file is missing, broken, or no network of ours.
    """
    content = read_model_file(Path(onnx_path))
    try:
        proto = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors share no base but Exception
        raise ModelError(f"{onnx_path}: is no ONNX file that can be read: {error}") from error
    found = [value.name for value in proto.graph.output]
    if not set(OUTPUT_NAMES) <= set(found):
        raise ModelError(f"{onnx_path}: is no FeatherFace network: its outputs are {found}")
    metadata = {item.key: item.value for item in proto.metadata_props}
    tail = suppression_graph(proto, ModelInfo.from_metadata(metadata, source=str(onnx_path)))
    graph = proto.graph
    graph.node.extend(tail.node)
    graph.initializer.extend(tail.initializer)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(
            np.asarray(value, np.int64 if isinstance(value, int) else np.float32), name
        )
        for name, value in DEFAULTS.items()
    )
    # An input that is an initializer too is optional, and has that value unless it is given.
    graph.input.extend(value for value in tail.input if value.name in DEFAULTS)
    del graph.output[:]
    graph.output.extend(tail.output)
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    helper.set_model_props(proto, {**metadata, "defaults": json.dumps(DEFAULTS)})
    onnx.checker.check_model(proto, full_check=True)
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


def _scalar(name: str, value: float) -> npt.NDArray[np.generic]:
    """An optional input as the file wants it; the defaults tell which of them count."""
    return np.asarray(value, dtype=np.int64 if isinstance(DEFAULTS[name], int) else np.float32)


class SuppressingDetector:
    """The faces of images from a file of `add_suppression`; sizes as for `FaceDetector`.

    Args:
        path: the file.
        image_size: longer side at which the network looks; None leaves images as they are.
        score_threshold: optional input of that name, like the two after it; see `add_suppression`.
        iou_threshold: see there.
        max_faces: see there.
        num_threads: None: every core.

    Raises:
        ModelError: the file is missing or broken.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        image_size: int | None = 640,
        score_threshold: float = DEFAULTS["score_threshold"],
        iou_threshold: float = DEFAULTS["iou_threshold"],
        max_faces: int = 750,
        num_threads: int | None = None,
    ) -> None:
        self._session = open_session(
            read_model_file(Path(path)),
            str(path),
            providers=["CPUExecutionProvider"],
            num_threads=num_threads,
        )
        self._image_size = image_size
        options = {"score_threshold": score_threshold, "iou_threshold": iou_threshold, "max_faces": max_faces}
        self._options = {name: _scalar(name, value) for name, value in options.items()}

    def run(self, images: npt.NDArray[np.float32]) -> Detections:
        """Faces of (1, 3, H, W) network input, in its pixels."""
        return Detections(*self._session.run(list(FACE_OUTPUT_NAMES), {INPUT_NAME: images, **self._options}))

    def detect(self, image: RgbImage) -> Detections:
        """Faces of an (H, W, 3) uint8 RGB image, in its pixels, cut to it."""
        letterboxed = letterbox(image, self._image_size)
        found = self.run(to_network_input(letterboxed.image)[None])
        boxes_xyxy = unletterbox_boxes(found.boxes_xyxy, letterboxed)
        landmarks_xy = unletterbox_landmarks(found.landmarks_xy, letterboxed)
        is_inside = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
        return Detections(boxes_xyxy[is_inside], found.scores[is_inside], landmarks_xy[is_inside])
