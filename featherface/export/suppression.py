"""An exported network with priors, decoding and non-maximum suppression inside the file.

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
from onnx import compose, helper, parser

from featherface.errors import ModelError
from featherface.imaging import (
    RgbImage,
    letterbox,
    to_network_input,
    unletterbox_boxes,
    unletterbox_landmarks,
)
from featherface.inference.backends import open_session, read_model_file
from featherface.inference.model_info import INPUT_NAME, OUTPUT_NAMES, VARIANCES, ModelInfo
from featherface.structures import Detections

if TYPE_CHECKING:
    import numpy.typing as npt

DEFAULTS: Final = {"score_threshold": 0.5, "iou_threshold": 0.4, "max_faces": 750}
"""Of the optional inputs; as in `FaceDetector`."""
FACE_OUTPUT_NAMES: Final = ("boxes_xyxy", "scores", "landmarks")

# A stride's part of the priors, in the order of `models.priors`: row, column, size. Only the sides of the
# images are read, so that every multiple of 32 fits.
_LEVEL = """
    rows_{i} = Div(height, stride_{i})
    columns_{i} = Div(width, stride_{i})
    float_stride_{i} = CastLike(stride_{i}, half)
    row_{i} = Range(zero, rows_{i}, one)
    column_{i} = Range(zero, columns_{i}, one)
    row_float_{i} = CastLike(row_{i}, half)
    column_float_{i} = CastLike(column_{i}, half)
    row_middle_{i} = Add(row_float_{i}, half)
    column_middle_{i} = Add(column_float_{i}, half)
    y_flat_{i} = Mul(row_middle_{i}, float_stride_{i})
    x_flat_{i} = Mul(column_middle_{i}, float_stride_{i})
    y_{i} = Reshape(y_flat_{i}, along_rows)
    x_{i} = Reshape(x_flat_{i}, along_columns)
    rows_1_{i} = Reshape(rows_{i}, flat)
    columns_1_{i} = Reshape(columns_{i}, flat)
    num_sizes_{i} = Shape(sizes_{i})
    grid_{i} = Concat <axis = 0> (rows_1_{i}, columns_1_{i}, num_sizes_{i}, one_1)
    side_1_{i} = Reshape(sizes_{i}, along_sizes)
    cx_{i} = Expand(x_{i}, grid_{i})
    cy_{i} = Expand(y_{i}, grid_{i})
    side_{i} = Expand(side_1_{i}, grid_{i})
    cells_{i} = Concat <axis = 3> (cx_{i}, cy_{i}, side_{i})
    priors_{i} = Reshape(cells_{i}, along_priors)
"""

_GRAPH = """
<ir_version: {ir_version}, opset_import: ["" : {opset}]>
suppression (
    float[1, 3, height, width] images,
    float[1, priors, 2] cls_logits, float[1, priors, 4] box_deltas, float[1, priors, 10] landmark_deltas,
    float score_threshold, float iou_threshold, int64 max_faces
) => (float[faces, 4] boxes_xyxy, float[faces] scores, float[faces, 5, 2] landmarks)
<
    int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}}, int64 three = {{3}}, float half = {{0.5}},
    int64[1] one_1 = {{1}}, int64[1] two_1 = {{2}}, int64[1] three_1 = {{3}}, int64[1] four_1 = {{4}},
    int64[1] flat = {{-1}},
    int64[4] along_rows = {{-1, 1, 1, 1}}, int64[4] along_columns = {{1, -1, 1, 1}},
    int64[4] along_sizes = {{1, 1, -1, 1}}, int64[2] along_priors = {{-1, 3}},
    int64[3] points = {{-1, 5, 2}}, int64[3] one_point = {{-1, 1, 2}}, int64[3] one_class = {{1, 1, -1}},
    int64[1] first_axis = {{0}}, int64[1] last_axis = {{1}}, int64[2] all_points = {{1, 2}},
    float center_variance = {{{center_variance}}}, float size_variance = {{{size_variance}}},
    float max_log_side = {{{max_log_side}}}, float largest = {{{largest}}},
    {levels_constants}
>
{{
    shape = Shape(images)
    height = Gather <axis = 0> (shape, two)
    width = Gather <axis = 0> (shape, three)
    {levels}
    priors = Concat <axis = 0> ({priors})

    logits = Squeeze(cls_logits, first_axis)
    background = Gather <axis = 1> (logits, zero)
    face = Gather <axis = 1> (logits, one)
    margin = Sub(face, background)
    all_scores = Sigmoid(margin)
    is_above = Greater(all_scores, score_threshold)
    above_2 = NonZero(is_above)
    above = Squeeze(above_2, first_axis)

    prior = Gather <axis = 0> (priors, above)
    center_prior = Slice(prior, first_axis, two_1, last_axis)
    side_prior = Slice(prior, two_1, three_1, last_axis)
    all_boxes = Squeeze(box_deltas, first_axis)
    box = Gather <axis = 0> (all_boxes, above)
    center_delta = Slice(box, first_axis, two_1, last_axis)
    size_delta = Slice(box, two_1, four_1, last_axis)
    center_scale = Mul(side_prior, center_variance)
    center_offset = Mul(center_delta, center_scale)
    center = Add(center_prior, center_offset)
    log_side_free = Mul(size_delta, size_variance)
    log_side = Min(log_side_free, max_log_side)
    growth = Exp(log_side)
    grown = Mul(side_prior, growth)
    half_side = Mul(grown, half)
    corner_first = Sub(center, half_side)
    corner_last = Add(center, half_side)
    boxes = Concat <axis = 1> (corner_first, corner_last)

    all_landmarks = Squeeze(landmark_deltas, first_axis)
    landmark_flat = Gather <axis = 0> (all_landmarks, above)
    landmark_delta = Reshape(landmark_flat, points)
    landmark_scale = Unsqueeze(center_scale, last_axis)
    landmark_center = Reshape(center_prior, one_point)
    landmark_offset = Mul(landmark_delta, landmark_scale)
    points_xy = Add(landmark_center, landmark_offset)

    box_size = ReduceL1 <keepdims = 0> (boxes, last_axis)
    points_size = ReduceL1 <keepdims = 0> (points_xy, all_points)
    total_size = Add(box_size, points_size)
    is_finite = Less(total_size, largest)
    finite_boxes = Compress <axis = 0> (boxes, is_finite)
    finite_points = Compress <axis = 0> (points_xy, is_finite)
    candidate_scores = Gather <axis = 0> (all_scores, above)
    finite_scores = Compress <axis = 0> (candidate_scores, is_finite)

    boxes_of_image = Unsqueeze(finite_boxes, first_axis)
    scores_of_class = Reshape(finite_scores, one_class)
    kept_3 = NonMaxSuppression(boxes_of_image, scores_of_class, max_faces, iou_threshold, score_threshold)
    kept = Gather <axis = 1> (kept_3, two)
    kept_scores = Gather <axis = 0> (finite_scores, kept)
    num_kept = Shape(kept)
    scores, order = TopK <axis = 0, largest = 1, sorted = 1> (kept_scores, num_kept)
    best = Gather <axis = 0> (kept, order)
    boxes_xyxy = Gather <axis = 0> (finite_boxes, best)
    landmarks = Gather <axis = 0> (finite_points, best)
}}
"""
_MAX_LOG_SIDE = 10.0  # as in `inference.postprocess`


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
    tail = _suppression_graph(proto, ModelInfo.from_metadata(metadata, source=str(onnx_path)))
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


def _suppression_graph(proto: onnx.ModelProto, info: ModelInfo) -> onnx.GraphProto:
    levels = range(len(info.strides))
    constants = [f"int64 stride_{i} = {{{stride}}}" for i, stride in enumerate(info.strides)]
    constants += [
        f"float[{len(sizes)}] sizes_{i} = {{{', '.join(str(float(size)) for size in sizes)}}}"
        for i, sizes in enumerate(info.min_sizes_px)
    ]
    text = _GRAPH.format(
        ir_version=proto.ir_version,
        opset=next(item.version for item in proto.opset_import if item.domain == ""),
        center_variance=VARIANCES[0],
        size_variance=VARIANCES[1],
        max_log_side=_MAX_LOG_SIDE,
        largest=float(np.finfo(np.float32).max),
        levels_constants=", ".join(constants),
        levels="".join(_LEVEL.format(i=i) for i in levels),
        priors=", ".join(f"priors_{i}" for i in levels),
    )
    tail = parser.parse_model(text)
    # A prefix for what lies inside, or it could have a name that the network uses already.
    prefixed = compose.add_prefix(tail, "faces/", rename_inputs=False, rename_outputs=False)
    return prefixed.graph


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
