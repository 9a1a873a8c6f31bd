"""What both sides read and write without another package: JSON with a schema, tensors as numpy's .npz."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from featherface.bundles import layout
from featherface.errors import DataError
from featherface.files import sha256_of, write_atomically


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """The content of a JSON file of ours.

    Args:
        path: the file.
        advice: what to do if it cannot be read, for the message.

    Raises:
        DataError: it cannot be read, or has another schema.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise DataError(f"{path}: cannot be read ({reason}); {advice}") from error
    if content.get("schema") != layout.SCHEMA:
        raise DataError(
            f"{path}: has schema {content.get('schema')}, this code reads {layout.SCHEMA}; pack and "
            "train again, or use the version of FeatherFace that wrote it"
        )
    return content


def check_files(folder: Path, digests: Mapping[str, str]) -> None:
    """See that files are what they were: cut annotations, say, can be read, and are fewer photographs.

    Args:
        folder: of the files.
        digests: SHA-256 by name.

    Raises:
        DataError: one is missing or another.
    """
    for name, digest in digests.items():
        path = folder / name
        try:
            is_same = sha256_of(path) == digest
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}); carry it again") from error
        if not is_same:
            raise DataError(
                f"{path}: is not the file that was packed ({path.stat().st_size:,} bytes); carry it again"
            )


def write_network(path: Path, network: nn.Module) -> None:
    """Write all tensors of a network into a file that appears whole or not at all.

    Raises:
        ModelError: the folder cannot be written to.
    """
    arrays = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_atomically(path, file.getvalue())


def read_network(path: Path, network: nn.Module) -> None:
    """Load all tensors into a network of the same shape.

    Raises:
        DataError: the file is missing, cut, or of another network.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
        raise DataError(f"{path}: cannot be used ({' '.join(str(error).split())}); fetch it again") from error
