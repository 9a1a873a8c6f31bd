"""The deployments of `prefect.yaml`, on the team's server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipelines.team.servers import PROJECT, prefect_home
from pipelines.team.services import ServiceError
from pipelines.team.settings import Team

DEPLOY_FILE = PROJECT / "prefect.yaml"


def deploy(team: Team, *, file: Path = DEPLOY_FILE) -> None:
    """Create or renew every deployment of a file, with its schedules and triggers.

    Raises:
        ServiceError: Prefect refused.
    """
    environment = {
        **os.environ,
        **team.client_environment,
        **prefect_home(team),
        "FEATHERFACE_WORKSPACE": str(team.workspace),
        "FEATHERFACE_PROFILE": team.settings.profile,
        "FEATHERFACE_TIMEZONE": team.settings.timezone,
        "PYTHONPATH": str(PROJECT),
    }
    done = subprocess.run(  # noqa: S603 - our own interpreter's script
        [str(Path(sys.executable).with_name("prefect")), "--no-prompt", "deploy", "--all",
         "--prefect-file", str(file)],
        cwd=PROJECT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    # It ends with 0 although it refused one.
    said = " ".join((done.stdout + done.stderr).split())
    if done.returncode != 0 or "Error" in said or "Failed" in said:
        raise ServiceError(f"{file}: cannot be deployed: {said[-600:]}")
