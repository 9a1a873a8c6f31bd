"""An exported network for OpenVINO, as .xml and .bin; the package is an extra.

The ONNX reader of `openvino.Core` converts the file. `openvino.convert_model` would do the same and tell the
makers about it over the network.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from featherface.errors import ModelError, OptionError
from featherface.inference.backends import NetworkOutputs, read_model_file
from featherface.inference.model_info import INPUT_NAME, OUTPUT_NAMES, ModelInfo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MIN_SIDE_PX: Final = 64
"""With a side of 32, where the coarsest map is one cell wide, OpenVINO 2026.4 answers nothing, silently."""


def convert_to_openvino(onnx_path: Path | str) -> dict[str, bytes]:
    """The contents of the two files of the network, by their suffixes: `.xml` and `.bin`; fp32.

    Args:
        onnx_path: a file of `export_onnx`.

    Raises:
        OptionError: OpenVINO is not installed.
        ModelError: it cannot read the file.
    """
    openvino = import_openvino()
    read_model_file(Path(onnx_path))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        try:
            network = openvino.Core().read_model(str(onnx_path))
            openvino.save_model(network, str(path), compress_to_fp16=False)
        except RuntimeError as error:
            raise ModelError(f"{onnx_path}: OpenVINO cannot read it: {_first_line(error)}") from error
        return {suffix: path.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin")}


class OpenVinoBackend:
    """A network of `convert_to_openvino` on the CPU; what `FaceDetector` takes as a backend.

    Args:
        path: its .xml file, with the .bin file beside.
        info: of the network; the files do not say it.
        num_threads: None: every core.

    Raises:
        OptionError: OpenVINO is not installed.
        ModelError: the files are missing or broken.
    """

    def __init__(self, path: Path | str, *, info: ModelInfo, num_threads: int | None = None) -> None:
        self.name, self.info = str(path), info
        self._reopen = partial(type(self), path, info=info, num_threads=num_threads)
        # Newer processors would compute in bfloat16 unless told not to.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if num_threads is not None:
            options["INFERENCE_NUM_THREADS"] = num_threads
        self._core = import_openvino().Core()  # kept: what it made must not outlive it
        try:
            self._network = self._core.compile_model(self.name, "CPU", options)
            self._request = self._network.create_infer_request()
        except RuntimeError as error:
            raise ModelError(f"{path}: OpenVINO cannot load it: {_first_line(error)}") from error

    def __call__(self, images: npt.NDArray[np.float32]) -> NetworkOutputs:
        """Outputs for (B, 3, H, W) float32 network input, H and W multiples of 32 from 64.

        Raises:
            ModelError: a side below `MIN_SIDE_PX`, or OpenVINO cannot run the input.
        """
        if min(images.shape[2:]) < MIN_SIDE_PX:
            raise ModelError(
                f"{self.name}: OpenVINO needs sides of at least {MIN_SIDE_PX} px, got {images.shape[2:]}"
            )
        try:
            outputs = self._request.infer({INPUT_NAME: images})
        except RuntimeError as error:
            raise ModelError(
                f"{self.name}: cannot run an input of shape {images.shape}: {_first_line(error)}"
            ) from error
        return NetworkOutputs(*(outputs[name] for name in OUTPUT_NAMES))

    def __reduce__(self) -> tuple[Callable[[], OpenVinoBackend], tuple[()]]:
        return self._reopen, ()  # as `OnnxBackend`, of the same two files


def has_openvino() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("openvino") is not None


def import_openvino() -> Any:
    """The package, imported where it is needed: it takes half a second.

    Raises:
        OptionError: it is not installed.
    """
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise OptionError(
            "format 'openvino' needs a package that is not installed: pip install 'featherface[openvino]'"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
