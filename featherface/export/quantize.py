"""An exported network with most of its convolutions in 8-bit integers: static quantization with QDQ nodes.

What such a network is worth shows in its AP, not in differences of tensors: whoever calls this measures it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import helper

from featherface.errors import DataError, ModelError
from featherface.inference.backends import read_model_file
from featherface.inference.model_info import INPUT_NAME

if TYPE_CHECKING:
    import numpy.typing as npt

    NetworkInput = npt.NDArray[np.float32]

FLOAT_PARTS: Final = (
    "detector.backbone.stage1.",
    "detector.backbone_attention.",
    "detector.details.",
    "detector.neck_attention.",
    "detector.head.",
)
"""Beginnings of the names of weights that stay float, and with them all that is no trained weight of its own:
the fixed filters and the joined output layers. docs/experiments.md has what each of them costs in AP."""


def quantize_onnx(
    onnx_path: Path | str, inputs: Iterable[NetworkInput], *, float_parts: tuple[str, ...] = FLOAT_PARTS
) -> bytes:
    """The content of an int8 ONNX file with the interface and metadata of the given one.

    Weights are signed with a scale a channel, maps unsigned with a scale each, from the smallest and largest
    values that the inputs cause.

    Args:
        onnx_path: a file of `export_onnx`.
        inputs: (1, 3, H, W) network input of training images; read one by one.
        float_parts: see `FLOAT_PARTS`.

    Raises:
        ModelError: the file is missing or broken, or has no convolution to quantize.
        DataError: no inputs.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    content = read_model_file(Path(onnx_path))
    reader = _reader(quantization.CalibrationDataReader, inputs)
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        try:
            metadata = {item.key: item.value for item in onnx.load_model_from_string(content).metadata_props}
            quant_pre_process(str(onnx_path), str(prepared), skip_symbolic_shape=True)
        except Exception as error:  # neither protobuf's nor ONNX Runtime's errors share a base
            raise ModelError(f"{onnx_path}: is no ONNX file that can be quantized: {error}") from error
        chosen = _convolutions(onnx.load(prepared), float_parts)
        if not chosen:
            raise ModelError(f"{onnx_path}: has no convolution to quantize")
        quantization.quantize_static(
            str(prepared),
            str(quantized),
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            nodes_to_quantize=chosen,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        proto = onnx.load(quantized)
    helper.set_model_props(proto, {**metadata, "quantization": "int8, static"})
    proto.producer_name, proto.producer_version = "featherface", ""
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


def _convolutions(proto: onnx.ModelProto, float_parts: tuple[str, ...]) -> list[str]:
    """Names of the convolutions whose weight is a trained one, and not of a part that stays float."""
    return [
        node.name
        for node in proto.graph.node
        if node.op_type == "Conv"
        and node.input[1].endswith(".weight")
        and not node.input[1].startswith(float_parts)
    ]


def _reader(base: type, inputs: Iterable[NetworkInput]) -> object:
    """ONNX Runtime asks for an object of a class of its own, which is imported late."""
    waiting = iter(inputs)
    first = next(waiting, None)
    if first is None:
        raise DataError("quantization needs at least one training image to calibrate with, got none")

    def feeds() -> Iterator[dict[str, NetworkInput]]:
        yield {INPUT_NAME: first}
        yield from ({INPUT_NAME: each} for each in waiting)

    iterator = feeds()
    return type("Reader", (base,), {"get_next": lambda _self: next(iterator, None)})()
