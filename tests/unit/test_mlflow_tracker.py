"""Runs and notes in a real MLflow on SQLite, and what happens while its store fails."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from featherface.errors import FeatherFaceError, ModelError
from featherface.tracking.connection import configure, experiment_id, shown, tracking_uri
from featherface.tracking.download import download_model
from featherface.tracking.mlflow_tracker import MlflowTracker
from featherface.tracking.runs import (
    PROCESS,
    find_stage_run,
    log_cached_stage,
    mark_stage_run,
    reap_runs,
    start_pipeline_run,
    start_stage_run,
)
from featherface.tracking.tracker import Tracker
from featherface.turn import WorkspaceBusyError, workspace_turn


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    return str(client.create_run(experiment_id(client)).info.run_id)


class FailingClient:
    """A client whose calls fail while `is_down`, and are counted."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self.is_down = True
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self.is_down:
                raise MlflowException("no route to host", TEMPORARILY_UNAVAILABLE)
            return value(*args, **kwargs)

        return call


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def history(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]


def test_a_workspace_gets_a_database_and_a_place_for_artifacts(client: MlflowClient, tmp_path: Path) -> None:
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert mlflow.get_tracking_uri() == tracking_uri(tmp_path)
    experiment = client.get_experiment_by_name("featherface")
    assert experiment.artifact_location == (tmp_path / "mlartifacts").as_uri()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_configuring_twice_keeps_the_experiment_and_restores_a_deleted_one(
    client: MlflowClient, tmp_path: Path
) -> None:
    before = experiment_id(client)
    configure(tmp_path)
    client.delete_experiment(before)
    configure(tmp_path)
    assert experiment_id(client) == before
    assert client.get_experiment(before).lifecycle_stage == "active"


@pytest.mark.slow
def test_processes_that_start_together_lay_out_one_database(tmp_path: Path) -> None:
    script = """
import pathlib, sys, time
from featherface.tracking.connection import configure
root, number = pathlib.Path(sys.argv[1]), sys.argv[2]
(root / f"ready{number}").touch()
while not (root / "go").exists():
    time.sleep(0.001)
configure(root)
"""
    together = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(number)], stderr=subprocess.PIPE, text=True
        )
        for number in range(3)
    ]
    while len(list(tmp_path.glob("ready*"))) < len(together):
        assert all(process.poll() is None for process in together)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    said = [process.communicate(timeout=120)[1] for process in together]
    assert [process.returncode for process in together] == [0] * len(together), said


@pytest.mark.slow
def test_a_database_whose_making_was_cut_off_is_made_again(tmp_path: Path) -> None:
    script = """
import pathlib, sys
from featherface.tracking.connection import configure
configure(pathlib.Path(sys.argv[1]))
"""
    killed = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    while not list(tmp_path.glob(".mlflow.db.unfinished*")):
        assert killed.poll() is None
        time.sleep(0.001)
    time.sleep(0.2)  # in the middle of its tables
    killed.kill()
    killed.wait(30)
    assert not (tmp_path / "mlflow.db").exists()
    again = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert again.returncode == 0, again.stderr
    assert not list(tmp_path.glob(".mlflow.db.unfinished*"))


def test_two_workspaces_of_one_process_have_a_store_each(
    client: MlflowClient, empty_database: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    shutil.copyfile(empty_database, second / "mlflow.db")
    assert configure(second) == f"sqlite:///{second}/mlflow.db"
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_the_environment_names_another_store(
    client: MlflowClient, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.db"
    shutil.copyfile(empty_database, other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    assert configure(tmp_path / "workspace") == f"sqlite:///{other}"
    assert not (tmp_path / "workspace").exists()


def test_a_store_that_cannot_be_used_is_refused_in_one_line(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        FeatherFaceError, match=r"http://127\.0\.0\.1:9 cannot be used.*unset MLFLOW_TRACKING_URI"
    ):
        configure(tmp_path)


def test_a_workspace_that_was_deleted_and_made_anew_is_opened_anew(
    client: MlflowClient, empty_database: Path, tmp_path: Path
) -> None:
    client.create_run(experiment_id(client))
    (tmp_path / "mlflow.db").unlink()
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    anew = MlflowClient(configure(tmp_path))
    assert anew.search_runs([experiment_id(anew)]) == []
    run = anew.create_run(experiment_id(anew))
    assert [each.info.run_id for each in client.search_runs([experiment_id(client)])] == [run.info.run_id]


def test_a_damaged_database_is_refused_in_one_line(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = tmp_path / "mlflow.db"
    content = empty_database.read_bytes()
    database.write_bytes(content[:4096] + b"\x5a" * (len(content) - 4096))
    with pytest.raises(FeatherFaceError, match=r"cannot be used \(.*malformed\); bring mlflow\.db back"):
        configure(tmp_path)


@pytest.fixture
def moved(client: MlflowClient, empty_database: Path, tmp_path: Path) -> Path:
    """A workspace with a run and its file, that was made in another folder."""
    old = tmp_path / "old name"
    old.mkdir()
    shutil.copyfile(empty_database, old / "mlflow.db")
    there = MlflowClient(configure(old))
    run = there.create_run(experiment_id(there))
    there.log_text(run.info.run_id, "kept", "note.txt")
    return old.rename(tmp_path / "new name")


def note_of(root: Path) -> tuple[Path, str]:
    """Where the only run of a workspace keeps its file, and what is in it."""
    client = MlflowClient(configure(root))
    (run,) = client.search_runs([experiment_id(client)])
    path = Path(url2pathname(urlsplit(run.info.artifact_uri).path)) / "note.txt"
    return path, Path(client.download_artifacts(run.info.run_id, "note.txt")).read_text()


def test_a_workspace_that_was_moved_finds_its_files(
    moved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow keeps whole paths: it would find no model, and make the old folder anew for the next one."""
    path, text = note_of(moved)
    assert path.is_relative_to(moved)
    assert text == "kept"
    assert (
        f"{moved}/mlflow.db: was in {tmp_path}/old name; its runs and models are on record here"
        in caplog.text
    )
    assert not (tmp_path / "old name").exists()
    caplog.clear()
    configure(moved)
    with pytest.raises(ModelError, match="no registry"):
        download_model("models:/featherface@champion", root=tmp_path / "old name")
    assert not caplog.text, "it is said once"


def test_a_copy_has_its_own_files(moved: Path, tmp_path: Path) -> None:
    configure(moved)
    copy = Path(shutil.copytree(moved, tmp_path / "copy"))
    path, text = note_of(copy)
    assert path.is_relative_to(copy)
    assert text == "kept"
    assert note_of(moved)[0].is_relative_to(moved)


def test_a_database_that_was_moved_alone_is_refused(moved: Path, tmp_path: Path) -> None:
    old = tmp_path / "old name" / "mlartifacts"
    old.parent.mkdir()
    (moved / "mlartifacts").rename(old)
    with pytest.raises(FeatherFaceError, match=r"models are in .*old name/mlartifacts, which did not come"):
        configure(moved)


def test_a_workspace_that_was_moved_and_cannot_be_written_is_refused(moved: Path) -> None:
    with closing(sqlite3.connect(moved / "mlflow.db")) as database, database:
        database.execute(
            "CREATE TRIGGER frozen BEFORE UPDATE ON experiments BEGIN SELECT RAISE(ABORT, 'frozen'); END"
        )
    with pytest.raises(FeatherFaceError, match=r"was in .*old name and names files there; see that .*frozen"):
        configure(moved)
    with closing(sqlite3.connect(moved / "mlflow.db")) as database:
        (uri,) = database.execute("SELECT artifact_uri FROM runs").fetchone()
    assert "old%20name" in uri, "all of it or nothing"


def test_nothing_is_renamed_under_a_run_that_is_at_work(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may work by the other path: the host of a container that has the workspace mounted, say."""
    with workspace_turn(moved):
        with monkeypatch.context() as other_process:
            other_process.setattr(os, "getpid", lambda: 1)
            with pytest.raises(WorkspaceBusyError, match="at work here"):
                configure(moved)
        with closing(sqlite3.connect(moved / "mlflow.db")) as database:
            (uri,) = database.execute("SELECT artifact_uri FROM runs").fetchone()
        assert "old%20name" in uri
        configure(moved)  # the run itself
    assert note_of(moved)[0].is_relative_to(moved)


def test_artifacts_may_lie_where_a_link_leads_or_where_somebody_put_them(
    client: MlflowClient, moved: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "mlartifacts").symlink_to(tmp_path / "disk")
    before = client.get_experiment(experiment_id(client)).artifact_location
    configure(tmp_path)
    assert client.get_experiment(experiment_id(client)).artifact_location == before
    with closing(sqlite3.connect(moved / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = 's3://store/mlartifacts'")
    there = MlflowClient(configure(moved))
    assert there.get_experiment(experiment_id(there)).artifact_location == "s3://store/mlartifacts"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://admin:hunter2@127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://hunter2@mlflow.example.org/x@y", "https://mlflow.example.org/x@y"),
        (
            "http://127.0.0.1:5000/models/featherface@champion",
            "http://127.0.0.1:5000/models/featherface@champion",
        ),
        ("postgresql+psycopg://me:hun/te@r2@db/mlflow", "postgresql+psycopg://db/mlflow"),
        (
            "postgresql://db/mlflow?user=me&password=hunter2&a=b",
            "postgresql://db/mlflow?user=me&password=***&a=b",
        ),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("GET 'http://a:hunter2@b:1/c' and http://a:hunter2@d", "GET 'http://b:1/c' and http://d"),
    ],
)
def test_addresses_are_shown_without_users_and_passwords(address: str, expected: str) -> None:
    assert shown(address) == expected


def test_no_password_is_shown_when_a_store_cannot_be_used(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://admin:hunter2@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(FeatherFaceError, match=r"http://127\.0\.0\.1:9 cannot be used") as unusable:
        configure(tmp_path)
    away = MlflowClient("http://admin:hunter2@127.0.0.1:9")
    with (
        pytest.raises(FeatherFaceError, match="no run can be opened") as unopened,
        start_stage_run("distill", client=away),
    ):
        pass
    tracker = MlflowTracker(away, "0" * 32)
    tracker.log_metrics({"a": 1.0})
    tracker.close()
    assert "1 notes never reached http://127.0.0.1:9" in caplog.text
    assert "hunter2" not in f"{unusable.value} {unopened.value} {caplog.text}"


def test_a_stage_run_keeps_every_kind_of_note(client: MlflowClient, tmp_path: Path) -> None:
    folder = tmp_path / "sheets"
    folder.mkdir()
    (folder / "one.txt").write_text("1")
    with start_stage_run("distill", tags={"git.sha": "a" * 40}) as tracker:
        tracker.log_params({"train": {"lr": 0.01}, **{f"p{i}": i for i in range(150)}})
        for step in range(3):
            tracker.log_metric("train/loss", 1.0 / (step + 1), step=step)
        tracker.log_metrics({"val/ap_easy": 0.9, "val/ap_hard": 0.7}, step=2)
        tracker.log_artifact(folder)
        tracker.log_artifact(folder / "one.txt", "notes")
        tracker.log_dataset("synthetic", "0" * 32 + ".dir", "data")
        assert client.get_run(tracker.run_id).info.status == "RUNNING"

    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "distill"
    assert run.data.params["train.lr"] == "0.01"
    assert len(run.data.params) == 151
    assert history(client, tracker.run_id, "train/loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert run.data.metrics["val/ap_hard"] == 0.7
    assert run.data.tags["mlflow.source.git.commit"] == "a" * 40
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("synthetic", "0" * 32 + ".dir")
    kept = tmp_path / "mlartifacts" / tracker.run_id / "artifacts"
    assert (kept / "sheets" / "one.txt").read_text() == "1"
    assert (kept / "notes" / "one.txt").read_text() == "1"


def test_curves_are_delivered_in_batches_and_while_the_stage_runs(client: MlflowClient, run_id: str) -> None:
    counting, clock = FailingClient(client), Clock()
    counting.is_down = False
    tracker = MlflowTracker(counting, run_id, flush_interval_s=2.0, clock=clock)
    for step in range(500):
        tracker.log_metric("train/loss", float(step), step=step)
    assert counting.calls == ["log_batch"]
    assert history(client, run_id, "train/loss") == [(0, 0.0)]
    clock.now_s = 2.0
    tracker.log_metric("train/loss", 500.0, step=500)
    assert counting.calls == ["log_batch"] * 2
    assert len(history(client, run_id, "train/loss")) == 501


def test_more_points_than_one_call_takes_are_all_delivered(client: MlflowClient, run_id: str) -> None:
    tracker = MlflowTracker(client, run_id, clock=Clock())
    for step in range(2345):
        tracker.log_metric("train/loss", 1.0, step=step)
    tracker.close()
    assert [step for step, _ in history(client, run_id, "train/loss")] == list(range(2345))


def test_not_a_number_is_kept_as_a_point(client: MlflowClient, run_id: str) -> None:
    tracker = MlflowTracker(client, run_id)
    tracker.log_metrics({"train/loss": float("nan"), "train/grad_norm": float("inf")})
    tracker.close()
    metrics = client.get_run(run_id).data.metrics
    assert metrics["train/loss"] != metrics["train/loss"]
    assert metrics["train/grad_norm"] > 1e300


def test_a_failing_store_costs_one_warning_and_everything_arrives_later(
    client: MlflowClient, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing, clock = FailingClient(client), Clock()
    tracker = MlflowTracker(failing, run_id, flush_interval_s=0.0, retry_interval_s=30.0, clock=clock)
    tracker.log_params({"lr": 0.1})
    for step in range(100):
        tracker.log_metric("train/loss", float(step), step=step)
    (tmp_path / "report.md").write_text("text")
    tracker.log_artifact(tmp_path / "report.md")
    assert len(failing.calls) == 1, "a failing store is left alone for a while"
    clock.now_s = 31.0
    tracker.log_metric("train/loss", 100.0, step=100)
    assert len(failing.calls) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert tracker.num_waiting == 103

    failing.is_down = False
    clock.now_s = 62.0
    tracker.log_metric("train/loss", 101.0, step=101)
    assert tracker.num_waiting == 0
    assert len(history(client, run_id, "train/loss")) == 102
    assert client.get_run(run_id).data.params == {"lr": "0.1"}
    assert (tmp_path / "mlartifacts" / run_id / "artifacts" / "report.md").read_text() == "text"
    assert "answers again" in caplog.records[-1].message


def test_what_never_arrives_is_counted_when_the_run_ends(
    client: MlflowClient, run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker(FailingClient(client), run_id)
    tracker.log_metrics({"a": 1.0, "b": 2.0})
    tracker.close()
    assert "2 notes never reached" in caplog.records[-1].message


def test_a_refused_note_is_dropped_and_holds_up_no_other(
    client: MlflowClient, run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker(client, run_id)
    tracker.log_params({"lr": 0.1})
    tracker.log_params({"lr": 0.2})
    tracker.set_tags({"note": "after"})
    tracker.close()
    run = client.get_run(run_id)
    assert run.data.params == {"lr": "0.1"}
    assert run.data.tags["note"] == "after"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "were refused" in caplog.records[0].message


def test_mistakes_of_the_caller_are_raised_at_once(client: MlflowClient, run_id: str, tmp_path: Path) -> None:
    tracker: Tracker = MlflowTracker(client, run_id)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        tracker.log_artifact(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="1 to 36 characters is needed, got 37"):
        tracker.log_dataset("synthetic", "0" * 37, "data")


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED")],
)
@pytest.mark.parametrize("start", [lambda: start_stage_run("distill"), start_pipeline_run])
def test_a_run_that_is_broken_off_says_so(
    client: MlflowClient, start: Callable[[], Any], error: BaseException, status: str
) -> None:
    context = start()
    tracker = context.__enter__()
    tracker.log_metric("train/loss", 1.0)
    tracker.log_metric("train/loss", 2.0, step=1)
    assert not context.__exit__(type(error), error, None), "the error goes on to the caller"
    run = client.get_run(tracker.run_id)
    assert run.info.status == status
    assert run.info.end_time is not None
    assert run.data.metrics == {"train/loss": 2.0}


def test_a_stage_hangs_below_its_pipeline(client: MlflowClient) -> None:
    with (
        start_pipeline_run(name="retrain") as pipeline,
        start_stage_run("distill", parent_run_id=pipeline.run_id) as stage,
    ):
        pass
    tags = client.get_run(stage.run_id).data.tags
    assert tags["mlflow.parentRunId"] == pipeline.run_id
    assert client.get_run(pipeline.run_id).info.run_name == "retrain"


def test_a_resumed_run_goes_on_with_its_curve(client: MlflowClient) -> None:
    with start_stage_run("distill") as first:
        first.log_metric("train/loss", 2.0, step=0)
    with start_stage_run("distill", resume_run_id=first.run_id) as second:
        second.log_metric("train/loss", 1.0, step=1)
        assert client.get_run(second.run_id).info.status == "RUNNING"
    assert second.run_id == first.run_id
    assert history(client, first.run_id, "train/loss") == [(0, 2.0), (1, 1.0)]
    assert client.get_run(first.run_id).info.status == "FINISHED"


def test_only_the_run_of_the_same_stage_can_be_resumed(client: MlflowClient) -> None:
    with start_stage_run("distill") as tracker:
        pass
    with (
        pytest.raises(FeatherFaceError, match="is of distill, so evaluate cannot go on with it"),
        start_stage_run("evaluate", resume_run_id=tracker.run_id),
    ):
        pass


def test_a_stage_whose_run_is_gone_goes_on_in_a_new_one(
    client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    gone = "0" * 32
    with start_stage_run("distill", resume_run_id=gone) as tracker:
        tracker.log_metric("train/loss", 1.0, step=7)
    assert tracker.run_id != gone
    assert history(client, tracker.run_id, "train/loss") == [(7, 1.0)]
    assert f"run {gone} is not in {client.tracking_uri}: going on in a new run" in caplog.text


def test_a_skipped_stage_shows_up_with_the_numbers_of_the_run_that_made_it(client: MlflowClient) -> None:
    with start_pipeline_run() as pipeline:
        with start_stage_run("evaluate", parent_run_id=pipeline.run_id) as stage:
            stage.log_metrics({"val/ap_easy": 0.9, "val/ap_hard": 0.6})
        marked = mark_stage_run("evaluate", parent_run_id=pipeline.run_id, lock_md5="lock1")
    assert marked == stage.run_id

    with start_pipeline_run() as second:
        made_by = find_stage_run("evaluate", "lock1")
        cached = log_cached_stage("evaluate", parent_run_id=second.run_id, made_by_run_id=made_by)
    run = client.get_run(cached)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"val/ap_easy": 0.9, "val/ap_hard": 0.6}
    assert run.data.tags["featherface.cached"] == "true"
    assert run.data.tags["featherface.made_by"] == stage.run_id
    assert run.data.tags["mlflow.parentRunId"] == second.run_id
    assert find_stage_run("evaluate", "lock1") == stage.run_id, (
        "the one that worked, not the one that skipped"
    )


def test_no_run_is_found_for_another_lock_another_stage_or_a_failed_run(client: MlflowClient) -> None:
    with start_pipeline_run() as pipeline:
        with pytest.raises(RuntimeError), start_stage_run("export", parent_run_id=pipeline.run_id):
            raise RuntimeError
        assert mark_stage_run("export", parent_run_id=pipeline.run_id, lock_md5="lock1") is None
        with start_stage_run("export", parent_run_id=pipeline.run_id):
            pass
        mark_stage_run("export", parent_run_id=pipeline.run_id, lock_md5="lock1")
    assert find_stage_run("export", "lock1") is not None
    assert find_stage_run("export", "lock2") is None
    assert find_stage_run("evaluate", "lock1") is None


def test_a_skipped_stage_of_unknown_origin_has_no_numbers(client: MlflowClient) -> None:
    run = client.get_run(log_cached_stage("export", parent_run_id=None, made_by_run_id=None))
    assert run.data.tags["featherface.made_by"] == "unknown"
    assert run.data.metrics == {}


def test_runs_of_killed_processes_are_reaped_and_no_others(client: MlflowClient, tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from featherface.tracking.connection import configure;"
        "from featherface.tracking.runs import start_stage_run; configure(pathlib.Path(sys.argv[1]));"
        "run = start_stage_run('distill'); print(run.__enter__().run_id, flush=True); os._exit(137)"
    )
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=root, check=False
    )
    assert killed.returncode == 137, killed.stderr
    dead = killed.stdout.strip()
    elsewhere = client.create_run(experiment_id(client), tags={PROCESS: "another-host|1|1.00"}).info.run_id
    reborn = client.create_run(
        experiment_id(client), tags={PROCESS: f"{socket.gethostname()}|{os.getpid()}|1.00"}
    ).info.run_id
    with start_stage_run("evaluate") as alive:
        assert set(reap_runs()) == {dead, reborn}
        assert client.get_run(dead).info.status == "KILLED"
        assert client.get_run(elsewhere).info.status == "RUNNING"
        assert client.get_run(alive.run_id).info.status == "RUNNING"


def test_without_configuring_no_run_is_opened(empty_database: Path, tmp_path: Path) -> None:
    shutil.copyfile(empty_database, tmp_path / "bare.db")
    bare = MlflowClient(f"sqlite:///{tmp_path}/bare.db")
    with (
        pytest.raises(FeatherFaceError, match="experiment 'featherface' does not exist"),
        start_stage_run("distill", client=bare),
    ):
        pass


def test_laying_out_a_database_says_nothing(
    client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert logging.getLogger("alembic.runtime.migration").getEffectiveLevel() >= logging.WARNING
    assert logging.getLogger("mlflow.store.db.utils").getEffectiveLevel() >= logging.WARNING
    assert os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] == "true"
