"""Which MLflow a workspace talks to: the one the user names, else a database inside the workspace."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import mlflow
from botocore.exceptions import BotoCoreError, ClientError
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from featherface.errors import FeatherFaceError
from featherface.tracking.moved import follow
from featherface.tracking.replaced import reopen_replaced_files

EXPERIMENT = "featherface"
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"

_TRACKING_URI = "MLFLOW_TRACKING_URI"
_LOGGING_LEVEL = "MLFLOW_LOGGING_LEVEL"
# MLflow's client lets through what the file system, a damaged database and an S3 store say themselves.
STORE_ERRORS = (MlflowException, OSError, SQLAlchemyError, BotoCoreError, ClientError)

# The client's own defaults keep trying for minutes at a call; a training loop cannot wait that long, and
# what fails is kept and delivered later anyway.
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
PATIENCE = {_RETRIES: "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}

# What a sound database says while it cannot be used.
_PASSING = re.compile("disk is full|readonly database|is locked|unable to open|disk I/O error|No space left")
_WAIT_AND_REPEAT = (
    "see that it can be written, its disk has room and nobody holds it, then run the same command again"
)

# What stands before the host. A password may hold a slash, except where the address is one of the web.
_USER_PART = re.compile(r"\b(https?://)[^/?#\s]*@|\b((?!https?://)[\w+.-]+://)[^:/@\s]*(?::\S*)?@")
_PASSWORD_KEY = re.compile(r"(\bpassword=)[^&\s]*")

reopen_replaced_files()  # before any is opened


def tracking_uri(root: Path) -> str:
    """Address of the workspace's MLflow: `MLFLOW_TRACKING_URI`, else `<root>/mlflow.db`; opens nothing."""
    return os.environ.get(_TRACKING_URI) or f"sqlite:///{root.resolve() / DATABASE}"


def shown(text: str) -> str:
    """An address, or a text with addresses in it, as people may see it: without the users and passwords."""
    return _PASSWORD_KEY.sub(r"\1***", _USER_PART.sub(r"\1\2", text))


def configure(root: Path) -> str:
    """Make MLflow use the workspace's tracking store and have its experiment there; harmless when repeated.

    A new database inside the workspace takes some seconds to be laid out; others wait for that. It appears
    whole or not at all: MLflow cannot go on with one whose making was cut off.

    Returns:
        The tracking URI, which is now MLflow's default in this process.

    Raises:
        FeatherFaceError: the store does not answer or cannot be used, or the workspace was moved without
            its files.
    """
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    # They tell at length how a database comes into being and what is validated.
    for name in ("alembic", "mlflow"):
        if _LOGGING_LEVEL not in os.environ:
            logging.getLogger(name).setLevel(logging.WARNING)
    if _LOGGING_LEVEL not in os.environ:
        # What it logs, with its traceback and the statement, is in the exception that it raises.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    uri = tracking_uri(root)
    is_named_by_user = bool(os.environ.get(_TRACKING_URI))
    mlflow.set_tracking_uri(uri)
    if not is_named_by_user:
        # MLflow just set it; left there, the next workspace of this process would get this one's database.
        os.environ.pop(_TRACKING_URI, None)
    # A server chooses itself where artifacts go.
    folder = None if is_named_by_user else root.resolve() / ARTIFACTS
    try:
        with nullcontext() if is_named_by_user else _layout_turn(root):
            if not is_named_by_user and os.access(root, os.W_OK):
                _lay_out(root / DATABASE, folder)
            _ensure_experiment(MlflowClient(uri), folder)
    except STORE_ERRORS as error:
        if is_named_by_user:
            remedy = f"start its server, or unset {_TRACKING_URI} to keep runs in {root / DATABASE}"
        elif _PASSING.search(first_line(error)):
            remedy = _WAIT_AND_REPEAT
        else:
            remedy = f"bring {DATABASE} back from a backup, or move it away to begin anew without its runs"
        raise FeatherFaceError(
            f"the tracking store {shown(uri)} cannot be used ({first_line(error)}); {remedy}"
        ) from error
    return uri


@contextmanager
def _layout_turn(root: Path) -> Iterator[None]:
    """One process at a time: MLflow itself lets two lay out the same new database, and one of them fails."""
    if not os.access(root, os.W_OK):
        yield  # nothing can be made here, so nobody has to wait
        return
    with FileLock(root / f"{DATABASE}.lock"):
        yield


def _lay_out(database: Path, folder: Path | None) -> None:
    if database.exists():
        return
    name = f".{database.name}.unfinished"
    for left_over in database.parent.glob(f"{name}*"):  # SQLite's journals, too
        left_over.unlink()
    # A name of its own: MLflow would answer from what it has opened by the same one before.
    unfinished = database.with_name(f"{name}-{secrets.token_hex(4)}")
    _ensure_experiment(MlflowClient(f"sqlite:///{unfinished.resolve()}"), folder)
    unfinished.replace(database)


@contextmanager
def patient_client() -> Iterator[None]:
    """While the block runs, calls wait for a server that is away: some four minutes instead of seconds.

    For those who only keep the books of a long training, and would lose it; no training waits that long.
    """
    before = os.environ.get(_RETRIES)
    os.environ[_RETRIES] = "7"  # with pauses that double
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_RETRIES, None)
        else:
            os.environ[_RETRIES] = before


def experiment_id(client: MlflowClient) -> str:
    """The id of the project's experiment.

    Raises:
        FeatherFaceError: it does not exist: nothing was configured.
    """
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        raise FeatherFaceError(
            f"experiment '{EXPERIMENT}' does not exist in {shown(client.tracking_uri)}; configure() makes it"
        )
    return str(experiment.experiment_id)


def follow_workspace(client: MlflowClient, root: Path) -> None:
    """See that the records of a workspace name its files, should it have been moved; see `moved.follow`.

    Args:
        client: of the workspace's store; one that the user names may keep files anywhere.
        root: the workspace.

    Raises:
        FeatherFaceError: its files were not moved with it, or its database cannot be written.
    """
    if os.environ.get(_TRACKING_URI):
        return
    with _layout_turn(root):
        experiment: Experiment | None = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            follow(experiment.artifact_location, root / DATABASE, root.resolve() / ARTIFACTS)


def _ensure_experiment(client: MlflowClient, folder: Path | None) -> None:
    experiment: Experiment | None = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None and folder is not None:
        follow(experiment.artifact_location, folder.parent / DATABASE, folder)
    if experiment is None:
        location = None if folder is None else folder.as_uri()
        try:
            client.create_experiment(EXPERIMENT, artifact_location=location)
        except MlflowException as error:
            # Two processes of one pipeline may start together.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    elif experiment.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(experiment.experiment_id)


def first_line(error: Exception) -> str:
    """What an error says first, without users and passwords; of a database, what that itself says."""
    cause = error.__cause__ if isinstance(error, MlflowException) else error
    said = cause.orig if isinstance(cause, DBAPIError) and cause.orig is not None else error
    return shown((str(said).strip().splitlines() or [type(said).__name__])[0])


def explain(error: MlflowException) -> str:
    """One line for people: what MLflow says, and of a database that refuses, which one and what to do."""
    if not isinstance(error.__cause__, OperationalError):
        return first_line(error)
    store = shown(mlflow.get_tracking_uri())
    return f"the tracking store {store} cannot be used ({first_line(error)}); {_WAIT_AND_REPEAT}"
