"""A stage and its run in a real MLflow store."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from featherface.config import Config, dump_config
from featherface.data.widerface import annotation_path
from featherface.stages import names
from featherface.stages.base import CHECKPOINT_FILE, Stage, StageResult, Workspace
from featherface.stages.tracked import PARENT_RUN_VARIABLE, last_run_id, num_processes_of, run_tracked
from featherface.tracking.connection import PATIENCE

Perform = Callable[[Config, Workspace], StageResult]
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


@pytest.mark.parametrize("is_in_flow", [True, False])
def test_a_stage_of_a_flow_waits_for_a_server_until_its_run_is_open_and_no_longer(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_in_flow: bool
) -> None:
    (tmp_path / "params.yaml").write_text(dump_config(Config()), encoding="utf-8")
    for name, value in PATIENCE.items():
        monkeypatch.setenv(name, value)
    if is_in_flow:
        flow = client.create_run(client.search_experiments()[0].experiment_id)
        monkeypatch.setenv(PARENT_RUN_VARIABLE, flow.info.run_id)
    retries: dict[str, str] = {}

    def noting(call: str) -> None:
        actual = getattr(MlflowClient, call)

        def note(*args: Any, **kwargs: Any) -> Any:
            retries[call] = os.environ[RETRIES]
            return actual(*args, **kwargs)

        monkeypatch.setattr(MlflowClient, call, note)

    def perform(_: Config, workspace: Workspace) -> StageResult:
        workspace.tracker.log_metrics({"a": 1.0})
        return StageResult({})

    for call in ("get_experiment_by_name", "create_run", "log_batch"):
        noting(call)
    run_tracked("report", tmp_path, perform=perform)
    patient = "7" if is_in_flow else "2"
    assert retries == {"get_experiment_by_name": patient, "create_run": patient, "log_batch": "2"}


@pytest.mark.usefixtures("client")
def test_a_killed_stage_goes_on_in_its_run_if_it_computes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_params(lr: float) -> None:
        config = Config.model_validate({"distill": {"train": {"lr": lr}}})
        (tmp_path / "params.yaml").write_text(dump_config(config), encoding="utf-8")

    def killed(_: Config, workspace: Workspace) -> StageResult:
        (workspace.state_dir("distill") / CHECKPOINT_FILE).write_bytes(b"some steps")
        raise KeyboardInterrupt

    def start(*, perform: Perform = killed, elsewhere: bool = False) -> str:
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(Stage, "run", lambda _, config, workspace: perform(config, workspace))
            run_tracked("distill", tmp_path, perform=perform if elsewhere else None)
        run_id = last_run_id(tmp_path, "distill")
        assert run_id is not None
        return run_id

    teacher = Workspace(tmp_path).path(names.TEACHER_WEIGHTS)
    teacher.write_bytes(b"one teacher")
    write_params(0.002)
    first = start()
    assert start() == first
    write_params(0.0007)
    second = start()
    assert second != first
    teacher.write_bytes(b"another one")
    third = start()
    assert third not in (first, second)
    annotations = annotation_path(tmp_path / "data", "train")
    annotations.parent.mkdir(parents=True)
    annotations.write_text("other faces, which data.dvc does not know of")
    fourth = start()
    assert fourth not in (first, second, third), "its checkpoint does not count any more"
    assert start(elsewhere=True) != fourth  # its curves come from another machine
    ended = start(perform=lambda _config, _workspace: StageResult())
    assert start() != ended


@pytest.mark.parametrize(
    ("stage", "distill", "number"),
    [
        ("distill", {}, 2),
        ("distill", {"initial_weights": "a.safetensors", "keep_initial_weights": True}, 1),
        ("rescore", {}, 1),
    ],
    ids=["trains", "keeps", "other"],
)
def test_only_what_trains_is_started_in_several_processes(
    tmp_path: Path, stage: str, distill: dict[str, Any], number: int
) -> None:
    config = Config.model_validate({"distill": {"train": {"num_processes": 2}, **distill}})
    (tmp_path / "params.yaml").write_text(dump_config(config), encoding="utf-8")
    assert num_processes_of(stage, tmp_path) == number
