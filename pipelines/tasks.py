"""The steps of the flow as Prefect tasks: reproduce a stage, register the student, judge and promote it."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task
from prefect.utilities.asyncutils import run_coro_as_sync

from featherface.config import Config, EvaluateConfig
from featherface.errors import FeatherFaceError
from featherface.evaluation.predictions import read_predictions, save_archive
from featherface.evaluation.run import evaluate_model_file
from featherface.stages import names
from featherface.stages.base import Workspace
from featherface.stages.tracked import FLOW_RUN_VARIABLE, PARENT_RUN_VARIABLE
from featherface.tracking import runs
from featherface.tracking.connection import PATIENCE
from featherface.tracking.download import download_model
from featherface.tracking.measurements import is_measured_anew
from featherface.tracking.moves import ChampionChangedError
from featherface.tracking.provenance import stage_lock_md5
from featherface.tracking.registry import ModelRegistry
from featherface.tracking.versions import FILE_MEAN_AP, MODEL_NAME, PENDING, PROMOTED, RegisteredVersion
from pipelines import dvc_commands
from pipelines.gate import Decision, judge
from pipelines.opponent import PREDICTIONS_FILE, gate_metrics, meet_champion, paired_difference
from pipelines.outcome import StageOutcome, WhatHappened
from pipelines.reproduction import recipe_of

logger = logging.getLogger(__name__)

RETRY_DELAYS_S = [5.0, 20.0]


def result_of(state: State[Any]) -> Any:
    """What a flow or task gave, or the error that it ended with, which is raised.

    `State.result` gives a coroutine where a loop of asyncio runs, as in a notebook.
    """
    return run_coro_as_sync(state.aresult())


def _is_worth_a_retry(_task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Bad input stays bad; a killed stage goes on from its checkpoint, a server may come back."""
    try:
        result_of(state)
    except FeatherFaceError:
        return False
    except Exception as error:  # noqa: BLE001 - whatever it was, it is asked only what kind it was
        logger.warning("%s is tried again: %s", run.name, error)
        return True
    return False


@task(
    name="reproduce",
    task_run_name="{stage}",
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=_is_worth_a_retry,
)
def reproduce(
    stage: str, root: Path, *, is_stale: bool, parent_run_id: str, flow_run_id: str
) -> StageOutcome:
    """Bring one stage up to date; one that is not stale shows up in MLflow, linked to the run that made it.

    Raises:
        FeatherFaceError: the stage refused its input.
        StageDiedError: it ended otherwise.
    """
    started = time.perf_counter()
    before = stage_lock_md5(root, stage) or ""
    if is_stale:
        links = {PARENT_RUN_VARIABLE: parent_run_id, FLOW_RUN_VARIABLE: flow_run_id}
        dvc_commands.reproduce(root, stage, {**PATIENCE, **links})
    lock_md5 = stage_lock_md5(root, stage) or ""
    # None also where DVC took the outputs from its cache: then no process of the stage ran.
    run_id = runs.mark_stage_run(stage, parent_run_id=parent_run_id, lock_md5=lock_md5) if is_stale else None
    if run_id is not None:
        happened: WhatHappened = "ran"
    else:
        happened = "nothing changed" if lock_md5 == before else "restored"
        made_by = runs.find_stage_run(stage, lock_md5)
        run_id = runs.log_cached_stage(stage, parent_run_id=parent_run_id, made_by_run_id=made_by)
    return StageOutcome(
        name=stage, what_happened=happened, seconds=time.perf_counter() - started, mlflow_run_id=run_id
    )


@task(name="register", retries=2, retry_delay_seconds=RETRY_DELAYS_S, retry_condition_fn=_is_worth_a_retry)
def register(root: Path, run_id: str, tags: dict[str, str]) -> tuple[str, bool]:
    """Register the exported student; a file that is registered already is not registered again.

    Where this run measured such a file anew, or by other rules, that is on record of its version from now on.

    Returns:
        The version, and whether it is new.
    """
    onnx_path = root / names.ONNX_FILE
    registry = ModelRegistry()
    known = registry.find_version_of(onnx_path)
    metrics = Workspace(root).read_json(names.REPORT_METRICS)["student"]
    if known is not None and not is_measured_anew(registry.get(known), metrics, tags):
        return known, False
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / PREDICTIONS_FILE
        save_archive(archive, read_predictions(root / names.PREDICTIONS))
        extras = {PREDICTIONS_FILE: archive, **recipe_of(root)}
        if known is None:
            return registry.register_student(
                run_id, onnx_path, metrics=metrics, tags=tags, extras=extras
            ), True
        logger.info("version %s is this file; what was measured anew is on its record now", known)
        registry.record_measurement(known, run_id, metrics=metrics, tags=tags, extras=extras)
    return known, False


@task(name="score-file", retries=2, retry_delay_seconds=RETRY_DELAYS_S, retry_condition_fn=_is_worth_a_retry)
def score_file(version: str, root: Path, settings: EvaluateConfig, data_root: Path) -> float:
    """Mean AP of the file that the registry hands out: what is judged is what is used; done once a version.

    Args:
        version: of the registry.
        root: the workspace.
        settings: as of the stage `evaluate`.
        data_root: the data set.
    """
    registry = ModelRegistry()
    known = registry.get(version).tags.get(FILE_MEAN_AP)
    if known is not None:
        return float(known)
    path = download_model(f"models:/{MODEL_NAME}/{version}", root=root)
    report = evaluate_model_file(str(path), data_root, settings=settings, coco=False)
    mean_ap = report.metrics()["val/ap_mean"]
    registry.record_file_score(version, mean_ap)
    return mean_ap


@task(
    name="judge-and-promote",
    retries=2,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=_is_worth_a_retry,
)
def judge_and_promote(version: str, root: Path, config: Config) -> Decision:
    """Compare a version with the champion, move the aliases if it passes, note the decision on it.

    A version that was rolled back, withdrawn or declined is rejected as it is: numbers that once led to its
    promotion would do so every night.

    Args:
        version: the challenger.
        root: the workspace; its data are those that the challenger was scored on.
        config: of the workspace: the limits, and how models are scored.
    """
    registry = ModelRegistry()
    while True:
        try:
            return _judge_once(registry, version, root, config)
        except ChampionChangedError:
            continue  # another promotion was faster: judge against its champion


def _judge_once(registry: ModelRegistry, version: str, root: Path, config: Config) -> Decision:
    champion, challenger = registry.current_champion(), registry.get(version)
    if challenger.verdict:
        # It keeps that status: noted as rejected, it would be judged and promoted the next time.
        by_hand = f"version {version} {challenger.verdict}; promote it by hand if it is wanted again"
        return Decision(promoted=False, reasons=(by_hand,))
    if champion is not None and champion.version == version:
        return _confirm_champion(registry, champion)
    decision = _compare(registry, challenger, champion, root, config)
    if decision.promoted:
        judged_against = champion.version if champion is not None else None
        registry.promote(version, decision.reasons, judged_against=judged_against)
    else:
        registry.record_rejection(version, decision.reasons)
    return decision


def _confirm_champion(registry: ModelRegistry, champion: RegisteredVersion) -> Decision:
    """Finish a promotion that broke off after the alias was moved; its reasons are on the version."""
    already = f"version {champion.version} is the champion already"
    if champion.status == PROMOTED:
        return Decision(promoted=True, reasons=(already,))
    reasons = champion.reasons if champion.status == PENDING else ()
    registry.promote(champion.version, reasons or (already,), judged_against=champion.version)
    return Decision(promoted=True, reasons=(f"{already}; its promotion, which broke off, is finished",))


def _compare(
    registry: ModelRegistry,
    challenger: RegisteredVersion,
    champion: RegisteredVersion | None,
    root: Path,
    config: Config,
) -> Decision:
    if champion is None:
        return judge(gate_metrics(challenger), None, config.promote)
    opponent = meet_champion(registry, champion, challenger, root=root, config=config)
    difference = paired_difference(registry, challenger, opponent, root / config.data.root)
    return judge(gate_metrics(challenger), opponent.metrics, config.promote, difference=difference)
