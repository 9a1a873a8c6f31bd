"""`dvc.lock` after DVC was killed while it wrote the file: in its place, and in pieces."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

from featherface.files import write_atomically

logger = logging.getLogger(__name__)

_BEGINNING = b"schema: '2.0'\nstages:\n"
_STAGE = re.compile(rb"^  \S+:$", re.MULTILINE)
_CONFLICT = re.compile(rb"^[<=>]{7}", re.MULTILINE)
_ATTEMPTS = 5
_PAUSE_S = 0.2


def drop_empty(path: Path) -> None:
    """Remove a lock file with nothing in it, of a DVC that was killed after it had opened the file anew."""
    for _ in range(_ATTEMPTS):
        if not _is_empty(path):
            return
        time.sleep(_PAUSE_S)  # somebody may be writing it
    if _is_empty(path):
        logger.warning("%s: is empty, as DVC leaves it when it is killed; removed", path)
        path.unlink()


def drop_cut_stage(path: Path) -> bytes | None:
    """Take the last stage out of a lock file that DVC cannot read: where it was killed, that one is cut off.

    Stages that are not in it come back from DVC's cache, or run again.

    Returns:
        What was there; None, and nothing is changed, where DVC was not writing it: garbage, another
        schema, a conflict that git has marked.
    """
    content = _read(path)
    time.sleep(_ATTEMPTS * _PAUSE_S)
    if _read(path) != content:  # somebody is writing it
        return None
    stages = list(_STAGE.finditer(content))
    if not content.startswith(_BEGINNING) or not stages or _CONFLICT.search(content):
        return None
    logger.warning(
        "%s: is cut off, as DVC leaves it when it is killed; the stages that it lacks come back from DVC's "
        "cache, or run again",
        path,
    )
    if len(stages) == 1:
        path.unlink()
    else:
        write_atomically(path, content[: stages[-1].start()])
    return content


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0
