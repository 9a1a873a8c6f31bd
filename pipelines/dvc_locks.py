"""DVC's list of who works with which files, freed of those who are gone.

DVC itself only asks whether a process has the number that was noted. After a restart of the machine or the
container another one may have it, and a zombie has it until its parent asks: DVC would wait for either.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import psutil

from featherface.files import write_atomically

logger = logging.getLogger(__name__)

_LOCKS_FILE = Path(".dvc", "tmp", "rwlock")
_ATTEMPTS = 5
_PAUSE_S = 0.2


def mend_locks(root: Path) -> None:
    """Drop the locks of processes that are gone, and a list whose writer was killed in the middle.

    Nothing happens while somebody else changes the list, and nothing to a list that is written in a way that
    is not known here.

    Raises:
        ModelError: the list has to be written anew, and cannot be.
    """
    path = root / _LOCKS_FILE
    if not path.exists():
        return
    with _guard(path) as is_ours:
        if not is_ours:
            return
        locks = _read(path)
        if locks is None:
            logger.warning("%s: was half-written by a process that is gone; removed", path)
            path.unlink(missing_ok=True)
            return
        with contextlib.suppress(AttributeError, KeyError, TypeError):
            kept = _without_the_gone(locks)
            if kept != locks:
                logger.warning("%s: held locks of processes that are gone; dropped", path)
                write_atomically(path, json.dumps(kept).encode())


@contextlib.contextmanager
def _guard(path: Path) -> Iterator[bool]:
    """Hold what DVC holds while it changes the list; False where somebody else does not let go of it."""
    with path.with_name(f"{path.name}.lock").open("a+") as stream:
        for _ in range(_ATTEMPTS):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE_S)
            else:
                yield True
                return
        yield False


def _read(path: Path) -> Any:
    """The list; None for one that stays half-written. Not everybody who writes it holds the guard."""
    for _ in range(_ATTEMPTS):
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            time.sleep(_PAUSE_S)
    return None


def _without_the_gone(locks: Any) -> dict[str, Any]:
    """The list, which has one writer and any number of readers a path, with those that are at work."""
    kept = {**locks}
    if "write" in locks:
        kept["write"] = {path: info for path, info in locks["write"].items() if _is_at_work(info)}
    if "read" in locks:
        kept["read"] = {
            path: [info for info in infos if _is_at_work(info)] for path, infos in locks["read"].items()
        }
    return kept


def _is_at_work(info: dict[str, Any]) -> bool:
    """Whether the process is there and is one that runs DVC, or the program that was noted."""
    try:
        process = psutil.Process(info["pid"])
        command = " ".join(process.cmdline())
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:  # a zombie's command line too
        return False
    programs = ["dvc", *(PurePath(word).name for word in info["cmd"].split()[:1])]
    return any(program in command for program in programs)
