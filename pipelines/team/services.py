"""Long-running processes: started once, known by a file, waited for, stopped in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from featherface.errors import FeatherFaceError

_POLL_S = 0.1
_PATIENCE_S = 20.0
_LOG_LINES = 5
_CLOCK_ERROR_S = 1.0
# They outlive us, and Python warns of a child that is forgotten.
_OUR_CHILDREN: list[subprocess.Popen[bytes]] = []


class ServiceError(FeatherFaceError):
    """A service did not start; the message has its last words and where the others are."""


@dataclass(frozen=True)
class Service:
    """One process of the team set-up."""

    name: str
    command: Sequence[str]
    is_ready: Callable[[], bool]
    """Asked again and again after the start; errors that say "not yet" are its own business."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to that of the caller."""
    user: str | None = None
    """Account to run as; None: the caller's."""
    ready_s: float = 90.0


def start(service: Service, state: Path) -> bool:
    """Start a service and wait until it answers; says whether it had to be started.

    Args:
        service: what to run.
        state: folder of its log and of the file that names its process.

    Raises:
        ServiceError: it ended, or did not answer in time.
    """
    state.mkdir(parents=True, exist_ok=True)
    if running(service.name, state) is not None:
        _wait(service, state)
        return False
    _end_orphans(service.name, state)
    with (state / f"{service.name}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - commands of this package
            service.command,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, **service.environment}, user=service.user, start_new_session=True,
        )  # fmt: skip
    _OUR_CHILDREN.append(process)
    # A number alone may be given to another process after a restart of the machine.
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).create_time()
        _pid_file(service.name, state).write_text(f"{process.pid} {started}\n", encoding="ascii")
    _wait(service, state)
    return True


def running(name: str, state: Path) -> psutil.Process | None:
    """The process of a service, if it is alive."""
    noted = _noted(name, state)
    if noted is None:
        return None
    pid, started = noted
    try:
        process = psutil.Process(pid)
        return process if _is_same(process, started) and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def stop(name: str, state: Path, *, how: signal.Signals = signal.SIGTERM) -> bool:
    """End a service and all that it started; says whether it ran.

    Prefect's worker can outlive one signal: it gets a second one, and then none that can be ignored.
    """
    process = running(name, state)
    if process is None:
        _end_orphans(name, state)
        return False
    family = [process, *process.children(recursive=True)]
    for final in (how, how, signal.SIGKILL):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(final)
        gone, _ = psutil.wait_procs([process], timeout=_PATIENCE_S / 2)
        if gone:
            break
    _, left = psutil.wait_procs(family, timeout=2)
    for each in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(left, timeout=2)
    _pid_file(name, state).unlink(missing_ok=True)
    return True


def _end_orphans(name: str, state: Path) -> None:
    """Kill what a service that was killed has left, workers that hold its port and its files; forget it."""
    noted = _noted(name, state)
    if noted is not None and _may_have_orphans(*noted):
        _kill_group(*noted)
    _pid_file(name, state).unlink(missing_ok=True)


def _may_have_orphans(group: int, started: float) -> bool:
    """False where the number of the service's group belongs to strangers by now, or to nobody."""
    if started < _numbers_begin():
        return False
    try:
        # No process gets the number of a group that lives: another leader means that ours is gone.
        return _is_same(psutil.Process(group), started)
    except psutil.NoSuchProcess:
        return True


def _numbers_begin() -> float:
    """Since when process numbers are given out here: the start of the machine, or of the container."""
    boot = float(psutil.boot_time())
    try:
        return max(boot, float(psutil.Process(1).create_time()))
    except psutil.Error:
        return boot


def _is_same(process: psutil.Process, started: float) -> bool:
    return bool(abs(process.create_time() - started) < _CLOCK_ERROR_S)


def _kill_group(group: int, started: float) -> None:
    orphans = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.create_time() >= started - _CLOCK_ERROR_S:
                orphans.append(process)
    for orphan in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.kill()
    psutil.wait_procs(orphans, timeout=2)


def _noted(name: str, state: Path) -> tuple[int, float] | None:
    """Process number and start of a service as it was last started; it leads a group of that number."""
    try:
        pid, started = _pid_file(name, state).read_text(encoding="ascii").split()
        return int(pid), float(started)
    except (OSError, ValueError):
        return None


def _wait(service: Service, state: Path) -> None:
    deadline = time.monotonic() + service.ready_s
    while not service.is_ready():
        if running(service.name, state) is None:
            raise ServiceError(f"{service.name} ended while it started: {_last_words(service.name, state)}")
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{service.name} does not answer after {service.ready_s:.0f} s: "
                f"{_last_words(service.name, state)}"
            )
        time.sleep(_POLL_S)


def _last_words(name: str, state: Path) -> str:
    log = state / f"{name}.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    return f"{' | '.join(line.strip() for line in lines if line.strip()) or 'it said nothing'} (see {log})"


def _pid_file(name: str, state: Path) -> Path:
    return state / f"{name}.pid"
