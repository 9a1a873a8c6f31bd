"""Killed at any point, out of disk, with a damaged cache: the next run finishes, with the same result."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest
from tiny_workspace import FEATHERFACE, GENEROUS, TINY, digest, environment, run_featherface

from featherface.config import Config, dump_config
from featherface.stages import STAGES, names

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
PARAMS = dump_config(Config.model_validate(TINY | {"promote": GENEROUS}))
NUM_KILLS = int(os.environ.get("FEATHERFACE_SOAK_KILLS", "4"))


def new_workspace(folder: Path, params: str = PARAMS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    return folder


def results(root: Path) -> dict[str, object]:
    """All that must not depend on what happened on the way; times and latencies may."""
    evaluation = json.loads((root / names.EVALUATION_METRICS).read_text())
    return {
        "teacher": digest(root / names.TEACHER_WEIGHTS),
        "distilled": digest(root / names.DISTILLED_WEIGHTS),
        "student": digest(root / names.STUDENT_WEIGHTS),
        "onnx": digest(root / names.ONNX_FILE),
        "evaluation": evaluation,
        "history": (root / names.STUDENT_HISTORY).read_text(),
    }


def start_pipeline(root: Path, errors: IO[str] | int = subprocess.DEVNULL) -> psutil.Popen:
    """In a session of its own, as a terminal gives it, so that one signal reaches all of it."""
    return psutil.Popen(
        [*FEATHERFACE, "pipeline", "--root", str(root)],
        cwd=root, env=environment(), stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
    )  # fmt: skip


def family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_all(process: psutil.Popen) -> None:
    """As when the machine loses power: nobody gets to tidy up."""
    members = family(process)
    for member in members:
        try:
            member.send_signal(signal.SIGSTOP)  # so that none starts another while we go through them
        except psutil.NoSuchProcess:
            continue
    for member in (*members, *family(process)):
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait(10)
    psutil.wait_procs(members, timeout=10)


def wait_for(stage: str, process: psutil.Popen) -> bool:
    """Wait until a stage is at work; False if the pipeline ends before."""
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        for member in family(process):
            try:
                command = member.cmdline()
            except psutil.NoSuchProcess:
                continue
            if "run" in command and command[command.index("run") + 1 : command.index("run") + 2] == [stage]:
                return True
        time.sleep(0.02)
    process.wait()
    return False


def kill_in(stage: str, root: Path) -> bool:
    """Run the pipeline until a stage is at work, and kill everything; False if the stage was not seen."""
    process = start_pipeline(root)
    is_seen = wait_for(stage, process)
    if is_seen:
        kill_all(process)
    return is_seen


def finish(root: Path) -> subprocess.CompletedProcess[str]:
    done = run_featherface("pipeline", "--root", str(root), root=root)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which nothing happened."""
    root = new_workspace(tmp_path_factory.mktemp("undisturbed"))
    finish(root)
    return root


@pytest.fixture(scope="module")
def undisturbed(finished: Path) -> dict[str, object]:
    return results(finished)


def test_killed_in_every_stage_the_result_is_the_same(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    """DVC's lock of the killed process is taken over each time."""
    root = new_workspace(tmp_path / "killed")
    lock = root / ".dvc" / "tmp" / "rwlock"
    for stage in STAGES:
        assert kill_in(stage, root), f"{stage} was not seen at work"
        assert json.loads(lock.read_text()), f"{stage} left no lock"
    finish(root)
    assert results(root) == undisturbed
    listed = run_featherface("registry", "list", root=root).stdout
    assert listed.count("champion") == 1


@pytest.mark.parametrize(
    ("number", "reaches_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["ctrl-c", "kill"]
)
def test_stopped_politely_it_says_so_in_a_line(
    tmp_path: Path, number: signal.Signals, *, reaches_all: bool
) -> None:
    """The line is all: Prefect's server lives until it has heard of it, so that nothing is tried again."""
    root, log = new_workspace(tmp_path / "stopped"), tmp_path / "log"
    with log.open("w") as errors:
        process = start_pipeline(root, errors)
        assert wait_for("train_teacher", process)
        members = family(process)
        (os.killpg if reaches_all else os.kill)(process.pid, number)
        assert process.wait(timeout=60) == 128 + number
    assert psutil.wait_procs(members, timeout=20)[1] == []
    said = log.read_text().partition("[2/7] train_teacher: running\n")[2].splitlines()
    assert said[-1] == "featherface: stopped; run the same command again to go on"
    assert not [line for line in said[:-1] if not line.startswith("epoch ")]
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as database:
        query = "SELECT status FROM runs WHERE name = 'pipeline-synthetic'"
        assert database.execute(query).fetchall() == [("KILLED",)]


@pytest.mark.parametrize("seed", [20261122])
def test_random_kills_lose_nothing(tmp_path: Path, undisturbed: dict[str, object], seed: int) -> None:
    """`make soak` kills a hundred times."""
    generator = random.Random(seed)
    root = new_workspace(tmp_path / "soak")
    usual_s, kills = 40.0, 0
    while kills < NUM_KILLS:
        started, process = time.monotonic(), start_pipeline(root)
        try:
            process.wait(timeout=generator.uniform(0, usual_s))
        except psutil.TimeoutExpired:
            kill_all(process)
            kills += 1
        else:
            usual_s = time.monotonic() - started
            # It came through: something new to do, and back again at the next time.
            seeds = ("seed: 1\n", "seed: 2\n")
            text = (root / "params.yaml").read_text()
            old, new = seeds if seeds[0] in text else seeds[::-1]
            (root / "params.yaml").write_text(text.replace(old, new))
        history = run_featherface("registry", "history", root=root)
        # Killed before there was a database, or between the ledger and its copy.
        is_early = "no registry at" in history.stderr or "is not copied yet" in history.stderr
        assert history.returncode == 0 or is_early, history.stderr
    (root / "params.yaml").write_text(PARAMS)
    finish(root)
    assert results(root) == undisturbed
    assert run_featherface("registry", "history", root=root).returncode == 0
    assert "0 runs marked" in run_featherface("registry", "reap", root=root).stdout


def test_a_damaged_cache_is_mended(finished: Path, undisturbed: dict[str, object]) -> None:
    weights = digest(finished / names.STUDENT_WEIGHTS)
    damaged = 0
    for cached in (finished / ".dvc" / "cache").rglob("*"):
        if cached.is_file() and digest(cached) == weights:
            cached.chmod(0o644)
            cached.write_bytes(cached.read_bytes()[:1000])
            damaged += 1
    assert damaged == 1
    (finished / names.STUDENT_WEIGHTS).unlink()
    finish(finished)
    assert results(finished) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_said_and_nothing_is_lost(small_disk: Path, undisturbed: dict[str, object]) -> None:
    root = new_workspace(small_disk / "workspace")
    full = run_featherface("pipeline", "--root", str(root), root=root)
    assert full.returncode != 0
    assert "No space left" in full.stderr
    assert "Traceback" not in full.stderr
    assert shutil.disk_usage(small_disk).total == 8 << 20
    subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
    finish(root)
    assert results(root) == undisturbed
