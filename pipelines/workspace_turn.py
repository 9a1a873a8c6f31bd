"""One run at a time in a workspace, whoever starts it: the command line, a schedule or a worker."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featherface.errors import FeatherFaceError

LOCK_FILE = "state/pipeline.lock"


class WorkspaceBusyError(FeatherFaceError):
    """Another run works in the workspace."""


@contextmanager
def workspace_turn(root: Path) -> Iterator[None]:
    """Hold the workspace while the block runs; the system takes the lock back from a process that dies.

    Raises:
        WorkspaceBusyError: another process holds it.
    """
    path = root / LOCK_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise WorkspaceBusyError(
                f"{root}: another run is at work here (process {holder}); wait until it has ended, or give "
                "another --root"
            ) from None
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield
