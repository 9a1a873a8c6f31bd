"""Runs of the pipeline and of its stages: how they start, end and resume, and what a skipped stage leaves."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_SOURCE_NAME

from featherface.errors import FeatherFaceError
from featherface.tracking.connection import STORE_ERRORS, experiment_id, first_line, shown
from featherface.tracking.mlflow_tracker import MlflowTracker
from featherface.tracking.provenance import GIT_SHA, UNKNOWN

logger = logging.getLogger(__name__)

KIND = "featherface.kind"
STAGE = "featherface.stage"
CACHED = "featherface.cached"
MADE_BY = "featherface.made_by"
STAGE_LOCK_MD5 = "featherface.stage_lock_md5"
PROCESS = "featherface.process"


@contextmanager
def start_pipeline_run(
    *,
    name: str = "pipeline",
    resume_run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    client: MlflowClient | None = None,
) -> Iterator[MlflowTracker]:
    """The run that the runs of the stages hang below, open while the block runs.

    It ends FINISHED, FAILED where the block raises, KILLED where it is interrupted (Ctrl-C, SIGTERM).

    Args:
        name: what the run is called in the table of runs.
        resume_run_id: go on with this run instead of a new one.
        tags: facts about the run, as from `provenance_tags`.
        client: where; by default where `configure` pointed MLflow.

    Raises:
        FeatherFaceError: nothing is configured, the store does not answer, or the run to resume is not there.
    """
    own_tags = {KIND: "pipeline", **(tags or {})}
    with _open_run(client or MlflowClient(), name, own_tags, resume_run_id) as tracker:
        yield tracker


@contextmanager
def start_stage_run(
    stage: str,
    *,
    parent_run_id: str | None = None,
    resume_run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    client: MlflowClient | None = None,
) -> Iterator[MlflowTracker]:
    """The run of one stage, open while the block runs; ends like that of `start_pipeline_run`.

    Args:
        stage: the stage's name.
        parent_run_id: the pipeline's run; None: the stage runs on its own.
        resume_run_id: go on with this run of the same stage, after a crash for instance.
        tags: facts about the run, as from `provenance_tags`.
        client: where; by default where `configure` pointed MLflow.

    Raises:
        FeatherFaceError: as of `start_pipeline_run`, or the run to resume is another stage's.
    """
    own_tags = {KIND: "stage", STAGE: stage, CACHED: "false", **(tags or {})}
    if parent_run_id is not None:
        own_tags[MLFLOW_PARENT_RUN_ID] = parent_run_id
    with _open_run(client or MlflowClient(), stage, own_tags, resume_run_id) as tracker:
        yield tracker


def mark_stage_run(
    stage: str, *, parent_run_id: str, lock_md5: str, client: MlflowClient | None = None
) -> str | None:
    """Tie the run that a stage just made to what DVC recorded of it, so that `find_stage_run` can find it.

    DVC writes its lock after the stage has ended, so the stage cannot do this itself.

    Args:
        stage: the stage's name.
        parent_run_id: the pipeline's run.
        lock_md5: digest of the stage's entry in `dvc.lock`, from `provenance.stage_lock_md5`.
        client: where; by default where `configure` pointed MLflow.

    Returns:
        The run's id; None if the stage made none below this pipeline's run.
    """
    client = client or MlflowClient()
    found = _newest_run(client, {STAGE: stage, CACHED: "false", MLFLOW_PARENT_RUN_ID: parent_run_id})
    if found is not None:
        tie_run(found, lock_md5, client=client)
    return found


def tie_run(run_id: str, lock_md5: str, *, client: MlflowClient | None = None) -> None:
    """Tie a run that is known already to what DVC recorded of its stage; see `mark_stage_run`."""
    (client or MlflowClient()).set_tag(run_id, STAGE_LOCK_MD5, lock_md5)


def find_stage_run(stage: str, lock_md5: str, *, client: MlflowClient | None = None) -> str | None:
    """The newest finished run that made what DVC now finds unchanged; None where there is no record."""
    return _newest_run(client or MlflowClient(), {STAGE: stage, CACHED: "false", STAGE_LOCK_MD5: lock_md5})


def log_cached_stage(
    stage: str,
    *,
    parent_run_id: str | None,
    made_by_run_id: str | None,
    tags: Mapping[str, str] | None = None,
    client: MlflowClient | None = None,
) -> str:
    """Note a stage that DVC skipped: a finished run with the numbers of the run that once did the work.

    Args:
        stage: the stage's name.
        parent_run_id: the pipeline's run.
        made_by_run_id: the run that did the work; None where that is not known any more: no numbers then.
        tags: facts about the run, as from `provenance_tags`.
        client: where; by default where `configure` pointed MLflow.

    Returns:
        The id of the new run.
    """
    client = client or MlflowClient()
    own_tags = {
        KIND: "stage",
        STAGE: stage,
        CACHED: "true",
        MADE_BY: made_by_run_id or UNKNOWN,
        **(tags or {}),
    }
    if parent_run_id is not None:
        own_tags[MLFLOW_PARENT_RUN_ID] = parent_run_id
    run = client.create_run(experiment_id(client), tags=own_tags, run_name=f"{stage} (unchanged)")
    if made_by_run_id is not None:
        metrics = client.get_run(made_by_run_id).data.metrics
        now_ms = run.info.start_time
        client.log_batch(
            run.info.run_id, metrics=[Metric(name, value, now_ms, 0) for name, value in metrics.items()]
        )
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def reap_runs(*, client: MlflowClient | None = None) -> list[str]:
    """Mark as KILLED the runs whose process on this machine is gone; a killed process cannot do so itself.

    Returns:
        The ids of those runs. Runs of other machines are left alone: nothing is known of their processes.
    """
    client = client or MlflowClient()
    running = client.search_runs([experiment_id(client)], "attributes.status = 'RUNNING'", max_results=1000)
    gone = [run.info.run_id for run in running if _is_gone(run.data.tags.get(PROCESS, ""))]
    for run_id in gone:
        client.set_terminated(run_id, status="KILLED")
    return gone


@contextmanager
def _open_run(
    client: MlflowClient, name: str, tags: dict[str, str], resume_run_id: str | None
) -> Iterator[MlflowTracker]:
    tags = {**tags, PROCESS: _this_process(), MLFLOW_SOURCE_NAME: "featherface"}
    if tags.get(GIT_SHA, UNKNOWN) != UNKNOWN:
        tags[MLFLOW_GIT_COMMIT] = tags[GIT_SHA]
    try:
        run = _start(client, name, tags, resume_run_id)
    except STORE_ERRORS as error:
        raise FeatherFaceError(
            f"no run can be opened in {shown(client.tracking_uri)}: {first_line(error)}"
        ) from error
    tracker = MlflowTracker(client, run.info.run_id)
    status = "KILLED"
    try:
        yield tracker
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        tracker.close()
        _end(client, run.info.run_id, status)


def _start(client: MlflowClient, name: str, tags: Mapping[str, str], resume_run_id: str | None) -> Run:
    if resume_run_id is None:
        return _create(client, name, tags)
    try:
        return _resume(client, resume_run_id, tags)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        # The training goes on from its checkpoint all the same: only its first notes are lost.
        logger.warning(
            "run %s is not in %s: going on in a new run", resume_run_id, shown(client.tracking_uri)
        )
        return _create(client, name, tags)


def _create(client: MlflowClient, name: str, tags: Mapping[str, str]) -> Run:
    return client.create_run(experiment_id(client), tags=dict(tags), run_name=name)


def _resume(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> Run:
    run = client.get_run(run_id)
    theirs, ours = (each.get(STAGE, "the pipeline") for each in (run.data.tags, tags))
    if theirs != ours:
        raise FeatherFaceError(
            f"run {run_id} is of {theirs}, so {ours} cannot go on with it; start a new run"
        )
    client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    return run


def _end(client: MlflowClient, run_id: str, status: str) -> None:
    try:
        client.set_terminated(run_id, status=status)
    except STORE_ERRORS as error:
        reason = first_line(error)
        logger.warning(
            "run %s: could not be marked %s (%s); `featherface registry reap` will", run_id, status, reason
        )


def _newest_run(client: MlflowClient, tags: Mapping[str, str]) -> str | None:
    conditions = [
        "attributes.status = 'FINISHED'",
        *(f"tags.`{key}` = '{value}'" for key, value in tags.items()),
    ]
    found = client.search_runs(
        [experiment_id(client)],
        " and ".join(conditions),
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return str(found[0].info.run_id) if found else None


def _this_process() -> str:
    # The time of birth: a process id alone is soon another's, in containers above all.
    return f"{socket.gethostname()}|{os.getpid()}|{psutil.Process().create_time():.2f}"


def _is_gone(process: str) -> bool:
    host, _, rest = process.partition("|")
    pid, _, born = rest.partition("|")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != born
    except psutil.NoSuchProcess:
        return True
