"""From what a user calls a model to a backend that runs it: a file, an address in a registry, or nothing.

The registry lives in a higher layer, so it is found by name: a package that understands `scheme:/...`
addresses announces a function `(uri) -> Path` as an entry point of that scheme's name in the group
`featherface.model_resolvers`; ours is `models = featherface.tracking.download:download_model`.
"""

from __future__ import annotations

import re
from importlib import resources
from importlib.metadata import entry_points
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from featherface.errors import ModelError, OptionError
from featherface.inference.backends import Backend, OnnxBackend, TorchBackend

BACKENDS: Final = ("auto", "onnx", "torch")
RESOLVER_GROUP: Final = "featherface.model_resolvers"
SHIPPED_WEIGHTS: Final = "weights/featherface.onnx"

# Two letters at least, so that a Windows drive is no scheme.
_URI = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):/")
_BACKEND_OF_SUFFIX = {".onnx": "onnx", ".safetensors": "torch"}


def open_backend(
    model: str | Path | None, *, backend: str = "auto", device: str = "auto", num_threads: int | None = None
) -> Backend:
    """The backend that runs a model.

    Args:
        model: an .onnx or .safetensors file, an address such as `models:/featherface@champion`, or None for
            the weights that ship with the package.
        backend: `onnx`, `torch`, or `auto`: what the file is made for.
        device: `cpu`, `cuda`, or `auto`.
        num_threads: None leaves it to the backend.

    Raises:
        ModelError: a file that is missing, broken or made for the other backend; an address nobody
            understands.
        OptionError: an unknown backend or device.
    """
    if backend not in BACKENDS:
        raise OptionError(f"backend {backend!r}: allowed are {', '.join(BACKENDS)}")
    if model is None:
        return OnnxBackend(_read_shipped_weights(backend), device=device, num_threads=num_threads)
    path = resolve_model(model)
    fitting = _BACKEND_OF_SUFFIX.get(path.suffix.lower())
    if fitting is None:
        raise ModelError(
            f"{path}: a model is an .onnx or a .safetensors file, got '{path.suffix or path.name}'"
        )
    if backend not in ("auto", fitting):
        raise ModelError(
            f"{path}: {path.suffix} files run on backend '{fitting}', not '{backend}'; use backend='auto'"
        )
    if fitting == "onnx":
        return OnnxBackend(path, device=device, num_threads=num_threads)
    return _open_torch(path, device, num_threads)


def resolve_model(model: str | Path) -> Path:
    """The local file of a path or an address; an address is fetched by whoever announced its scheme.

    Raises:
        ModelError: an empty name; nobody understands the address, or its resolver refuses it.
    """
    if not str(model):
        raise ModelError("a model's name is needed, got an empty one; None is the model that ships")
    match = _URI.match(model) if isinstance(model, str) else None
    if match is None:
        return Path(model)
    scheme = match["scheme"]
    found = next(iter(entry_points(group=RESOLVER_GROUP, name=scheme)), None)
    if found is None:
        raise ModelError(
            f"{model}: nothing installed understands '{scheme}:' addresses; give a file, or install "
            "featherface with its pipeline extra for 'models:/...'"
        )
    try:
        resolver = found.load()
    except ImportError as error:
        raise ModelError(
            f"{model}: needs '{error.name}', which is not installed; install featherface with its pipeline "
            f"extra"
        ) from error
    return Path(resolver(model))


def has_shipped_weights() -> bool:
    """Whether this copy of the package carries weights."""
    return resources.files("featherface").joinpath(SHIPPED_WEIGHTS).is_file()


def shipped_weights() -> Traversable:
    """The ONNX file that ships with this copy of the package; it may lie in an archive.

    Raises:
        ModelError: none ships.
    """
    file = resources.files("featherface").joinpath(SHIPPED_WEIGHTS)
    if not file.is_file():
        raise ModelError(
            "no weights ship with this copy of featherface; `featherface pipeline` trains and exports a "
            "model, then give its .onnx file or 'models:/featherface@champion'"
        )
    return file


def _read_shipped_weights(backend: str) -> bytes:
    if backend == "torch":
        raise ModelError("the weights that ship run on backend 'onnx'; give a .safetensors file for 'torch'")
    return shipped_weights().read_bytes()


def _open_torch(path: Path, device: str, num_threads: int | None) -> TorchBackend:
    try:
        from featherface.inference.weights import load_model_with_info
        from featherface.models.folding import fold_batch_norms

        model, info = load_model_with_info(path)
    except ImportError as error:
        raise ModelError(
            f"{path}: .safetensors files need '{error.name}', which is not installed; give an .onnx file or "
            "install featherface with its train extra"
        ) from error
    # The same answers up to rounding, with fewer operations.
    return TorchBackend(fold_batch_norms(model), device=device, info=info, num_threads=num_threads)
