"""A trained network as one ONNX file that needs nothing of ours to run.

Batch, height and width stay free (sides in multiples of 32). The file says of itself what a stranger needs,
and nothing of the machine that made it: names of source files and stack traces are taken out. Decoding and
suppression stay outside, in `inference.postprocess`: their output has no fixed size, and hardware runtimes
differ most there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from torch import nn

from featherface.errors import ModelError
from featherface.export.tracing import EXAMPLE_SHAPE, Images, free_sides, innermost, quietly
from featherface.files import write_atomically
from featherface.inference.model_info import INPUT_NAME, OUTPUT_NAMES, ModelInfo
from featherface.models.lowering import lower

DEFAULT_OPSET: Final = 18


def export_onnx(
    model: nn.Module,
    path: Path | str,
    *,
    info: ModelInfo,
    opset: int = DEFAULT_OPSET,
    fixed_hw: tuple[int, int] | None = None,
) -> None:
    """Write a detector as an ONNX file; equal weights and info make equal bytes.

    The input is `images` (B, 3, H, W) float32 as `imaging.to_network_input` makes it; the outputs are those
    of `HeadOutputs`. The model is not changed, and the file appears complete or not at all.

    Args:
        model: a detector; its forward returns `HeadOutputs`.
        path: ends with .onnx; missing folders are made.
        info: what goes beside the weights: architecture, innovations, priors, and in `extra` the text of the
            caller (commit, data version, thresholds, license).
        opset: version of the operator set.
        fixed_hw: height and width of the only input that the file is to take, one image at a time: exported
            in a fraction of the time, for measurements. None: all sides are free.

    Raises:
        ModelError: another suffix, a network that cannot be traced, or a folder that cannot be written to.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ModelError(f"{path}: an export is written as .onnx, not as '{path.suffix}'")
    lowered = lower(model).cpu()
    _overwrite_nothing(lowered)
    proto = _trace(lowered, opset, fixed_hw)
    _anonymize(proto)
    if fixed_hw is None:
        _name_free_sides(proto)
    _keep_padding_before_pooling(proto)
    _pad_instead_of_rounding_up(proto)
    _leave_out_defaults(proto)
    proto.producer_name, proto.producer_version = "featherface", ""
    proto.graph.name = "featherface"
    onnx.helper.set_model_props(proto, dict(sorted(info.to_metadata().items())))
    onnx.checker.check_model(proto, full_check=True)
    write_atomically(path, proto.SerializeToString(deterministic=True))


def _overwrite_nothing(model: nn.Module) -> None:
    """Let activations write new maps: the tracer needs a quarter less time for the same nodes."""
    for part in model.modules():
        if isinstance(part, nn.ReLU | nn.LeakyReLU):
            part.inplace = False


def _trace(model: nn.Module, opset: int, fixed_hw: tuple[int, int] | None) -> onnx.ModelProto:
    with quietly(), torch.no_grad():
        try:
            program = torch.onnx.export(
                Images(model),
                (torch.zeros(EXAMPLE_SHAPE if fixed_hw is None else (1, 3, *fixed_hw)),),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT_NAME],
                output_names=list(OUTPUT_NAMES),
                dynamic_shapes={INPUT_NAME: free_sides()} if fixed_hw is None else None,
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
            reason = innermost(error)
            raise ModelError(f"the network cannot be exported to ONNX: {reason}") from error
    if program is None:  # the type of torch.onnx.export covers its old, file-writing form
        raise ModelError("the network cannot be exported to ONNX: the exporter gave nothing back")
    return program.model_proto


def _anonymize(proto: onnx.ModelProto) -> None:
    """Take out what tells of the machine and the source: it is half of the file, and none of it is run."""
    graph = proto.graph
    for item in (
        proto,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        item.doc_string = ""
        del item.metadata_props[:]
    for function in proto.functions:
        for item in (function, *function.node):
            item.doc_string = ""
            del item.metadata_props[:]
    # Shapes of what lies between can be inferred again, but for one thing: that maps of equal size are so at
    # all sizes of the input. ONNX Runtime adds them inside a convolution only if it knows.
    makers = {output: node.op_type for node in graph.node for output in node.output}
    known = [item for item in graph.value_info if makers.get(item.name) in ("Conv", "Resize", "MaxPool")]
    del graph.value_info[:]
    graph.value_info.extend(known)


def _keep_padding_before_pooling(proto: onnx.ModelProto) -> None:
    """Spell out the axes of every Pad, which means the same and keeps ONNX Runtime from a wrong optimization.

    Up to 1.31 at least it folds a Pad of zeros into the MaxPool behind it, whose own padding is minus
    infinity: maps of a BiFPN then differ by whole units at the right and bottom border. A Pad with axes is
    left alone.
    """
    graph = proto.graph
    ranks = {item.name: item.dims[0] // 2 for item in graph.initializer if len(item.dims) == 1}
    for node in graph.node:
        if node.op_type != "Pad" or len(node.input) > 3 or node.input[1] not in ranks:
            continue
        axes = f"{node.name}_axes"
        graph.initializer.append(
            onnx.numpy_helper.from_array(np.arange(ranks[node.input[1]], dtype=np.int64), axes)
        )
        constant = node.input[2] if len(node.input) == 3 else ""
        node.input[:] = [*node.input[:2], constant, axes]


def _pad_instead_of_rounding_up(proto: onnx.ModelProto) -> None:
    """Let 3x3 pools with step 2 pad at the right and the bottom instead of rounding their size up.

    On even sides, which all maps that are halved have, both mean the same. ONNX Runtime leaves its fast
    layout for a pool that rounds up.
    """
    for node in proto.graph.node:
        if node.op_type != "MaxPool":
            continue
        settings = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        window = (settings["kernel_shape"], settings.get("strides"), settings.get("pads", [0] * 4))
        if settings.get("ceil_mode") != 1 or window != ([3, 3], [2, 2], [0, 0, 0, 0]):
            continue
        kept = [item for item in node.attribute if item.name not in ("ceil_mode", "pads")]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("pads", [0, 0, 1, 1])])


def _leave_out_defaults(proto: onnx.ModelProto) -> None:
    """Say nothing of a convolution that holds unsaid: the file of the student stays below 1 MiB by that."""
    defaults = {"auto_pad": b"NOTSET", "group": 1, "dilations": [1, 1], "strides": [1, 1], "pads": [0] * 4}
    for node in proto.graph.node:
        if node.op_type != "Conv":
            continue
        said = [
            item
            for item in node.attribute
            if item.name not in defaults or onnx.helper.get_attribute_value(item) != defaults[item.name]
        ]
        del node.attribute[:]
        node.attribute.extend(said)


def _name_free_sides(proto: onnx.ModelProto) -> None:
    """Give the free sides the names that documentation uses; the tracer's depend on its history."""
    for value, names in (
        *((value, {0: "batch", 2: "height", 3: "width"}) for value in proto.graph.input),
        *((value, {0: "batch", 1: "priors"}) for value in proto.graph.output),
    ):
        for axis, name in names.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
