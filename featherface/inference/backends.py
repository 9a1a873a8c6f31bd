"""What runs a network: ONNX Runtime or torch, behind one call from numpy to numpy.

A backend knows neither images nor faces: preprocessing is in `imaging`, decoding in `postprocess`. torch is
imported only where a `TorchBackend` is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import onnxruntime as ort

from featherface.errors import ModelError, OptionError
from featherface.files import read_regular_file
from featherface.imaging import MAX_FILE_BYTES
from featherface.inference.model_info import FACE_OUTPUT_NAMES, INPUT_NAME, OUTPUT_NAMES, ModelInfo

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from torch import nn

if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":
    ort.disable_telemetry_events()  # where it was imported before us, the variable came too late for it

DEVICES = ("auto", "cpu", "cuda")

# ONNX Runtime's arena grows with the largest input and stays so. Handing it back costs a tenth of the time,
# so only inputs pay that would hold much. (Without the arena malloc fragments: slower, and twice the memory.)
_KEEP_MEMORY_UP_TO_PX = 1_200_000


class NetworkOutputs(NamedTuple):
    """`HeadOutputs` as numpy arrays: what leaves a backend."""

    cls_logits: npt.NDArray[np.float32]
    """(B, P, 2): background, face."""
    box_deltas: npt.NDArray[np.float32]
    """(B, P, 4)."""
    landmark_deltas: npt.NDArray[np.float32]
    """(B, P, 10)."""


class Backend(Protocol):
    """Anything that turns network input into network outputs."""

    @property
    def info(self) -> ModelInfo:
        """The network that it runs."""

    def __call__(self, images: npt.NDArray[np.float32]) -> NetworkOutputs:
        """Outputs for (B, 3, H, W) float32 network input, H and W multiples of 32."""


class OnnxBackend:
    """An exported network on ONNX Runtime; a copy, and what is unpickled in another process, opens its own.

    Args:
        model: path of an .onnx file, or its bytes.
        device: `auto` takes CUDA where this ONNX Runtime can start it.
        num_threads: None lets ONNX Runtime use every core.
        name: what messages call it; None: its path.

    Raises:
        ModelError: the file is missing, broken, or no face detector of ours.
        OptionError: a device that is not there.
    """

    def __init__(
        self,
        model: Path | str | bytes,
        *,
        device: str = "auto",
        num_threads: int | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name or ("<bytes>" if isinstance(model, bytes) else str(model))
        content = model if isinstance(model, bytes) else read_model_file(Path(model))
        # The bytes and not the path: its file may be another one by then.
        self._reopen = partial(type(self), content, device=device, num_threads=num_threads, name=self.name)
        self._session = open_session(
            content, self.name, providers=_providers(device), num_threads=num_threads
        )
        _check_interface(self._session, self.name)
        self._on_cuda = "CUDAExecutionProvider" in self._session.get_providers()
        if device == "cuda" and not self._on_cuda:
            # ONNX Runtime goes on without a provider that does not start.
            raise OptionError(
                "device 'cuda': ONNX Runtime cannot start CUDA here; see if `nvidia-smi` shows a GPU and "
                "CUDA and cuDNN are of the versions that this onnxruntime-gpu needs, or use device='cpu'"
            )
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.info = ModelInfo.from_metadata(metadata, source=self.name)

    def __call__(self, images: npt.NDArray[np.float32]) -> NetworkOutputs:
        """Outputs for (B, 3, H, W) float32 network input, H and W multiples of 32."""
        try:
            outputs = self._session.run(list(OUTPUT_NAMES), {INPUT_NAME: images}, self._run_options(images))
        except Exception as error:  # ONNX Runtime's errors share no base but Exception
            raise ModelError(
                f"{self.name}: cannot run an input of shape {images.shape}: {_first_line(error)}"
            ) from error
        return NetworkOutputs(*outputs)

    def __reduce__(self) -> tuple[Callable[[], OnnxBackend], tuple[()]]:
        return self._reopen, ()

    def _run_options(self, images: npt.NDArray[np.float32]) -> ort.RunOptions | None:
        if images.shape[0] * images.shape[2] * images.shape[3] <= _KEEP_MEMORY_UP_TO_PX or self._on_cuda:
            return None
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options


class TorchBackend:
    """A torch network, for weights that are not exported yet.

    Args:
        model: a detector that returns `HeadOutputs`; it is moved to the device and put in evaluation mode.
        device: `auto` takes CUDA where torch has it.
        info: what the weights' file said; None reads strides and prior sizes from the model's attributes.
        num_threads: None leaves torch's own; a number holds for the whole process, which is how torch has it.

    Raises:
        OptionError: a device that is not there.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: str = "auto",
        info: ModelInfo | None = None,
        num_threads: int | None = None,
    ) -> None:
        import torch

        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._reopen = partial(type(self), device=device, info=info, num_threads=num_threads)
        self._device = _torch_device(device)
        self._model = model.to(self._device).eval()
        self._from_numpy = torch.from_numpy
        self._inference_mode = torch.inference_mode
        self.info = info if info is not None else info_of_module(model)

    def __call__(self, images: npt.NDArray[np.float32]) -> NetworkOutputs:
        """Outputs for (B, 3, H, W) float32 network input, H and W multiples of 32."""
        with self._inference_mode():
            outputs = self._model(self._from_numpy(np.ascontiguousarray(images)).to(self._device))
        return NetworkOutputs(*(output.float().cpu().numpy() for output in outputs))

    def __reduce__(self) -> tuple[Callable[[nn.Module], TorchBackend], tuple[nn.Module]]:
        return self._reopen, (self._model,)  # the number of threads is the process's, and not in the model


def info_of_module(model: nn.Module, **fields: Any) -> ModelInfo:
    """What a torch detector says of its priors through its attributes `strides` and `min_sizes_px`."""
    defaults = ModelInfo()
    strides = getattr(model, "strides", defaults.strides)
    min_sizes_px = getattr(model, "min_sizes_px", defaults.min_sizes_px)
    return ModelInfo(
        strides=tuple(strides), min_sizes_px=tuple(tuple(sizes) for sizes in min_sizes_px), **fields
    )


def read_model_file(path: Path) -> bytes:
    """What a model's file holds.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return read_regular_file(path, max_bytes=MAX_FILE_BYTES)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror or error}); give the .onnx file of an export"
        ) from error
    except ValueError as error:  # a name with a zero byte, or with half a character
        raise ModelError(f"{str(path)!r}: cannot be read (no name that a file can have)") from error


def open_session(
    content: bytes, name: str, *, providers: list[str], num_threads: int | None
) -> ort.InferenceSession:
    """A session for images of all sizes, whose memory does not grow with their number.

    Args:
        content: of an ONNX file.
        name: it is called in errors.
        providers: of ONNX Runtime, the preferred one first.
        num_threads: None: every core.

    Raises:
        ModelError: it is no ONNX file that can be used.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: they are raised as well, in our words
    options.inter_op_num_threads = 1  # the graph is a chain: a second pool would only wait
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    # A memory pattern is kept for every input size that was ever seen: with photographs of all sizes the
    # process would grow for ever.
    options.enable_mem_pattern = False
    try:
        return ort.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        raise ModelError(f"{name}: is no ONNX file that can be used: {_first_line(error)}") from error


def _check_interface(session: ort.InferenceSession, name: str) -> None:
    inputs = [item.name for item in session.get_inputs()]
    outputs = [item.name for item in session.get_outputs()]
    if set(FACE_OUTPUT_NAMES) <= set(outputs):
        raise ModelError(
            f"{name}: has decoding and suppression inside, which the detector does itself; give it the file "
            "that `featherface export` wrote beside it, featherface.onnx"
        )
    if inputs != [INPUT_NAME] or not set(OUTPUT_NAMES) <= set(outputs):
        raise ModelError(
            f"{name}: is no FeatherFace network: it has inputs {inputs} and outputs {outputs}, needed are "
            f"{[INPUT_NAME]} and {list(OUTPUT_NAMES)}; make one with `featherface run export`"
        )


def _providers(device: str) -> list[str]:
    check_device(device)
    available = ort.get_available_providers()
    has_cuda = "CUDAExecutionProvider" in available
    if device == "cuda" and not has_cuda:
        raise OptionError(
            f"device 'cuda': this ONNX Runtime has only {', '.join(available)}; install onnxruntime-gpu or "
            "use device='cpu'"
        )
    return (
        ["CUDAExecutionProvider", "CPUExecutionProvider"]
        if has_cuda and device != "cpu"
        else ["CPUExecutionProvider"]
    )


def _torch_device(device: str) -> torch.device:
    import torch

    check_device(device)
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise OptionError("device 'cuda': torch finds no CUDA device here; use device='cpu'")
    return torch.device("cuda" if has_cuda and device != "cpu" else "cpu")


def check_device(device: str) -> None:
    """Refuse a device that no backend knows.

    Raises:
        OptionError: the name is not one of `DEVICES`.
    """
    if device not in DEVICES:
        raise OptionError(f"device {device!r}: allowed are {', '.join(DEVICES)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
