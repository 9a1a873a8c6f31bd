"""Where a version of the model comes from: data, code, parameters, the runs that made it, and its file."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from featherface.tracking.connection import experiment_id
from featherface.tracking.provenance import (
    DATA_MD5,
    FLOW_RUN_ID,
    GIT_DIRTY,
    GIT_SHA,
    LOCK_MD5,
    PARAMS_SHA256,
    UNKNOWN,
)
from featherface.tracking.runs import CACHED, MADE_BY, STAGE
from featherface.tracking.versions import ONNX_SHA256, RegisteredVersion

_FACTS = (
    ("data", DATA_MD5),
    ("code", GIT_SHA),
    ("uncommitted changes", GIT_DIRTY),
    ("parameters", PARAMS_SHA256),
    ("dvc.lock", LOCK_MD5),
    ("Prefect flow run", FLOW_RUN_ID),
)


def trace(version: RegisteredVersion, *, client: MlflowClient | None = None) -> list[tuple[str, str]]:
    """Label and value, from the data to the file; `unknown` where a fact was not recorded.

    Args:
        version: of the registry.
        client: where its runs are; by default where `configure` pointed MLflow.
    """
    client = client or MlflowClient()
    lines = [(label, version.tags.get(tag, UNKNOWN)) for label, tag in _FACTS]
    lines.append(("pipeline run", version.run_id or UNKNOWN))
    lines += _stage_runs(client, version.run_id) if version.run_id else []
    lines.append(("file", f"sha256 {version.tags.get(ONNX_SHA256, UNKNOWN)}"))
    return lines


def _stage_runs(client: MlflowClient, run_id: str) -> Iterator[tuple[str, str]]:
    try:
        runs = client.search_runs(
            [experiment_id(client)],
            f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'",
            order_by=["attributes.start_time ASC"],
        )
    except MlflowException:  # the run was deleted with all below it
        return
    for run in runs:
        if STAGE in run.data.tags:
            yield f"  {run.data.tags[STAGE]}", _described(run)


def _described(run: Run) -> str:
    own = str(run.info.run_id)
    if run.data.tags.get(CACHED) != "true":
        return f"run {own}, {run.info.status.lower()}"
    return f"unchanged, made by run {run.data.tags.get(MADE_BY, UNKNOWN)} (noted as {own})"
