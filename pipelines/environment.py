"""Settings that Prefect reads when it is imported; set here first, without overriding what the user set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOME = "PREFECT_HOME"


@contextmanager
def prefect_ready(root: Path) -> Iterator[None]:
    """Have Prefect at hand while the block runs; modules that import it are imported inside the block.

    Its state is kept inside the workspace. Without a `PREFECT_API_URL` there is a server for just this run.

    Raises:
        EndedEarlyError: that server does not start, or the one that is named does not answer.
    """
    defaults = {
        # Its telemetry writes beside the flow into the same SQLite file: "database is locked".
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Nothing here is kept in blocks; their types would take seconds of a new workspace.
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": "pipelines.console.TerseConsoleHandler",
        "DO_NOT_TRACK": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    with _home_in(root):
        from prefect.context import refresh_global_settings_context

        from pipelines.temporary_server import prefect_server

        refresh_global_settings_context()  # it may have been imported for another workspace
        with prefect_server():
            yield


@contextmanager
def _home_in(root: Path) -> Iterator[None]:
    """Name the workspace's folder for Prefect's state while the block runs, unless the user named another."""
    if _HOME in os.environ:
        yield
        return
    os.environ[_HOME] = str(root / ".prefect")
    try:
        yield
    finally:
        os.environ.pop(_HOME, None)  # the next workspace of this process has its own
