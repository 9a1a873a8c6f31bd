"""A network's tensors as numpy's .npz: what both sides can read and write without another package."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from featherface.errors import DataError


def write_network(path: Path, network: nn.Module) -> None:
    """Write all tensors of a network."""
    arrays = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    with path.open("wb") as file:
        np.savez(file, **arrays)


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
