"""What is told of a pipeline run."""

from __future__ import annotations

from pipelines.gate import Decision
from pipelines.outcome import PipelineOutcome, StageOutcome, WhatHappened


def outcome_of(*happened: WhatHappened) -> PipelineOutcome:
    return PipelineOutcome(
        stages=tuple(StageOutcome("distill", each, 1.0, "abc") for each in happened),
        metrics={},
        model_version="3",
        newly_registered=True,
        decision=Decision(promoted=True, reasons=()),
        champion_version="3",
        tracking_uri="http://admin:hunter2@mlflow.example.org:5000",
        mlflow_run_id="abc",
    )


def test_the_password_of_the_store_is_not_told() -> None:
    outcome = outcome_of()
    assert outcome.table().endswith("MLflow: run abc at http://mlflow.example.org:5000")
    assert outcome.mlflow_link == "http://mlflow.example.org:5000/#/runs/abc"


def test_what_came_from_the_cache_is_told_from_what_did_not_change() -> None:
    unchanged, restored, ran = (
        outcome_of("nothing changed", last).table() for last in ("nothing changed", "restored", "ran")
    )
    assert "Nothing changed since the last run: nothing was trained." in unchanged
    assert "All that changed was in DVC's cache: nothing was trained." in restored
    assert "nothing was trained" not in ran
