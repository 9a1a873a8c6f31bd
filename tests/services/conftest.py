"""A whole team set-up on free ports: real PostgreSQL, Ceph, MLflow, Prefect and worker."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from team_helpers import Prefect, featherface, free_ports, missing_programs
from tiny_workspace import GENEROUS, TINY

from featherface.config import Config, dump_config
from pipelines.team.settings import Team, open_team


@pytest.fixture(scope="session")
def team() -> Iterator[Team]:
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}; `make test-services` installs them on Debian")
    # Not pytest's own folder: the account of PostgreSQL may not enter that.
    folder = Path(tempfile.mkdtemp(prefix="featherface-team-"))
    folder.chmod(0o755)
    names = ("postgres_port", "s3_port", "ceph_port", "mlflow_port", "prefect_port", "worker_port")
    team = open_team(folder, dict(zip(names, free_ports(len(names)), strict=True)))
    team.workspace.mkdir()
    params = dump_config(Config.model_validate(TINY | {"promote": GENEROUS}))
    (team.workspace / "params.yaml").write_text(params, encoding="utf-8")
    try:
        started = featherface(team, "team", "up", "--folder", str(folder), "--set", "timezone=Europe/Berlin")
        assert started.returncode == 0, started.stderr
        yield open_team(folder)
    finally:
        featherface(team, "team", "down", "--folder", str(folder))
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def prefect(team: Team) -> Iterator[Prefect]:
    asked = Prefect(team)
    yield asked
    asked.close()
