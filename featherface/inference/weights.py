"""Weights on disk: safetensors files with the name of their network beside the numbers; no pickle.

Loading is strict: a file of another network is refused with what was got and what to do. The published
network's file says nothing of itself and is known by its keys. torch is imported inside the functions, so
that importing this module costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherface.errors import ModelError
from featherface.files import write_atomically
from featherface.inference.model_info import SCHEMA_KEY, SCHEMA_VERSION, ModelInfo
from featherface.names import WEIGHTS_KEY

if TYPE_CHECKING:
    from torch import Tensor, nn

    from featherface.models.detector import FeatherFace

_NAMED_IN_MESSAGES = 3
# Parts of a network that older files do not have; at their start they change no answer.
_LATER_PARTS = ("head.rescorer.", "head.rescorer.temperature")


def save_weights(
    path: Path | str,
    model: nn.Module,
    *,
    architecture: str,
    innovations: Sequence[str] = (),
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a network's weights and its name; equal weights and text make equal bytes.

    The file appears complete or not at all.

    Args:
        path: ends with .safetensors; missing folders are made.
        model: any network whose state dict `build_model(architecture, innovations=...)` can load.
        architecture: one of `names.ARCHITECTURES`.
        innovations: those of `names.INNOVATIONS` that are built in.
        extra: text for people: commit, data version, epoch.

    Raises:
        ModelError: another suffix, or a folder that cannot be written to.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: weights are written as .safetensors, not as '{path.suffix}'")
    # Cloned: safetensors refuses tensors that share memory, and weight sharing is one of our innovations.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    about = {
        SCHEMA_KEY: SCHEMA_VERSION,
        "architecture": architecture,
        "innovations": list(innovations),
        "extra": dict(extra or {}),
    }
    # safetensors writes its keys in the order of a randomly seeded hash table: with a single key equal
    # weights make equal bytes, which is what DVC compares.
    write_atomically(path, save(tensors, metadata={WEIGHTS_KEY: json.dumps(about, sort_keys=True)}))


def load_model(path: Path | str) -> FeatherFace:
    """The network of a weights file, in evaluation mode on the CPU; the published network's file works too.

    Raises:
        ModelError: the file is missing, broken, or does not fit the network that it names.
    """
    return load_model_with_info(path)[0]


def load_model_with_info(path: Path | str) -> tuple[FeatherFace, ModelInfo]:
    """Like `load_model`, with what the file says of itself.

    Raises:
        ModelError: the file is missing, broken, or does not fit the network that it names.
    """
    from featherface.models.build import build_model

    tensors, about = _read(Path(path))
    if about is None:
        return _build_public_v1(tensors, str(path)), ModelInfo(
            architecture="v1", extra={"origin": "public weights"}
        )
    try:
        architecture, innovations = str(about["architecture"]), tuple(about["innovations"])
        model = build_model(architecture, innovations=innovations)
        extra = {str(key): str(value) for key, value in about["extra"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: names a network that cannot be built ({error}); train it again") from error
    for part in _LATER_PARTS:
        later = {key: value for key, value in model.state_dict().items() if key.startswith(part)}
        if not tensors.keys() & later.keys():
            tensors = {**tensors, **later}
    _load_strictly(model, tensors, f"{path}: does not fit '{architecture}'")
    info = ModelInfo(
        architecture=architecture,
        innovations=innovations,
        strides=tuple(model.strides),
        min_sizes_px=tuple(tuple(sizes) for sizes in model.min_sizes_px),
        extra=extra,
    )
    return model.eval(), info


def load_public_v1(path: Path | str) -> FeatherFace:
    """The published FeatherFace network (592,371 parameters) with published weights, in evaluation mode.

    Raises:
        ModelError: the file is missing, broken, or of another network.

    Reference:
        Kim, Jung, Kim: FeatherFace, Electronics 2025, 14(3), 517.
    """
    tensors, _ = _read(Path(path))
    return _build_public_v1(tensors, str(path))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors, and what `save_weights` wrote beside them: None where another program made the file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ModelError(f"{path}: {what}; give a .safetensors file of weights")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()  # the handle is no mapping: it cannot be iterated itself
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: is no complete safetensors file ({error}); make or fetch it again"
        ) from error
    if WEIGHTS_KEY not in metadata:
        return tensors, None
    try:
        about = json.loads(metadata[WEIGHTS_KEY])
        schema = about[SCHEMA_KEY]
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: its metadata is broken ({error}); save the weights again") from error
    if schema != SCHEMA_VERSION:
        raise ModelError(
            f"{path}: written with weights schema {schema!r}, this version of featherface reads "
            f"{SCHEMA_VERSION!r}"
        )
    return tensors, about


def _build_public_v1(tensors: Mapping[str, Tensor], name: str) -> FeatherFace:
    from featherface.models.build import build_model
    from featherface.models.public_v1 import public_v1_state_dict

    try:
        state = public_v1_state_dict(tensors)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from error
    model = build_model("v1")
    _load_strictly(model, state, f"{name}: does not fit the published network")
    return model.eval()


_BEFORE_DETAILS = (
    ". If it was written before v2-ultra had layers for tiny faces, use the ONNX file that was made of it, "
    "or train again"
)


def _load_strictly(model: nn.Module, state: Mapping[str, Tensor], problem: str) -> None:
    """Load all of `state`, or refuse with the first differences."""
    needed = model.state_dict()
    differences = [f"{key} is missing" for key in sorted(needed.keys() - state.keys())]
    differences += [f"{key} is unknown" for key in sorted(state.keys() - needed.keys())]
    differences += [
        f"{key} has shape {tuple(state[key].shape)} instead of {tuple(needed[key].shape)}"
        for key in sorted(needed.keys() & state.keys())
        if state[key].shape != needed[key].shape
    ]
    if differences:
        named = "; ".join(differences[:_NAMED_IN_MESSAGES])
        more = len(differences) - _NAMED_IN_MESSAGES
        hint = _BEFORE_DETAILS if "details.to_p3.weight" in needed.keys() - state.keys() else ""
        raise ModelError(f"{problem}: {named}{f'; and {more} more differences' if more > 0 else ''}{hint}")
    model.load_state_dict(dict(state), strict=True)
