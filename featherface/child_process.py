"""Child processes that end with their parent, so that nobody goes on writing where the next run works.

Killed with SIGKILL or for want of memory, a process tells its children nothing: they go on, and hold what
they had locked. Linux kills them if they asked for it (`PR_SET_PDEATHSIG`, prctl(2)); elsewhere nothing
happens here. Linux looks at the parent alone, and DVC may put a shell between: bash makes way for the command
it runs, dash stays. So a thread waits for the end of the named process, too (from Linux 5.3 on).
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping

PARENT_VARIABLE = "FEATHERFACE_PARENT_PID"
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def end_with_parent() -> None:
    """Have this process killed as soon as its parent is gone; the thread that started it must wait for it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def end_with_pool() -> None:
    """Have this process of a pool killed as soon as the one that has the pool is gone; a pool's initializer.

    Whichever thread of it started this one, and whether that goes on, does not matter here, on any system.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.join,), name="end-with-pool", daemon=True).start()


def end_with_named_parent() -> None:
    """Do so if `PARENT_VARIABLE` names a parent; one that was gone before we could ask ends this process now.

    Whoever starts a program by hand names none, so that it outlives a shell that is closed. A program that
    another one takes over (`os.exec`) has to ask anew.
    """
    named = os.environ.get(PARENT_VARIABLE)
    if named is None:
        return
    end_with_parent()
    try:
        os.kill(int(named), 0)
        watched = _open_process(int(named))
    except ProcessLookupError:
        sys.exit(f"process {named}, which started this one, is gone")
    if watched is not None:
        threading.Thread(target=_end_with, args=(watched,), name="end-with-parent", daemon=True).start()


def _open_process(pid: int) -> int | None:
    """A file descriptor that can be read once the process has ended; None where there is no such thing."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:  # before Linux 5.3, or forbidden in a sandbox
        return None


def _end_with(process: int) -> None:
    """Wait for the end of a process, given as a file descriptor, and be killed with it."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    _end_after(poll.poll)


def _end_after(wait: Callable[[], object]) -> None:
    wait()
    os._exit(1)  # at once, from any thread; Windows has no SIGKILL


def module_command(module: str, *arguments: str) -> list[str]:
    """Command that runs `python -m MODULE ARGUMENTS` so that it ends with the process that starts it.

    Started with `child_environment`, the module passes the same on to children that ask for it.
    """
    return [sys.executable, "-m", __name__, module, *arguments]


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for children of this process that are to end with it."""
    return {**environment, PARENT_VARIABLE: str(os.getpid())}


def _run_module() -> None:
    end_with_named_parent()
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run_module()
