"""The whole pipeline through the command line, on a few drawn scenes: real Prefect, DVC and MLflow."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from tiny_workspace import FEATHERFACE, TINY, digest, environment, run_featherface

from featherface.config import Config, dump_config, load_config
from featherface.errors import DataError
from featherface.stages import STAGES, names
from featherface.tracking.runs import CACHED, KIND, MADE_BY, STAGE
from featherface.tracking.versions import CHAMPION, MODEL_NAME
from pipelines import dvc_commands
from pipelines.workspace import bring_data

pytestmark = [
    pytest.mark.timeout(1600),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


def set_promotion(root: Path, **limits: float) -> None:
    config = load_config(root / "params.yaml")
    changed = config.model_copy(update={"promote": config.promote.model_copy(update=limits)})
    (root / "params.yaml").write_text(dump_config(changed), encoding="utf-8")


def runs_of(root: Path) -> list[Run]:
    """Of pipelines and stages, oldest first; not the one that holds the copy of the ledger."""
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time ASC"])
    return [run for run in runs if KIND in run.data.tags]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    config = Config.model_validate(TINY)
    (folder / "params.yaml").write_text(dump_config(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def rejected(root: Path) -> subprocess.CompletedProcess[str]:
    """The first run: everything is made, and the gate asks for more than a tiny training can give."""
    return run_featherface("pipeline", "--root", str(root), root=root)


@pytest.fixture(scope="module")
def promoted(root: Path, rejected: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The second run: nothing changed but the gate, which no stage reads."""
    assert rejected.returncode == 0, rejected.stderr
    set_promotion(root, min_mean_ap=0.0)
    return run_featherface("pipeline", "--root", str(root), root=root)


def test_first_run_makes_everything_and_the_gate_rejects(
    root: Path, rejected: subprocess.CompletedProcess[str]
) -> None:
    assert rejected.returncode == 0, rejected.stderr
    assert "rejected" in rejected.stdout
    assert "champion: version none" in rejected.stdout
    for stage in STAGES.values():
        for output in stage.outputs:
            assert (root / output.path).exists(), output.path
    assert f"{244_999:,}" >= f"{json.loads((root / names.STUDENT_METRICS).read_text())['model/params']:,}"


def test_first_run_is_a_parent_with_a_child_for_each_stage(
    root: Path, rejected: subprocess.CompletedProcess[str]
) -> None:
    assert rejected.returncode == 0, rejected.stderr
    parent, *children = runs_of(root)[: 1 + len(STAGES)]
    assert [child.data.tags[STAGE] for child in children] == list(STAGES)
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    distill = children[list(STAGES).index("distill")]
    assert parent.data.params["distill.train.epochs"] == "2"
    assert distill.data.params["model.architecture"] == "v2-ultra"
    assert {"train/loss", "model/params", "sys/peak_memory_mib"} <= set(distill.data.metrics)
    assert {"val/ap_easy", "val/ap_medium", "val/ap_hard", "val/ap_mean", "model/params"} <= set(
        parent.data.metrics
    )
    for tag in (
        "git.sha",
        "git.dirty",
        "dvc.data.md5",
        "dvc.lock.md5",
        "params.sha256",
        "prefect.flow_run_id",
    ):
        assert parent.data.tags[tag], tag
    assert [dataset.dataset.digest for dataset in distill.inputs.dataset_inputs] == [
        parent.data.tags["dvc.data.md5"]
    ]


def test_prefect_links_to_the_run_in_mlflow(root: Path, rejected: subprocess.CompletedProcess[str]) -> None:
    assert rejected.returncode == 0, rejected.stderr
    parent = runs_of(root)[0]
    with contextlib.closing(sqlite3.connect(root / ".prefect/prefect.db")) as database:
        artifacts = dict(database.execute("SELECT key, data FROM artifact ORDER BY created DESC"))
    assert artifacts.keys() == {"pipeline-metrics", "promotion", "mlflow-run"}
    assert f"http://127.0.0.1:5000/#/runs/{parent.info.run_id}" in artifacts["mlflow-run"]


def test_second_run_trains_nothing_and_promotes(
    root: Path, promoted: subprocess.CompletedProcess[str]
) -> None:
    assert promoted.returncode == 0, promoted.stderr
    assert "nothing was trained" in promoted.stdout
    assert "champion: version 1" in promoted.stdout
    made = runs_of(root)[1 : 1 + len(STAGES)]
    cached = runs_of(root)[2 + len(STAGES) :]
    assert {run.data.tags[CACHED] for run in cached} == {"true"}
    assert [run.data.tags[MADE_BY] for run in cached] == [run.info.run_id for run in made]
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    assert str(client.get_registered_model(MODEL_NAME).aliases[CHAMPION]) == "1"


def test_champion_detects(root: Path, promoted: subprocess.CompletedProcess[str]) -> None:
    assert promoted.returncode == 0, promoted.stderr
    image = next((root / "data/WIDER_val/images").rglob("*.jpg"))
    done = run_featherface(
        "detect", str(image), "--model", "models:/featherface@champion", "--json", "--save", "out", root=root
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    assert {result["width"], result["height"]} == {120, 160}
    assert (root / "out" / image.name).is_file()


@pytest.mark.slow
def test_command_line_and_flow_write_equal_weights(
    root: Path, promoted: subprocess.CompletedProcess[str]
) -> None:
    assert promoted.returncode == 0, promoted.stderr
    files = (root / names.DISTILLED_WEIGHTS, root / names.STUDENT_WEIGHTS)
    before = [digest(path) for path in files]
    for stage in ("distill", "rescore"):
        done = run_featherface("run", stage, root=root)
        assert done.returncode == 0, done.stderr
    assert [digest(path) for path in files] == before


# Among the default tests a process of the training loop is killed: test_training_loop.
@pytest.mark.slow
def test_killed_stage_goes_on_and_ends_equal(root: Path, promoted: subprocess.CompletedProcess[str]) -> None:
    assert promoted.returncode == 0, promoted.stderr
    before = digest(root / names.DISTILLED_WEIGHTS)
    checkpoint = root / "state/distill/checkpoint.pt"
    process = subprocess.Popen(
        [*FEATHERFACE, "run", "distill"], cwd=root, stderr=subprocess.PIPE, env=environment()
    )
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert checkpoint.exists(), "the stage ended before it could be killed"
    killed_run = (root / "state/distill/run_id").read_text(encoding="utf-8")
    done = run_featherface("run", "distill", root=root)
    assert done.returncode == 0, done.stderr
    assert "going on from" in done.stderr
    assert digest(root / names.DISTILLED_WEIGHTS) == before
    assert (root / "state/distill/run_id").read_text(encoding="utf-8") == killed_run


@pytest.mark.slow
def test_a_student_from_a_bare_machine_takes_the_place_of_the_one_made_here(
    root: Path, promoted: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    """The same student comes back, so the pipeline has nothing to do: DVC and MLflow take it as their own."""
    assert promoted.returncode == 0, promoted.stderr
    before = digest(root / names.DISTILLED_WEIGHTS)
    bundle, out = str(tmp_path / "bundle"), str(tmp_path / "out")
    packed = run_featherface("bundle", "pack", bundle, root=root)
    assert packed.returncode == 0, packed.stderr
    subprocess.run(
        [sys.executable, "-m", "featherface.bundles.train", bundle, out],
        check=True,
        timeout=200,
        env=environment(),
    )
    (root / names.DISTILLED_WEIGHTS).unlink()
    collected = run_featherface("bundle", "collect", out, root=root)
    assert collected.returncode == 0, collected.stderr
    assert digest(root / names.DISTILLED_WEIGHTS) == before
    assert dvc_commands.stale_stages(root) == set()
    again = run_featherface("pipeline", "--root", str(root), root=root)
    assert "nothing was trained" in again.stdout
    newest = [run for run in runs_of(root) if run.data.tags.get(STAGE) == "distill"][-2:]
    assert newest[-1].data.tags[MADE_BY] == newest[0].info.run_id
    assert "featherface.trained_with" in newest[0].data.tags


def test_changed_data_stops_the_pipeline_with_the_recorded_version(
    root: Path, promoted: subprocess.CompletedProcess[str]
) -> None:
    assert promoted.returncode == 0, promoted.stderr
    extra = root / "data/WIDER_val/images/stray.txt"
    extra.write_text("not of this version", encoding="utf-8")
    done = run_featherface("pipeline", "--root", str(root), root=root)
    extra.unlink()
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is not the version" in done.stderr
    assert "dvc add data" in done.stderr


def test_data_that_was_removed_comes_back_from_the_cache(
    root: Path, promoted: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert promoted.returncode == 0, promoted.stderr
    (root / "data").rename(tmp_path / "moved-away")
    bring_data(root, load_config(root / "params.yaml"), source=None)
    assert len(list((root / "data/WIDER_train/images").rglob("*.jpg"))) == 8


@pytest.mark.slow
def test_another_folder_pulls_data_and_models_from_a_remote(
    root: Path, promoted: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert promoted.returncode == 0, promoted.stderr
    remote, clone = tmp_path / "remote", tmp_path / "clone"
    dvc_commands.run_dvc(root, "remote", "add", "--force", "--default", "folder", str(remote))
    dvc_commands.run_dvc(root, "push")
    clone.mkdir()
    for name in ("data.dvc", "dvc.yaml", "dvc.lock", "params.yaml"):
        (clone / name).write_bytes((root / name).read_bytes())
    dvc_commands.initialize(clone)
    dvc_commands.run_dvc(clone, "remote", "add", "--default", "folder", str(remote))
    bring_data(clone, load_config(clone / "params.yaml"), source=None)
    assert len(list((clone / "data/WIDER_train/images").rglob("*.jpg"))) == 8
    dvc_commands.run_dvc(clone, "pull")
    assert digest(clone / names.ONNX_FILE) == digest(root / names.ONNX_FILE)
    assert dvc_commands.stale_stages(clone) == set()


def test_data_of_another_version_than_recorded_is_refused_with_both_hashes(tmp_path: Path) -> None:
    config = Config.model_validate(TINY)
    recorded = f"{'0' * 32}.dir"
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {recorded}\n  path: data\n", encoding="utf-8")
    dvc_commands.initialize(tmp_path)
    with pytest.raises(DataError, match=rf"has the version [0-9a-f]{{32}}\.dir, but .* records {recorded}"):
        bring_data(tmp_path, config, source=None)
    assert recorded in (tmp_path / "data.dvc").read_text(encoding="utf-8")


def test_workspace_of_another_profile_is_refused(root: Path) -> None:
    done = run_featherface("pipeline", "--profile", "widerface", "--root", str(root), root=root)
    assert done.returncode == 2
    assert "data.source is 'synthetic', asked for profile 'widerface'" in done.stderr
