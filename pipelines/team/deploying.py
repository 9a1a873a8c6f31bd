"""The deployments of `prefect.yaml`, on the team's server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
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
    prefect = str(Path(sys.executable).with_name("prefect"))
    _run([prefect, "--no-prompt", "deploy", "--all", "--prefect-file", str(file)], environment)
    # In a process of its own: Prefect reads its settings when it is imported.
    _run([sys.executable, "-m", "pipelines.team.automations"], environment)


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(  # noqa: S603 - our own interpreter and script
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    said = " ".join((done.stdout + done.stderr).split())
    if done.returncode != 0:
        raise ServiceError(f"`{' '.join(command[1:4])}` failed: {said[-600:]}")
