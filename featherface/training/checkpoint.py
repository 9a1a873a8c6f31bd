"""Everything that a training needs to go on after it was killed, in one file that is never half-written.

The file holds tensors and plain values only, and is read with `weights_only=True`: it cannot run code. What
the values mean is the business of the training loop.
"""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featherface.errors import EndedEarlyError, ModelError

CHECKPOINT_SCHEMA = 2

RandomGenerator = torch.Generator | np.random.Generator


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps."""

    fingerprint: str
    """Says of which configuration and data this is the training; another one's is not gone on with."""
    epoch: int
    """Epoch that is under way, from 0; the number of epochs once all are done."""
    batch_idx: int
    """Batches of that epoch that are done."""
    states: Mapping[str, Any]
    """State dicts by name: model, optimizer, average, ..."""
    generators: Mapping[str, Any] = field(default_factory=dict)
    """States of the random generators, from `generator_states`."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Plain values: the learning rate's settings, sums of the epoch under way, the history."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a reader finds the old file or the new one, whenever the machine stops.

    One process may write to one path: the unfinished file has a fixed name beside it, so that those of killed
    runs do not pile up.

    Raises:
        EndedEarlyError: the disk is full, or the folder cannot be written to.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    content = {
        "schema": CHECKPOINT_SCHEMA,
        "torch": str(torch.__version__),  # a class of its own, which the safe reader refuses
        "fingerprint": checkpoint.fingerprint,
        "epoch": checkpoint.epoch,
        "batch_idx": checkpoint.batch_idx,
        "states": dict(checkpoint.states),
        "generators": dict(checkpoint.generators),
        "extra": dict(checkpoint.extra),
    }
    packed = io.BytesIO()  # torch hides what the system says when it writes to a full disk itself
    torch.save(content, packed)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            file.write(packed.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise EndedEarlyError(
            f"{path}: cannot be written ({error.strerror or error}); mend that, then run again to go on"
        ) from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, its tensors on the CPU.

    Raises:
        ModelError: the file is missing, damaged, no checkpoint, or of another version of this project.
    """
    try:
        _verify_checksums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no such checkpoint") from error
    except pickle.UnpicklingError as error:  # torch's own text recommends the unsafe reader
        raise ModelError(
            f"{path}: is no file of tensors and plain values; delete it to train from the start"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(f"{path}: is damaged ({reason}); delete it to train from the start") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise ModelError(f"{path}: holds no checkpoint of a training; give another file, or delete it")
    if content["schema"] != CHECKPOINT_SCHEMA:
        raise ModelError(
            f"{path}: has schema {content['schema']}, this version reads {CHECKPOINT_SCHEMA}; "
            "delete it to train from the start"
        )
    return Checkpoint(
        fingerprint=content["fingerprint"],
        epoch=content["epoch"],
        batch_idx=content["batch_idx"],
        states=content["states"],
        generators=content["generators"],
        extra=content["extra"],
    )


def generator_states(generators: Mapping[str, RandomGenerator]) -> dict[str, Any]:
    """States of torch and numpy generators by name, and that of torch's default one (dropout reads it)."""
    states: dict[str, Any] = {"torch.default": torch.get_rng_state()}
    for name, generator in generators.items():
        # numpy's states are dicts with integers of 128 bits: as text they pass the safe reader.
        states[name] = (
            generator.get_state()
            if isinstance(generator, torch.Generator)
            else json.dumps(generator.bit_generator.state)
        )
    return states


def restore_generators(generators: Mapping[str, RandomGenerator], states: Mapping[str, Any]) -> None:
    """Set generators, and torch's default one, to the states from `generator_states`.

    Raises:
        ModelError: the checkpoint has other generators than the training.
    """
    if set(states) != {"torch.default", *generators}:
        raise ModelError(
            f"the checkpoint has the random generators {sorted(states)}, the training {sorted(generators)}; "
            "delete the checkpoint to train from the start"
        )
    torch.set_rng_state(states["torch.default"])
    for name, generator in generators.items():
        if isinstance(generator, torch.Generator):
            generator.set_state(states[name])
        else:
            generator.bit_generator.state = json.loads(states[name])


def _verify_checksums(path: Path) -> None:
    """Compare the checksums that torch's writer stores, and that its reader does not look at."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
