"""What an ONNX network costs: parameters and multiply-adds, counted in the file itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper

from featherface.errors import ModelError

_COUNTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ERRORS_ONLY = 3


class Cost(NamedTuple):
    """Of one network."""

    params: int
    """Numbers in the weights of convolutions and matrices, their biases, and normalizations."""
    multiply_adds: int
    """Of convolutions and matrix products for one image."""
    file_bytes: int


def count_cost(path: Path, *, input_hw: tuple[int, int] = (640, 640)) -> Cost:
    """Count one forward pass.

    The sizes of the maps are not worked out but looked at: the network is run once with all of them as
    outputs, so any file that runs can be counted.

    Args:
        path: an ONNX file with one image input (B, 3, H, W).
        input_hw: height and width in pixels; sides that the file fixes are kept.

    Raises:
        ModelError: the file cannot be read or run.
    """
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's errors share no base but Exception
        raise ModelError(f"{path}: is no ONNX file that can be read: {error}") from error
    weights = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in _COUNTED]
    shapes = _shapes(model, {name for node in nodes for name in (*node.input, node.output[0])}, input_hw)
    multiply_adds = 0
    for node in nodes:
        first, second = shapes[node.input[0]], shapes[node.input[1]]
        output = math.prod(shapes[node.output[0]])
        if node.op_type == "ConvTranspose":
            multiply_adds += math.prod(first) * math.prod(second[1:])
        elif node.op_type == "Conv":
            multiply_adds += output * math.prod(second[1:])
        else:  # a sum over the last side of the first matrix
            multiply_adds += output * first[-1]
    is_statistic = {
        name for node in model.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]
    }
    used = {name for node in model.graph.node for name in node.input}
    params = sum(
        weight.size
        for name, weight in weights.items()
        if name in used and name not in is_statistic and weight.dtype == np.float32 and weight.ndim > 0
    )
    return Cost(params, multiply_adds, path.stat().st_size)


def _shapes(model: onnx.ModelProto, names: set[str], input_hw: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    constants = {item.name: tuple(item.dims) for item in model.graph.initializer}
    image = next(item for item in model.graph.input if item.name not in constants)
    wanted = sorted(names & {name for node in model.graph.node for name in node.output})
    there = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in wanted
        if name not in there
    )
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # The graph as it is in the file: the optimizer would merge the nodes that are looked at.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sides = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    shape = [fixed or free for fixed, free in zip(sides, (1, 3, *input_hw), strict=True)]
    values = session.run(wanted, {image.name: np.zeros(shape, dtype=np.float32)})
    found = {name: tuple(value.shape) for name, value in zip(wanted, values, strict=True)}
    return {**found, **constants, image.name: tuple(shape)}
