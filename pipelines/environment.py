"""Settings that Prefect reads when it is imported; set here first, without overriding what the user set."""

from __future__ import annotations

import os
from pathlib import Path


def configure_prefect(root: Path) -> None:
    """Keep Prefect's state inside the workspace, quiet, and patient on a slow machine.

    Without a `PREFECT_API_URL` Prefect starts a temporary server for the run: nothing has to run beforehand.
    """
    defaults = {
        "PREFECT_HOME": str(root / ".prefect"),
        # Its telemetry writes beside the flow into the same SQLite file: "database is locked".
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
