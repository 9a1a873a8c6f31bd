"""A trained network as a program of `torch.export` (.pt2): runs with torch alone, without our classes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from featherface.errors import ModelError
from featherface.export.tracing import EXAMPLE_SHAPE, Images, free_sides, innermost, quietly
from featherface.inference.backends import NetworkOutputs, read_model_file
from featherface.inference.model_info import INPUT_NAME, ModelInfo
from featherface.models.folding import fold_batch_norms
from featherface.models.lowered import decide_details

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import nn

# What the tracer keeps of our source: paths of files and lines of code, which nobody runs.
_TRACES: Final = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
_INFO: Final = "featherface"
MIN_SIDE_PX: Final = 64
"""With a side of 32 the coarsest map is one cell wide, and the tracer takes a size of 1 for a case of its
own: the program refuses it."""


def export_program(model: nn.Module, *, info: ModelInfo) -> bytes:
    """The content of a .pt2 file; batch, height and width stay free, as in `export_onnx`.

    Args:
        model: a detector; its forward returns `HeadOutputs`. It is not changed.
        info: what goes beside the weights.

    Raises:
        ModelError: the network cannot be traced.
    """
    with quietly(), torch.no_grad():
        folded = fold_batch_norms(model).cpu()
        decide_details(folded)
        try:
            program = torch.export.export(
                Images(folded),
                (torch.zeros(EXAMPLE_SHAPE),),
                dynamic_shapes={INPUT_NAME: free_sides()},
            )
        except (RuntimeError, ValueError, TypeError) as error:
            raise ModelError(f"the network cannot be exported by torch: {innermost(error)}") from error
    for node in program.graph_module.graph.nodes:
        for key in _TRACES:
            node.meta.pop(key, None)
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files={_INFO: json.dumps(info.to_metadata(), sort_keys=True)})
    return stream.getvalue()


class ProgramBackend:
    """A program of `export_program` on the CPU; what `FaceDetector` takes as a backend.

    Args:
        path: the .pt2 file.
        num_threads: None leaves torch's own; a number holds for the whole process, which is how torch has it.

    Raises:
        ModelError: the file is missing, broken, or no program of ours.
    """

    def __init__(self, path: Path | str, *, num_threads: int | None = None) -> None:
        content, texts = read_model_file(Path(path)), {_INFO: ""}
        try:
            with quietly():
                program = torch.export.load(io.BytesIO(content), extra_files=texts)
        except Exception as error:  # torch's errors of broken files share no base but Exception
            raise ModelError(f"{path}: is no program of torch.export: {innermost(error)}") from error
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self.name = str(path)
        self.info = ModelInfo.from_metadata(json.loads(texts[_INFO] or "{}"), source=self.name)
        self._run = program.module()

    def __call__(self, images: npt.NDArray[np.float32]) -> NetworkOutputs:
        """Outputs for (B, 3, H, W) float32 network input, H and W multiples of 32 from 64.

        Raises:
            ModelError: the program does not take this input.
        """
        try:
            with torch.inference_mode():
                outputs = self._run(torch.from_numpy(np.ascontiguousarray(images)))
        except (AssertionError, RuntimeError) as error:
            raise ModelError(
                f"{self.name}: cannot run an input of shape {images.shape}, sides are multiples of 32 from "
                f"{MIN_SIDE_PX} px ({innermost(error)})"
            ) from error
        return NetworkOutputs(*(output.numpy() for output in outputs))
