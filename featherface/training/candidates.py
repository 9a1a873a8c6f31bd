"""What a student takes for faces in photographs, kept on disk while there are more photographs to look at."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from featherface.training.checkpoint import Checkpoint, save_checkpoint

if TYPE_CHECKING:
    from featherface.training.state import Checkpointing

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Priors that a student takes for faces, of one photograph or of many."""

    features: Tensor
    """(N, C) float16, the head's input in their cells."""
    outputs: Tensor
    """(N,) int64, which output speaks of them: see `Rescorer.margins_of`."""
    is_found: Tensor
    """(N,) bool: their boxes overlap a face enough to count."""

    def __len__(self) -> int:
        return int(self.features.shape[0])


def join_candidates(parts: Sequence[Candidates]) -> Candidates:
    """The candidates of several photographs, one at least, in their order."""
    return Candidates(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("features", "outputs", "is_found"))
    )


class CandidateParts:
    """Candidates in the order of their photographs; what is kept of them lies in files of some minutes each.

    Attributes:
        known: all so far.
        num_candidates: of all.
        num_photographs: that were looked at.
    """

    def __init__(self, checkpointing: Checkpointing | None) -> None:
        self.known: list[Candidates] = []
        self.num_candidates = self.num_photographs = 0
        self._checkpointing = checkpointing
        self._num_files = self._num_kept = 0
        self._kept_at = time.monotonic()

    @classmethod
    def of(cls, checkpointing: Checkpointing | None) -> CandidateParts:
        """Those of a killed run with the same fingerprint; none if there is none."""
        parts = cls(checkpointing)
        if checkpointing is not None:
            parts._read(checkpointing)
        return parts

    def add(self, of_one: Candidates) -> None:
        """Take those of the next photograph, and keep what has come together if that was a while ago."""
        self.known.append(of_one)
        self.num_candidates += len(of_one)
        self.num_photographs += 1
        if (
            self._checkpointing is not None
            and time.monotonic() - self._kept_at >= self._checkpointing.every_s
        ):
            self.keep()

    def keep(self) -> None:
        """Write what is not yet in a file."""
        new = self.known[self._num_kept :]
        if self._checkpointing is None or not new:
            return
        checkpoint = Checkpoint(
            fingerprint=self._checkpointing.fingerprint,
            epoch=0,
            batch_idx=self.num_photographs,
            states=dict(vars(join_candidates(new))),
        )
        save_checkpoint(_file(self._checkpointing, self._num_files), checkpoint)
        self._num_files, self._num_kept = self._num_files + 1, len(self.known)
        self._kept_at = time.monotonic()

    def _read(self, checkpointing: Checkpointing) -> None:
        while (checkpoint := checkpointing.kept(_file(checkpointing, self._num_files))) is not None:
            part = Candidates(**checkpoint.states)
            self.known.append(part)
            self.num_candidates += len(part)
            self.num_photographs = checkpoint.batch_idx
            self._num_files += 1
        self._num_kept = len(self.known)
        # Files behind the first that is missing or of another run would be taken for this one's.
        for number in count(self._num_files):
            path = _file(checkpointing, number)
            if not path.exists():
                break
            path.unlink()
        if self.known:
            _LOGGER.info("going on behind %d photographs", self.num_photographs)


def _file(checkpointing: Checkpointing, number: int) -> Path:
    return checkpointing.path.with_name(f"candidates-{number:04d}.pt")
