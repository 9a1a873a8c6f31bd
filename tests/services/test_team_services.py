"""What a team relies on, against the real services: schedules, stores, passwords, and what if one dies."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path

import boto3
import httpx
import psutil
import pytest
from botocore.exceptions import ClientError
from team_helpers import Prefect, featherface, until

from featherface.stages import STAGES
from pipelines.team.s3 import s3_client
from pipelines.team.services import running
from pipelines.team.settings import DVC_BUCKET, MLFLOW_BUCKET, MLFLOW_USER, Team

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
REMOTE = "s3://dvc/team"
SERVICES = ("postgres", "s3-monitor", "s3-manager", "s3-storage", "s3-gateway", "mlflow", "prefect", "worker")


def processes(team: Team) -> dict[str, int]:
    found = {name: running(name, team.path("run")) for name in SERVICES}
    return {name: process.pid for name, process in found.items() if process is not None}


def ask_mlflow(team: Team, path: str, password: str | None = None, **headers: str) -> httpx.Response:
    secret = base64.b64encode(f"{MLFLOW_USER}:{password or team.passwords.mlflow}".encode()).decode()
    return httpx.get(
        f"{team.mlflow_url}{path}", headers={"Authorization": f"Basic {secret}", **headers}, timeout=20
    )


def metric_of_champion(team: Team, root: Path) -> str:
    """What `registry list` says of the champion."""
    listed = featherface(team, "registry", "list", "--root", str(root))
    assert listed.returncode == 0, listed.stderr
    return next(line for line in listed.stdout.splitlines() if "champion" in line)


@pytest.fixture(scope="module")
def first_run(team: Team, prefect: Prefect) -> str:
    """A retraining that the worker did."""
    run_id = prefect.start("nightly")
    run = prefect.wait(run_id)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    return run_id


def test_up_twice_is_harmless(team: Team) -> None:
    before = processes(team)
    assert set(before) == set(SERVICES)
    again = featherface(team, "team", "up", "--folder", str(team.folder))
    assert again.returncode == 0, again.stderr
    assert processes(team) == before
    assert featherface(team, "team", "status", "--folder", str(team.folder)).returncode == 0


def test_a_clock_makes_runs_at_its_local_time(prefect: Prefect) -> None:
    """With SQLAlchemy 2.1 or a newer FastAPI it silently makes none."""
    deployment = prefect.deployment("nightly")["id"]
    planned = until(
        lambda: prefect.post("/flow_runs/filter", flow_runs={
            "deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": ["SCHEDULED"]}}}),
        60,
    )  # fmt: skip
    assert len(planned) >= 2
    hours = {run["expected_start_time"][11:16] for run in planned}
    assert hours <= {"00:30", "01:30"}, "02:30 in Berlin, summer or winter"


def test_the_worker_runs_every_stage_and_names_a_champion(
    team: Team, prefect: Prefect, first_run: str
) -> None:
    tasks = prefect.tasks(first_run)
    assert {name: tasks.get(name) for name in STAGES} == dict.fromkeys(STAGES, "COMPLETED")
    assert "champion" in metric_of_champion(team, team.workspace)
    assert not (team.workspace / "mlflow.db").exists(), "runs belong to the server"
    stored = s3_client(team).list_objects_v2(Bucket=MLFLOW_BUCKET)["Contents"]
    assert any(entry["Key"].endswith("featherface.onnx") for entry in stored)


def test_a_night_without_news_takes_seconds(prefect: Prefect, first_run: str) -> None:
    run = prefect.wait(prefect.start("nightly"))
    assert run["state_type"] == "COMPLETED"
    assert run["state"]["message"] == "version 1 is the champion"
    assert run["total_run_time"] < 60


def test_the_champion_is_judged_again(prefect: Prefect, first_run: str) -> None:
    run = prefect.wait(prefect.start("weekly"))
    assert (run["state_name"], run["state"]["message"][:11]) == ("Completed", "version 1: ")


def test_a_promotion_waits_for_a_person(team: Team, prefect: Prefect, first_run: str) -> None:
    run_id = prefect.start("by-hand", version="1", reason="a test")
    until(lambda: prefect.run(run_id)["state_type"] == "PAUSED", 120)
    answer = {"approved": False, "approver": "Ada", "remark": "not yet"}
    prefect.post(f"/flow_runs/{run_id}/resume", run_input=answer)
    run = prefect.wait(run_id)
    assert run["state_name"] == "Declined"
    assert run["state"]["message"] == "version 1 was declined by Ada: not yet"


def test_passwords_and_names_are_asked_for(team: Team) -> None:
    listing = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert ask_mlflow(team, listing).status_code == 200
    assert ask_mlflow(team, listing, password="wrong").status_code == 401
    assert httpx.get(f"{team.mlflow_url}{listing}", timeout=20).status_code == 401
    assert ask_mlflow(team, listing, Host="elsewhere.example").status_code == 403
    stranger = boto3.client(
        "s3", endpoint_url=team.s3_url, region_name="us-east-1",
        aws_access_key_id=team.passwords.s3_access_key, aws_secret_access_key="wrong",
    )  # fmt: skip
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.list_buckets()


def test_only_this_machine_can_reach_the_services(team: Team) -> None:
    family = [psutil.Process(pid) for pid in processes(team).values()]
    family += [child for process in family for child in process.children(recursive=True)]
    listening = set()
    for process in family:
        with suppress(psutil.NoSuchProcess):  # it ended while it was looked at
            listening |= {
                connection.laddr.ip
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
    assert listening == {"127.0.0.1"}


def test_pages_of_others_cannot_start_code(team: Team) -> None:
    """Prefect asks for no password; a browser on this machine can reach it."""
    flow, stranger = f"{team.prefect_url}/api/flows/", {"Origin": "http://stranger.example"}
    assert httpx.post(flow, content=b'{"name": "theirs"}', headers=stranger, timeout=20).status_code == 403
    token = httpx.get(f"{team.prefect_url}/api/csrf-token?client=x", headers=stranger, timeout=20)
    assert "access-control-allow-origin" not in token.headers
    own = httpx.get(f"{team.prefect_url}/api/health", headers={"Origin": team.prefect_url}, timeout=20)
    assert own.headers["access-control-allow-origin"] == team.prefect_url


def test_prometheus_can_ask_for_numbers(team: Team) -> None:
    answer = httpx.get(f"{team.prefect_url}/api/metrics", timeout=20)
    assert answer.status_code == 200
    assert "# TYPE" in answer.text


def test_no_password_is_told(team: Team, first_run: str) -> None:
    secrets = team.passwords.model_dump().values()
    for path in (team.path("secrets.yaml"), team.path("env.sh"), team.path("mlflow-users.ini")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    texts = {str(path): path.read_text(errors="replace") for path in team.path("run").glob("*.log")}
    for pid in processes(team).values():
        for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # a connection of PostgreSQL that ended meanwhile
                texts[f"arguments of {each.pid}"] = " ".join(each.cmdline())
    for where, text in texts.items():
        assert not [secret for secret in secrets if secret in text], where


def test_another_machine_gets_data_and_champion_and_finds_the_same_numbers(
    team: Team, first_run: str, tmp_path: Path
) -> None:
    pushed = featherface(team, "data", "push", "--remote", REMOTE, cwd=team.workspace)
    assert pushed.returncode == 0, pushed.stderr
    clone = tmp_path / "clone"
    (clone / ".dvc").mkdir(parents=True)
    for name in ("params.yaml", "data.dvc", ".dvc/config"):
        shutil.copy(team.workspace / name, clone / name)
    from pipelines.workspace import prepare_workspace

    old = dict(os.environ)
    os.environ.update(team.client_environment)
    try:
        prepare_workspace(clone, profile="synthetic", data=None, teacher=None)
    finally:
        os.environ.clear()
        os.environ.update(old)
    ours, theirs = (sorted((root / "data").rglob("*")) for root in (team.workspace, clone))
    assert [path.name for path in ours] == [path.name for path in theirs]
    judged = [
        featherface(team, "evaluate", "--data", str(root / "data"), "--model", "models:/featherface@champion",
                    "--json", cwd=root)
        for root in (team.workspace, clone)
    ]  # fmt: skip
    assert judged[0].returncode == 0, judged[0].stderr
    ours, theirs = (json.loads(each.stdout) for each in judged)
    assert {name for name in ours if ours[name] != theirs[name]} <= {"detect_ms_p50"}


def found_in_batch(team: Team, source: str, out: Path, *options: str) -> dict[str, object]:
    """What a batch of shards of two pictures says, by the picture's name."""
    arguments = ("batch", source, "--out", str(out), "--shard-size", "2", "--workers", "2", *options)
    done = featherface(team, *arguments, cwd=team.workspace)
    assert done.returncode == 0, done.stderr
    lines = [line for part in sorted(out.glob("part-*")) for line in part.read_text().splitlines()]
    records = [json.loads(line) for line in lines]
    return {record.pop("image").rpartition("/")[2]: record for record in records}


@pytest.fixture(scope="module")
def found_here(team: Team, first_run: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a batch on this machine finds in the pictures of validation, which no test changes."""
    found = found_in_batch(team, str(validation_pictures(team)), tmp_path_factory.mktemp("here") / "out")
    assert len(found) == 4
    return found


def validation_pictures(team: Team) -> Path:
    return team.workspace / "data" / "WIDER_val" / "images"


@pytest.mark.parametrize("where", ["s3", "dask", "ray"])
def test_a_batch_gives_the_same_faces_wherever_pictures_and_workers_are(
    team: Team, found_here: dict[str, object], tmp_path: Path, where: str
) -> None:
    pictures = validation_pictures(team)
    if where == "s3":
        for path in sorted(pictures.rglob("*.jpg")):
            s3_client(team).upload_file(str(path), DVC_BUCKET, f"pictures/{path.name}")
        found = found_in_batch(team, f"s3://{DVC_BUCKET}/pictures", tmp_path / "there")
    else:
        pytest.importorskip(f"prefect_{where}")
        found = found_in_batch(team, str(pictures), tmp_path / "there", "--runner", where)
    assert found == found_here


def test_new_data_start_a_retraining_that_outlives_its_machine_and_its_servers(
    team: Team, prefect: Prefect, first_run: str
) -> None:
    image = next((team.workspace / "data").rglob("*train_00000.jpg"))
    shutil.copy(next((team.workspace / "data").rglob("*train_00001.jpg")), image)
    before = {run["id"] for name in ("on-new-data", "after-a-crash") for run in prefect.runs_of(name)}
    pushed = featherface(team, "data", "push", cwd=team.workspace)
    assert pushed.returncode == 0, pushed.stderr
    run_id = next_run(prefect, "on-new-data", before)
    until(lambda: prefect.tasks(run_id).get("train_teacher") == "RUNNING", 300)
    kill_worker(team)
    assert featherface(team, "team", "up", "--folder", str(team.folder)).returncode == 0
    assert prefect.wait(run_id, 240)["state_type"] == "CRASHED"
    again_id = next_run(prefect, "after-a-crash", before)
    until(lambda: prefect.tasks(again_id).get("distill") == "RUNNING", 300)
    for name in ("mlflow", "postgres"):
        process = running(name, team.path("run"))
        assert process is not None
        process.send_signal(signal.SIGKILL if name == "mlflow" else signal.SIGQUIT)
        process.wait(30)
    time.sleep(10)
    up = featherface(team, "team", "up", "--folder", str(team.folder))
    assert up.returncode == 0, up.stderr
    run = prefect.wait(again_id)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]


def next_run(prefect: Prefect, deployment: str, before: set[str]) -> str:
    """The run that something started in a deployment."""
    (run_id,) = until(lambda: {run["id"] for run in prefect.runs_of(deployment)} - before, 120)
    return str(run_id)


def kill_worker(team: Team) -> None:
    """What is left of a worker and its flows when its machine dies: nothing."""
    worker = running("worker", team.path("run"))
    assert worker is not None
    family = [worker, *worker.children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.suspend()  # so that none starts another while we go through them
    for process in {*family, *worker.children(recursive=True)}:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_push_without_its_store_is_said_and_can_be_repeated(team: Team, first_run: str) -> None:
    gateway = running("s3-gateway", team.path("run"))
    assert gateway is not None
    gateway.kill()
    gateway.wait(10)
    image = next((team.workspace / "data").rglob("*train_00002.jpg"))
    shutil.copy(next((team.workspace / "data").rglob("*train_00003.jpg")), image)
    refused = featherface(team, "data", "push", "--remote", REMOTE, cwd=team.workspace)
    assert refused.returncode == 2
    assert "dvc push" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert featherface(team, "team", "up", "--folder", str(team.folder)).returncode == 0
    pushed = featherface(team, "data", "push", cwd=team.workspace)
    assert pushed.returncode == 0, pushed.stderr
