"""What is told of a pipeline run."""

from __future__ import annotations

from pipelines.gate import Decision
from pipelines.outcome import PipelineOutcome


def test_the_password_of_the_store_is_not_told() -> None:
    outcome = PipelineOutcome(
        stages=(),
        metrics={},
        model_version="3",
        newly_registered=True,
        decision=Decision(promoted=True, reasons=()),
        champion_version="3",
        tracking_uri="http://admin:hunter2@mlflow.example.org:5000",
        mlflow_run_id="abc",
    )
    assert outcome.table().endswith("MLflow: run abc at http://mlflow.example.org:5000")
    assert outcome.mlflow_link == "http://mlflow.example.org:5000/#/runs/abc"
