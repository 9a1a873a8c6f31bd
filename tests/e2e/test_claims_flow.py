"""A ledger of two cells on drawn scenes: trained, killed, gone on with, on clusters, with data by version."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from mlflow import MlflowClient
from tiny_workspace import FEATHERFACE, digest, environment, run_featherface

from featherface.data.synthetic import synthesize_dataset
from featherface.inference.weights import save_weights
from featherface.models.build import build_model
from featherface.yaml_files import to_yaml
from pipelines import dvc_commands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TRAINING = {"image_size_px": 64, "batch_size": 4, "num_threads": 1, "num_processes": 1}
LEDGER = {
    "document": "A document",
    "budgets": {
        "small": {
            "epochs": 3,
            "seeds": [1, 2],
            "common": {
                "evaluate.num_threads": 1,
                **{f"distill.train.{name}": value for name, value in TRAINING.items()},
            },
        }
    },
    "cells": {
        "none": {"distill.enabled": False, "model.innovations": []},
        "one": {"distill.enabled": False, "model.innovations": ["dynamic_weight_sharing"]},
    },
    "gains": {
        "sharing": {"claim": "+9", "where": "line 1", "points": 9.0, "contrast": {"one": 1, "none": -1}}
    },
    "models": {
        "student": {
            "claim": "better", "where": "line 2", "points": 3.5, "model": "shipped", "against": "teacher",
        }
    },
    "counts": {
        "all": {
            "claim": "few", "where": "line 3", "architecture": "v2-ultra", "at_least": 1, "at_most": 244999,
        }
    },
    "measure_costs": False,
    "development": {"fraction": 0.4, "image_size": 160, "scale": 1.0},
}  # fmt: skip
LABELS = ["none-seed1", "none-seed2", "one-seed1", "one-seed2"]


def make_project(folder: Path) -> Path:
    """A folder with a ledger, a teacher, and data under DVC with a remote."""
    (folder / "claims.yaml").write_text(to_yaml(LEDGER))
    torch.manual_seed(0)
    save_weights(folder / "teacher.safetensors", build_model("v1"), architecture="v1")
    (folder / "params.yaml").write_text("{}\n")
    synthesize_dataset(folder / "data", num_train=10, num_val=4, image_hw=(120, 160), seed=3)
    dvc_commands.initialize(folder)
    pushed = run_featherface("data", "push", "--remote", str(folder / "remote"), root=folder)
    assert pushed.returncode == 0, pushed.stderr
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("template"))


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A project of its own; its remote is the template's, as it is for all who clone one."""
    return Path(shutil.copytree(template, tmp_path, dirs_exist_ok=True))


@pytest.fixture(scope="module")
def finished(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose ledger was answered on this machine, and nothing happened; what it printed is kept."""
    root = Path(shutil.copytree(template, tmp_path_factory.mktemp("finished"), dirs_exist_ok=True))
    done = run_featherface(*arguments(), root=root)
    assert done.returncode == 0, done.stderr
    (root / "printed.txt").write_text(done.stdout)
    return root


def arguments(data: Path | str = "data", *options: str) -> list[str]:
    return ["claims", "--data", str(data), "--teacher", "teacher.safetensors", "--workers", "2", *options]


def results(project: Path) -> Path:
    return project / "trials" / "claims-small"


def metrics(project: Path) -> dict[str, dict[str, float]]:
    """What each training came to, its duration among it."""
    folder = results(project)
    return {label: json.loads((folder / label / "result.json").read_text())["metrics"] for label in LABELS}


def students(folder: Path) -> list[str]:
    return [digest(folder / label / "student.safetensors") for label in LABELS]


def test_every_claim_gets_an_answer_and_nothing_is_trained_twice(finished: Path) -> None:
    project, folder = finished, results(finished)
    answers = {each["name"]: each for each in json.loads((folder / "claims.json").read_text())["answers"]}
    assert answers["sharing"]["replication"]["num_seeds"] == 2
    assert answers["student"]["verdict"] in {"supported", "refuted", "inconclusive"}
    assert answers["all"]["verdict"] == "supported"
    assert "| one |" in (project / "printed.txt").read_text()
    before = metrics(project)
    second = run_featherface(*arguments(), root=project)
    assert second.returncode == 0, second.stderr
    assert metrics(project) == before, "with its seconds: a training that was repeated would take others"

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("featherface")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    below = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert sorted(run.info.run_name for run in below) == [f"claims/{label}" for label in LABELS]
    assert len({run.data.tags["mlflow.parentRunId"] for run in below}) == len(runs) - len(below) == 1
    for run in below:
        label = run.info.run_name.removeprefix("claims/")
        assert run.data.metrics["dev/ap_mean"] == before[label]["dev/ap_mean"]
        assert run.data.metrics["val/images"] == 4


def test_killed_it_goes_on_and_comes_to_the_same(project: Path, finished: Path) -> None:
    process = psutil.Popen(
        [*FEATHERFACE, *arguments("data", "--out", "killed")],
        cwd=project, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    folder = project / "killed"
    while not list(folder.glob("*/result.json")):
        assert process.poll() is None, "it must not end before it is killed"
        time.sleep(0.05)
    members = [process, *process.children(recursive=True)]
    for member in members:
        with suppress(psutil.NoSuchProcess):  # some end by themselves when the flow has
            member.send_signal(signal.SIGKILL)
    psutil.wait_procs(members, timeout=10)
    gone_on = run_featherface(*arguments("data", "--out", "killed"), root=project)
    assert gone_on.returncode == 0, gone_on.stderr
    assert students(folder) == students(results(finished))
    answers = [
        json.loads((each / "claims.json").read_text())["answers"] for each in (folder, results(finished))
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("number", "reaches_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["ctrl-c", "kill"]
)
def test_stopped_politely_it_waits_for_no_training(
    project: Path, number: signal.Signals, *, reaches_all: bool
) -> None:
    log = project / "log"
    with log.open("w") as errors:
        process = psutil.Popen(
            [*FEATHERFACE, *arguments()], cwd=project, env=environment(), stderr=errors,
            stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        while not list(results(project).glob("*/checkpoint.pt")):
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        members = process.children(recursive=True)
        (os.killpg if reaches_all else os.kill)(process.pid, number)
        assert process.wait(timeout=60) == 128 + number
    assert psutil.wait_procs(members, timeout=20)[1] == []
    said = [line for line in log.read_text().splitlines() if not line.startswith(("4 trainings", "epoch "))]
    assert said == ["featherface: stopped; run the same command again to go on"]


def test_two_at_once_do_not_spoil_each_other(project: Path) -> None:
    both = [
        subprocess.Popen(
            [*FEATHERFACE, *arguments()], cwd=project, env=environment(), text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=400)[1] for process in both]
    # One may be told that the other trains a cell; what it has done is kept.
    assert 0 in [process.returncode for process in both], said
    for process, words in zip(both, said, strict=True):
        assert process.returncode == 0 or "another run is at work here" in words
    after = run_featherface(*arguments(), root=project)
    assert after.returncode == 0, after.stderr
    assert len(metrics(project)) == len(LABELS)


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_cluster_comes_to_the_same(project: Path, finished: Path, runner: str) -> None:
    pytest.importorskip(f"prefect_{runner}")
    done = run_featherface(*arguments("data", "--runner", runner), root=project)
    assert done.returncode == 0, done.stderr
    assert students(results(project)) == students(results(finished))


def test_a_machine_without_the_photographs_pulls_their_version(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.data_sources import describe_data, local_data

    monkeypatch.setenv("FEATHERFACE_DATA_CACHE", str(project / "cache"))
    source = describe_data(project / "data")
    assert local_data(source) == project / "data"
    shutil.move(project / "data", project / "elsewhere")
    pulled = local_data(source)
    assert source.version in str(pulled)
    names = [
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        for folder in (pulled, project / "elsewhere")
    ]
    assert names[0] == names[1]
    assert local_data(source) == pulled
