"""One run at a time in a workspace, whoever starts it: the command line, a schedule or a worker."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from featherface.errors import FeatherFaceError

LOCK_FILE = "state/pipeline.lock"
HOLDER_VARIABLE = "FEATHERFACE_TURN_OF"
"""Tells a child, such as a stage that DVC runs, which process holds the workspace for it."""


class WorkspaceBusyError(FeatherFaceError):
    """Another run works in the workspace."""


@contextmanager
def workspace_turn(root: Path, *, is_part: bool = False) -> Iterator[str]:
    """Hold the workspace while the block runs; the system takes the lock back from a process that dies.

    A process that the holder started works in the holder's turn, if `HOLDER_VARIABLE` tells it so. The lock
    stays with a process that another program takes over (`os.exec`).

    Args:
        root: the workspace.
        is_part: what is done may be part of what this process itself holds the workspace for.

    Returns:
        Number of the process that holds it: the value of `HOLDER_VARIABLE` for children.

    Raises:
        WorkspaceBusyError: another process holds it.
    """
    path = root / LOCK_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as stream:
        if _is_taken(stream):
            holder = str(os.getpid())
            stream.truncate(0)
            stream.write(f"{holder}\n")
            stream.flush()
        else:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            # Compared with who holds it now: what a run of before left in a shell lets nobody in.
            if holder != os.environ.get(HOLDER_VARIABLE) and not (is_part and holder == str(os.getpid())):
                raise WorkspaceBusyError(
                    f"{root}: another run is at work here (process {holder}); wait until it has ended, or "
                    "give another --root"
                )
        yield holder


def _is_taken(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # For `os.exec`; Python closes it in the children that it starts.
    os.set_inheritable(stream.fileno(), True)
    return True
