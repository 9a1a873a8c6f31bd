"""`make up` and `make down`: all services in order, once; and what is there."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from pipelines.team import s3
from pipelines.team.deploying import deploy
from pipelines.team.postgres import make_databases, postgres
from pipelines.team.servers import mlflow_server, prefect_server, prefect_worker
from pipelines.team.services import running, start, stop
from pipelines.team.settings import RUN_FOLDER, Team, open_team

logger = logging.getLogger(__name__)

# In the order in which they start; the last one stops first.
_ORDER = ("postgres", *s3.NAMES, "mlflow", "prefect", "worker")
# With SIGTERM PostgreSQL would wait until the last client has left.
_STOP_SIGNALS = {"postgres": signal.SIGINT}


def up(folder: Path, changes: dict[str, object] | None = None) -> Team:
    """Start what does not run yet; harmless when repeated.

    Args:
        folder: where all state is kept; made if it is not there.
        changes: settings of `team.yaml` to use from now on.

    Raises:
        FeatherFaceError: a program is not installed, or a service does not start. Those before it stay up.
    """
    team = open_team(folder, changes)
    state = team.path(RUN_FOLDER)
    steps: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("PostgreSQL", lambda: _postgres(team, state)),
        ("S3 store", lambda: s3.start_s3(team, state)),
        ("MLflow", lambda: start(mlflow_server(team), state)),
        ("Prefect", lambda: start(prefect_server(team), state)),
        ("worker", lambda: start(prefect_worker(team), state)),
    )
    for position, (name, step) in enumerate(steps, start=1):
        logger.info("[%d/%d] %s: %s", position, len(steps), name, "started" if step() else "runs already")
    deploy(team)
    logger.info("deployed what prefect.yaml schedules")
    return team


def down(folder: Path) -> list[str]:
    """Stop what runs, the last started first; the state stays. Returns the names of the stopped ones."""
    state = folder.resolve() / RUN_FOLDER
    return [
        name for name in reversed(_ORDER) if stop(name, state, how=_STOP_SIGNALS.get(name, signal.SIGTERM))
    ]


def status(folder: Path) -> Iterator[tuple[str, int | None]]:
    """Name and process of each service; None for one that does not run."""
    state = folder.resolve() / RUN_FOLDER
    for name in _ORDER:
        process = running(name, state)
        yield name, None if process is None else process.pid


def _postgres(team: Team, state: Path) -> bool:
    started = start(postgres(team), state)
    make_databases(team)
    return started
