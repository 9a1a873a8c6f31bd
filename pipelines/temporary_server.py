"""A Prefect server for the length of one run, where no other is named: nothing has to run beforehand.

Prefect has one as well, and starts it in our process group and on a port that it guesses: Ctrl-C ends it
before the flow that wants to tell it so, SIGKILL of the flow leaves it behind, two runs may guess one port.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import get_client
from prefect.context import refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from featherface.errors import EndedEarlyError

STARTUP_S = 180.0
_ANSWER_S = 10.0
_GOODBYE_S = 5.0
_HOST = "127.0.0.1"


@contextmanager
def prefect_server() -> Iterator[None]:
    """Have a server while the block runs: that of `PREFECT_API_URL`, or one that ends with the block.

    Raises:
        EndedEarlyError: the one that is named does not answer, or ours does not start; its own words are on
            stderr.
    """
    if url := PREFECT_API_URL.value():
        _refuse_absent(url)
        yield
        return
    with socket.create_server((_HOST, 0)) as listener:  # the system knows which port is free
        url = f"http://{_HOST}:{listener.getsockname()[1]}/api"
        process = _start(listener)
    try:
        with _named_everywhere(url):
            _wait_until_ready(process, url)
            try:
                yield
            finally:
                _deliver_all()
    finally:
        _stop(process)


def _refuse_absent(url: str) -> None:
    """Ask a server once; the flow would tell that it is away in a traceback of 150 lines."""
    # Not at the top: our own server is this module too, and has no need of MLflow.
    from featherface.tracking.connection import first_line, shown

    try:
        settings = {"timeout": _ANSWER_S}
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings=settings) as client,
        ):
            error = client.api_healthcheck()
    except httpx.InvalidURL as invalid:
        error = invalid
    if error is not None:
        raise EndedEarlyError(
            f"the Prefect server at {shown(url)} does not answer ({first_line(error)}); start it, or unset "
            f"{PREFECT_API_URL.name}"
        ) from error


def _start(listener: socket.socket) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, where no terminal's Ctrl-C reaches it; it ends with this process."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", __name__, str(listener.fileno())],
        pass_fds=(listener.fileno(),), start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip


@contextmanager
def _named_everywhere(url: str) -> Iterator[None]:
    """Tell it to all threads, which `temporary_settings` does not, and to the children of this process."""
    added = {PREFECT_API_URL.name: url}
    for name in ("NO_PROXY", "no_proxy"):  # no proxy of an office can reach it
        added[name] = ",".join(filter(None, [os.environ.get(name), _HOST]))
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    refresh_global_settings_context()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        refresh_global_settings_context()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            # The system takes the connection before the server does, so the question waits for its answer.
            if httpx.get(f"{url}/health", timeout=1.0).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    what = "does not answer" if process.poll() is None else f"ended with exit code {process.returncode}"
    raise EndedEarlyError(f"Prefect's temporary server {what}; run the same command again")


def _deliver_all() -> None:
    """Send what Prefect's threads still hold: they would do so at the end of Python, to nobody."""
    APILogWorker.drain_all(timeout=_GOODBYE_S)
    EventsWorker.drain_all(timeout=_GOODBYE_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    with process:  # closes the pipe that it watches
        process.terminate()
        try:
            process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _serve(file_descriptor: int) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    uvicorn.run(create_app(ephemeral=True, final=True), fd=file_descriptor, log_level="error", lifespan="on")


def _end_with_parent() -> None:
    """Wait for the end of standard input, whose other end the parent holds, however it goes."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
