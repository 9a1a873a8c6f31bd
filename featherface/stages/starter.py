"""What a stage leaves to whoever starts it through DVC: to tell its refusal, and to clear its checkpoints.

A person reads a refusal once, and a checkpoint may go when DVC has recorded the outputs, after the end of the
stage. Started by hand, a stage does both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from featherface.errors import FeatherFaceError, ModelError
from featherface.files import write_atomically
from featherface.stages.base import CHECKPOINT_FILES

STARTER_VARIABLE = "FEATHERFACE_STARTER_FOLDER"
_REFUSAL, _FINISHED = "refusal.txt", "finished"


class Starter:
    """The side of whoever starts a stage; `started_here` gives it.

    Args:
        folder: in which the stage leaves its notes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def environment(self) -> dict[str, str]:
        """What the stage is told."""
        return {STARTER_VARIABLE: str(self._folder)}

    @property
    def refusal(self) -> FeatherFaceError | None:
        """Why the stage refused its input, if it did."""
        path = self._folder / _REFUSAL
        return FeatherFaceError(path.read_text(encoding="utf-8")) if path.is_file() else None

    def clear(self, state: Path) -> None:
        """Remove the checkpoints of a stage that ran to its end, now that its outputs are on record."""
        # Where DVC took them from its cache, those of other parameters stay for the next time.
        if (self._folder / _FINISHED).is_file():
            _remove_checkpoints(state)


@contextmanager
def started_here() -> Iterator[Starter]:
    """Be who tells the refusal of a stage and clears its checkpoints, while the block starts it."""
    with TemporaryDirectory() as folder:
        yield Starter(Path(folder))


def hand_on(refusal: FeatherFaceError) -> bool:
    """Leave a refusal to whoever started this stage; False: nobody did, or it cannot be left.

    Any process of a training may be the first to refuse, and `torchrun` then ends the others.
    """
    return _leave(_REFUSAL, str(refusal))


def begin(state: Path, recorded: str | None) -> None:
    """Remove the checkpoints of a finished stage that DVC has recorded, where its starter died just then.

    They count for parameters and data alone: a stage of other code would take them for its own.

    Args:
        state: of the stage.
        recorded: digest of what DVC has recorded of it, if it has.
    """
    note = state / _FINISHED
    if note.is_file() and note.read_text(encoding="utf-8") != (recorded or ""):
        _remove_checkpoints(state)
    note.unlink(missing_ok=True)


def finish(state: Path, recorded: str | None) -> None:
    """Have the checkpoints removed: at once, or by whoever started this stage when DVC has its outputs.

    Args:
        state: of the stage.
        recorded: as of `begin`.
    """
    if _leave(_FINISHED, ""):
        write_atomically(state / _FINISHED, (recorded or "").encode())
    else:
        _remove_checkpoints(state)


def _remove_checkpoints(state: Path) -> None:
    for leftover in (*state.glob(CHECKPOINT_FILES), *state.glob(_FINISHED)):
        leftover.unlink()


def _leave(name: str, text: str) -> bool:
    folder = os.environ.get(STARTER_VARIABLE)
    if folder is None:
        return False
    try:
        write_atomically(Path(folder) / name, text.encode())
    except ModelError:  # the disk is full, say
        return False
    return True
