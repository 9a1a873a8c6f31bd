"""Where a version comes from, asked of a real MLflow."""

from __future__ import annotations

from mlflow import MlflowClient

from featherface.tracking import runs
from featherface.tracking.lineage import trace
from featherface.tracking.provenance import UNKNOWN
from featherface.tracking.versions import RegisteredVersion


def version_of(run_id: str | None, tags: dict[str, str]) -> RegisteredVersion:
    return RegisteredVersion("3", (), run_id, 0, tags, {})


def test_a_version_leads_back_to_data_code_parameters_and_every_run(client: MlflowClient) -> None:
    with runs.start_pipeline_run(client=client) as pipeline:
        with runs.start_stage_run("distill", parent_run_id=pipeline.run_id, client=client) as stage:
            pass
        cached = runs.log_cached_stage(
            "validate", parent_run_id=pipeline.run_id, made_by_run_id=None, client=client
        )
    tags = {"dvc.data.md5": "d.dir", "git.sha": "c" * 40, "params.sha256": "p", "onnx.sha256": "f"}
    lines = dict(trace(version_of(pipeline.run_id, tags), client=client))
    assert lines["data"] == "d.dir"
    assert lines["code"] == "c" * 40
    assert lines["parameters"] == "p"
    assert lines["Prefect flow run"] == UNKNOWN
    assert lines["pipeline run"] == pipeline.run_id
    assert lines["  distill"] == f"run {stage.run_id}, finished"
    assert lines["  validate"] == f"unchanged, made by run unknown (noted as {cached})"
    assert lines["file"] == "sha256 f"
    assert list(lines)[:2] == ["data", "code"]


def test_a_version_from_outside_is_unknown_throughout(client: MlflowClient) -> None:
    with runs.start_pipeline_run(client=client):
        pass
    lines = dict(trace(version_of(None, {}), client=client))
    assert lines["pipeline run"] == UNKNOWN
    assert lines["file"] == "sha256 unknown"
