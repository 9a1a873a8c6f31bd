"""The main flow: bring every stage up to date, register the student, let the gate decide, publish it all."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from featherface.config import load_config
from featherface.evaluation.run import judging_by
from featherface.stages import STAGES, names
from featherface.stages.base import PARAMS_FILE, Workspace
from featherface.tracking.connection import configure, patient_client, shown
from featherface.tracking.provenance import provenance_tags
from featherface.tracking.registry import ModelRegistry
from featherface.tracking.runs import reap_runs, start_pipeline_run
from featherface.tracking.versions import JUDGED_BY
from pipelines import dvc_commands
from pipelines.outcome import PipelineOutcome, StageOutcome
from pipelines.tasks import judge_and_promote, register, reproduce, result_of, score_file

logger = logging.getLogger(__name__)


def run_flow(root: Path) -> PipelineOutcome:
    """Run the flow in this process and return what it came to.

    Raises:
        FeatherFaceError: bad input.
        StageDiedError: a stage was killed or broke.
    """
    state = retrain_and_judge(root, return_state=True)
    outcome = result_of(state)
    if not isinstance(outcome, PipelineOutcome):
        raise TypeError(f"the flow ended without an outcome: {state.name}: {state.message}")
    return outcome


@flow(name="retrain-and-judge", persist_result=False, validate_parameters=False)
def retrain_and_judge(root: Path) -> State[PipelineOutcome]:
    """Train, score and export a challenger; promote it if it passes the gate, else end as "Rejected"."""
    config = load_config(root / PARAMS_FILE)
    tracking_uri = configure(root)
    reap_runs()  # what a killed run left as running
    flow_run_id = str(flow_run.get_id() or "")
    tags = provenance_tags(root, flow_run_id=flow_run_id)
    pipeline_run = start_pipeline_run(name=f"pipeline-{config.data.source}", tags=tags)
    with patient_client(), pipeline_run as tracker:
        run_id = tracker.run_id or ""
        tracker.log_params(config.model_dump())
        stages = _reproduce_all(root, run_id=run_id, flow_run_id=flow_run_id)
        tags = provenance_tags(root, flow_run_id=flow_run_id)  # the stages wrote dvc.lock
        tracker.set_tags(tags)
        metrics = Workspace(root).read_json(names.REPORT_METRICS)["student"]
        tracker.log_metrics(metrics)
        version, is_new = register(root, run_id, {**tags, JUDGED_BY: judging_by(config.evaluate)})
        score_file(version, root, config.evaluate, root / config.data.root)
        decision = judge_and_promote(version, root, config)
        tracker.set_tags(
            {"promotion.status": "promoted" if decision.promoted else "rejected", "model.version": version}
        )
        tracker.log_artifact(root / names.REPORT_HTML, "report")
    champion = ModelRegistry().current_champion()
    outcome = PipelineOutcome(
        stages=stages,
        metrics=metrics,
        model_version=version,
        newly_registered=is_new,
        decision=decision,
        champion_version="none" if champion is None else champion.version,
        tracking_uri=tracking_uri,
        mlflow_run_id=run_id,
    )
    _publish(outcome)
    if decision.promoted:
        return Completed(message=f"version {version} is the champion", data=outcome)
    return Completed(name="Rejected", message="; ".join(decision.reasons), data=outcome)


def _reproduce_all(root: Path, *, run_id: str, flow_run_id: str) -> tuple[StageOutcome, ...]:
    stale = dvc_commands.stale_stages(root)
    outcomes: list[StageOutcome] = []
    is_stale = False
    for position, stage in enumerate(STAGES, start=1):
        # What a stage wrote, or DVC took from its cache, may have made any later one stale: then DVC is asked
        # again, by running it.
        is_stale = is_stale or stage in stale
        logger.info(
            "[%d/%d] %s: %s", position, len(STAGES), stage, "running" if is_stale else "nothing changed"
        )
        outcomes.append(
            reproduce(stage, root, is_stale=is_stale, parent_run_id=run_id, flow_run_id=flow_run_id)
        )
    return tuple(outcomes)


def _publish(outcome: PipelineOutcome) -> None:
    """Show metrics, decision and where to look in Prefect's own pages."""
    create_table_artifact(
        key="pipeline-metrics",
        table=[{"metric": name, "value": value} for name, value in sorted(outcome.metrics.items())],
        description=f"Student, model version {outcome.model_version}",
    )
    verdict = "Promoted" if outcome.decision.promoted else "Rejected"
    create_markdown_artifact(
        key="promotion",
        markdown="\n".join(
            [
                f"**{verdict}**: version {outcome.model_version}",
                *(f"- {reason}" for reason in outcome.decision.reasons),
            ]
        ),
    )
    create_link_artifact(
        key="mlflow-run",
        link=outcome.mlflow_link,
        link_text=f"MLflow run {outcome.mlflow_run_id}",
        description=f"Recorded in `{shown(outcome.tracking_uri)}`; `make ui` shows a local one.",
    )
