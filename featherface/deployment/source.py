"""The network that is exported: its fp32 ONNX file, and its weights where they are known."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from featherface.errors import ModelError, OptionError
from featherface.files import write_atomically
from featherface.inference.backends import OnnxBackend, read_model_file
from featherface.inference.loading import SHIPPED_WEIGHTS, resolve_model, shipped_weights

if TYPE_CHECKING:
    from featherface.inference.model_info import ModelInfo
    from featherface.models.detector import FeatherFace

SHIPPED_NAME: Final = "the weights that ship"
_WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Source:
    """What is exported."""

    name: str
    """For people: the name of the file."""
    onnx: bytes | None
    """The ONNX file that was given or ships; None: it is made from the weights."""
    network: FeatherFace | None
    """In torch; None where there are no weights, or no torch to load them."""
    info: ModelInfo

    def write_onnx(self, path: Path) -> None:
        """Write the fp32 ONNX file: the given one as it is, or an export of the weights.

        Raises:
            ModelError: the network cannot be exported.
        """
        if self.onnx is not None:
            write_atomically(path, self.onnx)
            return
        if self.network is None:
            raise AssertionError("a source has an ONNX file or a network")
        from featherface.export.onnx import export_onnx

        export_onnx(self.network, path, info=self.info)


def open_source(model: str | None) -> Source:
    """Open what is to be exported.

    Weights of the same name beside an .onnx file are taken for those of its network: every export is compared
    with them.

    Args:
        model: an .onnx or .safetensors file, an address such as `models:/featherface@champion`, or None for
            the weights that ship.

    Raises:
        ModelError: it cannot be used.
        OptionError: .safetensors without torch.
    """
    with ExitStack() as stack:
        if model is None:
            shipped_weights()  # says what to do if there are none
            folder = stack.enter_context(resources.as_file(resources.files("featherface") / "weights"))
            path = folder / Path(SHIPPED_WEIGHTS).name
        else:
            path = resolve_model(model)
        name = SHIPPED_NAME if model is None else path.name
        if path.suffix.lower() == _WEIGHTS:
            if not _has_torch():
                raise OptionError(f"{path}: exporting weights needs torch; install featherface[train]")
            return _of_weights(name, None, path)
        if path.suffix.lower() != ".onnx":
            raise ModelError(f"{path}: a model is an .onnx or a .safetensors file, got '{path.suffix}'")
        content = read_model_file(path)
        info = OnnxBackend(path, device="cpu").info  # refuses what is no network of ours
        weights = path.with_suffix(_WEIGHTS)
        if weights.is_file() and _has_torch():
            return _of_weights(name, content, weights)
        return Source(name, content, None, info)


def _of_weights(name: str, onnx: bytes | None, weights: Path) -> Source:
    from featherface.inference.weights import load_model_with_info

    network, info = load_model_with_info(weights)
    return Source(name, onnx, network, info)


def _has_torch() -> bool:
    return (
        importlib.util.find_spec("torch") is not None and importlib.util.find_spec("safetensors") is not None
    )
