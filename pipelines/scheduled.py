"""Flows that schedules, events and people start on a server: what `prefect.yaml` deploys.

Each does what a command does, through the same functions, and ends in a state whose name and message say what
came of it: `Skipped` where there was nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.states import Completed, Failed

from featherface.config import Config, load_config
from featherface.evaluation.run import evaluate_model_file, judging_by
from featherface.stages.base import PARAMS_FILE
from featherface.tracking.connection import configure, patient_client
from featherface.tracking.download import download_model
from featherface.tracking.provenance import DATA_MD5, data_md5, provenance_tags
from featherface.tracking.registry import ModelRegistry
from featherface.tracking.runs import start_pipeline_run
from featherface.tracking.versions import JUDGED_BY, MODEL_NAME
from featherface.turn import WorkspaceBusyError, workspace_turn
from pipelines.flows import retrain_and_judge
from pipelines.workspace import prepare_workspace

APPROVAL_S = 7 * 24 * 3600
_MEAN_AP = "val/ap_mean"


class Approval(RunInput):
    """What a person answers."""

    approved: bool
    approver: str
    remark: str = ""


@flow(name="retrain", persist_result=False)
def retrain(
    root: str = ".",
    profile: str = "synthetic",
    data: str | None = None,
    teacher: str | None = None,
    settings: dict[str, Any] | None = None,
) -> State[Any]:
    """Bring a workspace up to date: train, score, register, judge; as `featherface pipeline` does.

    Args:
        root: the workspace; a new folder becomes one.
        profile: `synthetic` or `widerface`.
        data: photographs to import into a new workspace.
        teacher: published weights, for a new workspace.
        settings: values of a new workspace that differ from the profile's, by dotted key.
    """
    folder = Path(root).resolve()
    try:
        # Nobody waits for it, so a server that is away for a minute may come back.
        with workspace_turn(folder), patient_client():
            prepare_workspace(
                folder,
                profile=profile,
                data=None if data is None else Path(data),
                teacher=None if teacher is None else Path(teacher),
                settings=settings,
            )
            state = retrain_and_judge(folder, return_state=True)
    except WorkspaceBusyError as error:
        return Completed(name="Skipped", message=str(error))
    # As a new state: the other flow's own would be summed up as "all states completed".
    return State(type=state.type, name=state.name, message=state.message)


@flow(name="reevaluate-champion", persist_result=False)
def reevaluate_champion(root: str = ".", max_ap_difference: float = 0.001) -> State[Any]:
    """Judge the champion's file again on the workspace's data, and compare with what is recorded of it.

    Fails where the same data give another mean AP: then the file, the data or the machine is not what it was.

    Args:
        root: the workspace.
        max_ap_difference: in [0, 1]; what rounding may do.
    """
    folder = Path(root).resolve()
    config = load_config(folder / PARAMS_FILE)
    try:
        # Data that change while they are looked at would be taken for a champion that changed.
        with workspace_turn(folder), patient_client():
            return _judge_champion(folder, config, max_ap_difference)
    except WorkspaceBusyError as error:
        return Completed(name="Skipped", message=str(error))


def _judge_champion(folder: Path, config: Config, max_ap_difference: float) -> State[Any]:
    configure(folder)
    champion = ModelRegistry().current_champion()
    if champion is None:
        return Completed(name="Skipped", message="there is no champion yet")
    onnx_path = download_model(f"models:/{MODEL_NAME}/{champion.version}", root=folder)
    metrics = evaluate_model_file(
        str(onnx_path), folder / config.data.root, settings=config.evaluate
    ).metrics()
    with start_pipeline_run(
        name=f"reevaluate-v{champion.version}",
        tags=provenance_tags(folder) | {"model.version": champion.version},
    ) as tracker:
        tracker.log_metrics(metrics)
    now, then = metrics[_MEAN_AP], champion.metrics.get(_MEAN_AP)
    if then is None:
        return Completed(message=f"version {champion.version}: mean AP {100 * now:.2f}, none on record")
    words = f"version {champion.version}: mean AP {100 * now:.2f}, on record {100 * then:.2f}"
    if champion.tags.get(DATA_MD5) != data_md5(folder):
        return Completed(message=f"{words}, but of another version of the data")
    if champion.tags.get(JUDGED_BY) != judging_by(config.evaluate):
        return Completed(message=f"{words}, but by other thresholds, image size or votes")
    if abs(now - then) > max_ap_difference:
        return Failed(message=f"{words}: the file, the data or the machine changed")
    return Completed(message=words)


@flow(name="promote-by-hand", persist_result=False)
def promote_by_hand(
    version: str, reason: str, root: str = ".", needs_approval: bool = True, approval_s: int = APPROVAL_S
) -> State[Any]:
    """Make a version the champion, after somebody has looked at it.

    Args:
        version: its number.
        reason: for the ledger.
        root: the workspace whose registry is meant, where `MLFLOW_TRACKING_URI` names none.
        needs_approval: pause until a person answers on the page of the run.
        approval_s: how long to wait for that, in seconds.
    """
    configure(Path(root).resolve())
    registry = ModelRegistry()
    candidate, champion = registry.get(version), registry.current_champion()
    reasons = [reason]
    if needs_approval:
        question = (
            f"Version {version}: mean AP {_percent(candidate.metrics)}. Champion: "
            f"{'none' if champion is None else f'version {champion.version}, {_percent(champion.metrics)}'}. "
            f"Reason: {reason}"
        )
        answer = pause_flow_run(
            wait_for_input=Approval.with_initial_data(description=question, approved=False, approver=""),
            timeout=approval_s,
        )
        said = f"by {answer.approver or 'somebody'}{f': {answer.remark}' if answer.remark else ''}"
        if not answer.approved:
            registry.record_decline(version, said)
            return Completed(name="Declined", message=f"version {version} was declined {said}")
        reasons.append(f"approved {said}")
    registry.promote(
        version, tuple(reasons), judged_against=champion.version if champion is not None else None
    )
    return Completed(message=f"version {version} is the champion")


def _percent(metrics: Mapping[str, float]) -> str:
    return f"{100 * metrics[_MEAN_AP]:.2f}" if _MEAN_AP in metrics else "unknown"
