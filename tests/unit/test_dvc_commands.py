"""DVC in a workspace, after somebody was killed at a bad moment."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiers import slow

from featherface import child_process
from featherface.child_process import PARENT_VARIABLE, module_command
from featherface.yaml_files import read_yaml
from pipelines import dvc_commands, dvc_lock_file
from pipelines.data_sources import describe_data
from pipelines.dvc_locks import mend_locks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    dvc_commands.initialize(root)
    (root / "data").mkdir()
    (root / "data" / "one").write_text("1")
    dvc_commands.run_dvc(root, "add", "data")
    return root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "workspace"))


@pytest.mark.parametrize("left", ["", '{"read": {}, "wri'])
def test_a_half_written_list_of_locks_stops_nobody(
    workspace: Path, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    locks = workspace / ".dvc" / "tmp" / "rwlock"
    assert locks.is_file()
    locks.write_text(left)
    dvc_commands.run_dvc(workspace, "add", "data")
    assert "half-written" in caplog.text


def note_writers(workspace: Path, *processes: int) -> Path:
    """As DVC notes who writes the data; each is said to have been a DVC."""
    locks = workspace / ".dvc" / "tmp" / "rwlock"
    command = "/venv/bin/dvc repro --quiet --single-item train_teacher"
    writers = {
        str(workspace / f"data{n or ''}"): {"pid": pid, "cmd": command} for n, pid in enumerate(processes)
    }
    locks.write_text(json.dumps({"write": writers, "read": {}}))
    return locks


def test_the_lock_of_a_process_whose_number_another_one_has_stops_nobody(workspace: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        locks = note_writers(workspace, stranger.pid)
        dvc_commands.run_dvc(workspace, "add", "data")
        assert str(stranger.pid) not in locks.read_text()
        stranger.communicate(b"\n")


def test_the_lock_of_a_zombie_stops_nobody(workspace: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as zombie:
        while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        locks = note_writers(workspace, zombie.pid)
        dvc_commands.run_dvc(workspace, "add", "data")
        assert str(zombie.pid) not in locks.read_text()


def test_only_locks_of_the_gone_are_dropped(workspace: Path) -> None:
    alike = [sys.executable, "-c", "print('begun', flush=True); input()", "dvc"]
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    with subprocess.Popen(alike, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as at_work:
        assert at_work.stdout is not None
        at_work.stdout.readline()  # until it has begun, its command line may still be this process's
        locks = note_writers(workspace, at_work.pid, int(gone.stdout))
        mend_locks(workspace)
        kept = json.loads(locks.read_text())["write"]
        assert {path: info["pid"] for path, info in kept.items()} == {str(workspace / "data"): at_work.pid}
        before = locks.stat()
        mend_locks(workspace)
        assert (locks.stat().st_ino, locks.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        at_work.communicate(b"\n")


@pytest.mark.parametrize("idle", ["{}", '{"read": {}}', '{"write": {}, "read": {"data": []}}'])
def test_nothing_is_said_of_a_list_without_locks(
    workspace: Path, idle: str, caplog: pytest.LogCaptureFixture
) -> None:
    locks = workspace / ".dvc" / "tmp" / "rwlock"
    locks.write_text(idle)
    mend_locks(workspace)
    assert locks.read_text() == idle
    assert not caplog.text


@pytest.mark.parametrize("odd", ["[]", '{"write": {"data": 1}}', '{"write": {"data": {"process": 1}}}'])
def test_a_list_of_locks_of_another_kind_is_left_to_dvc(workspace: Path, odd: str) -> None:
    locks = workspace / ".dvc" / "tmp" / "rwlock"
    locks.write_text(odd)
    mend_locks(workspace)
    assert locks.read_text() == odd


def test_a_list_that_somebody_changes_at_this_moment_is_left_alone(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.dvc_locks._PAUSE_S", 0)
    locks = note_writers(workspace, 2**22 + 1)
    before = locks.read_text()
    with locks.with_name("rwlock.lock").open("a+") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        mend_locks(workspace)
    assert locks.read_text() == before


def test_a_refusal_of_dvc_is_passed_on_with_its_words(workspace: Path) -> None:
    with pytest.raises(dvc_commands.DvcError, match=r"`dvc add nothing` failed: ERROR: .*does not exist"):
        dvc_commands.run_dvc(workspace, "add", "nothing")


COPY = "stages:\n  work:\n    cmd: cp data/one out && echo again >> log\n    deps: [data]\n    outs: [out]\n"
BROKEN = [
    ("dvc.lock", "restore it from git, or delete it: stages whose outputs are in DVC's cache come back"),
    ("data.dvc", "restore it from git, or delete it: the data that are there are recorded anew"),
    (".dvc/config", "restore it from git, or put that of another workspace in its place"),
]


@pytest.mark.parametrize("garbage", [b"\xff\xfe\x00garbage", b"a: ["])
@pytest.mark.parametrize(("name", "advice"), BROKEN)
def test_a_broken_file_of_dvcs_is_named_with_what_to_do(
    workspace: Path, name: str, advice: str, garbage: bytes
) -> None:
    (workspace / "dvc.yaml").write_text(COPY)
    (workspace / name).write_bytes(garbage)
    with pytest.raises(dvc_commands.DvcError, match=rf"{name}: is broken, DVC cannot read it; {advice}"):
        dvc_commands.stale_stages(workspace)
    with pytest.raises(dvc_commands.DvcError, match=rf"{name}: is broken"):
        describe_data(workspace / "data")


@pytest.mark.parametrize(
    ("name", "text"), [("dvc.lock", "stages: 3\n"), ("data.dvc", "outs: 3\n")], ids=["lock", "data"]
)
def test_a_file_of_another_schema_is_named_with_what_to_do(workspace: Path, name: str, text: str) -> None:
    (workspace / "dvc.yaml").write_text(COPY)
    (workspace / name).write_text(text)
    with pytest.raises(
        dvc_commands.DvcError, match=rf"{name}: is broken, DVC cannot read it; {dict(BROKEN)[name]}"
    ):
        dvc_commands.stale_stages(workspace)
    if name == "dvc.lock":  # a stage has no need of the other
        with pytest.raises(dvc_commands.DvcError, match=rf"{name}: is broken"):
            dvc_commands.reproduce(workspace, "work", {})


def test_an_empty_lock_is_taken_for_none(
    workspace: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC opens the file anew before it writes it, and may be killed in between."""
    lock = workspace / "dvc.lock"
    (workspace / "dvc.yaml").write_text(COPY)
    lock.touch()
    monkeypatch.setattr(dvc_lock_file, "_PAUSE_S", 0.01)
    assert dvc_commands.stale_stages(workspace) == {"work"}
    assert f"{lock}: is empty" in caplog.text
    assert not lock.exists()


@pytest.mark.parametrize("pause", ["first", "last"])
def test_a_lock_that_somebody_writes_at_this_moment_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: str
) -> None:
    lock = tmp_path / "dvc.lock"
    lock.touch()
    pauses_left = iter(range(0 if pause == "first" else dvc_lock_file._ATTEMPTS - 1))

    def write(_seconds: float) -> None:
        if next(pauses_left, None) is None:
            lock.write_text("schema: '2.0'\n")

    monkeypatch.setattr(time, "sleep", write)
    dvc_lock_file.drop_empty(lock)
    assert lock.read_text() == "schema: '2.0'\n"


def test_a_lock_that_was_cut_loses_its_last_stage_alone(
    workspace: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC writes it in place, for as long as half a second, and may be killed meanwhile."""
    lock = workspace / "dvc.lock"
    monkeypatch.setattr(dvc_lock_file, "_PAUSE_S", 0.01)
    (workspace / "dvc.yaml").write_text(
        f"{COPY}  next:\n    cmd: cp out last\n    deps: [out]\n    outs: [last]\n"
    )
    for stage in ("work", "next"):
        dvc_commands.reproduce(workspace, stage, {})
    whole = lock.read_text()
    assert list(read_yaml(lock)["stages"]) == ["work", "next"]
    for ending, left in (
        ("    - path: ", {"next"}),
        ("    - pa", {"next"}),
        ("  work:\n    cmd: ", {"work", "next"}),
    ):
        lock.write_text(whole[: whole.rindex(ending) + len(ending)])
        assert dvc_commands.stale_stages(workspace) == left
        assert f"{lock}: is cut off" in caplog.text
        caplog.clear()
    for stage in ("work", "next"):
        dvc_commands.reproduce(workspace, stage, {})
    assert lock.read_text() == whole
    assert (workspace / "log").read_text() == "again\n", "what is lacking comes from the cache"


def test_a_lock_that_grows_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "dvc.lock"
    begun = "schema: '2.0'\nstages:\n  work:\n    cmd: "
    lock.write_text(begun)
    monkeypatch.setattr(time, "sleep", lambda _seconds: lock.write_text(f"{begun}cp a b\n"))
    assert dvc_lock_file.drop_cut_stage(lock) is None
    assert lock.read_text() == f"{begun}cp a b\n"


@pytest.mark.parametrize("mark", ["<<<<<<< HEAD\n", "    - path:\n"])
def test_a_lock_that_is_broken_elsewhere_stays_as_it_is(
    workspace: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_lock_file, "_PAUSE_S", 0.01)
    (workspace / "dvc.yaml").write_text(COPY)
    text = f"schema: '2.0'\nstages:\n  other:\n    cmd: x\n    outs:\n{mark}  work:\n    cmd: y\n"
    (workspace / "dvc.lock").write_text(text)
    with pytest.raises(dvc_commands.DvcError, match=r"dvc\.lock: is broken"):
        dvc_commands.stale_stages(workspace)
    assert (workspace / "dvc.lock").read_text() == text


def test_without_its_lock_a_stage_comes_back_from_the_cache(workspace: Path) -> None:
    (workspace / "dvc.yaml").write_text(COPY)
    dvc_commands.reproduce(workspace, "work", {})
    (workspace / "dvc.lock").write_bytes(b"\xff")
    with pytest.raises(dvc_commands.DvcError, match=r"dvc\.lock: is broken"):
        dvc_commands.reproduce(workspace, "work", {})
    (workspace / "dvc.lock").unlink()
    (workspace / "out").unlink()
    dvc_commands.reproduce(workspace, "work", {})
    assert (workspace / "out").read_text() == "1"
    assert (workspace / "log").read_text() == "again\n", "it ran once"


def test_files_that_mlflow_keeps_are_none_of_dvcs(workspace: Path) -> None:
    kept = workspace / "mlartifacts" / "models" / "1"
    kept.mkdir(parents=True)
    (kept / "data.dvc").write_text((workspace / "data.dvc").read_text())
    assert dvc_commands.stale_stages(workspace) == set()


def test_a_look_with_a_file_manager_or_a_killed_pull_changes_no_data(workspace: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", ".D4rXAOe68FNHWAHGFa0QYg.tmp"):
        (workspace / "data" / name).write_text("icons, or half a photograph")
    assert dvc_commands.stale_stages(workspace) == set()
    (workspace / "data" / "two").write_text("2")
    assert dvc_commands.stale_stages(workspace) == {"data.dvc"}


def test_the_default_remote_is_read_as_dvc_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / ".dvc"
    folder.mkdir()
    remotes = "['remote \"near\"']\nurl = /a%20b\n['remote \"far\"']\nurl = s3://bucket\n"
    (folder / "config").write_text(f"[core]\nremote = far\n{remotes}", encoding="utf-8-sig")
    assert dvc_commands.default_remote(tmp_path) == "s3://bucket"
    (folder / "config.local").write_text("[core]\nremote = near\n")
    assert dvc_commands.default_remote(tmp_path) == "/a%20b"
    (folder / "config.local").write_text("[core\n")
    with pytest.raises(dvc_commands.DvcError, match=r"config\.local: is broken"):
        dvc_commands.default_remote(tmp_path)


def test_an_old_list_of_ignored_files_is_gone_on_with(workspace: Path) -> None:
    ignored = workspace / ".dvcignore"
    ignored.write_text("# ours\n*.tmp")
    for _ in range(2):
        dvc_commands.initialize(workspace)
        assert ignored.read_text() == (
            f"# ours\n*.tmp\n/mlartifacts\n.DS_Store\nThumbs.db\n*.{'?' * 22}.tmp\n"
        )


STAGE = """
import os, pathlib, sys, time
from featherface.child_process import end_with_named_parent, module_command
end_with_named_parent()
if "torchrun" in sys.argv and "RANK" not in os.environ:
    options = ["--standalone", "--nproc-per-node=2", *sys.argv]
    os.execv(sys.executable, module_command("torch.distributed.run", *options))
pathlib.Path("out").write_text("half")
pathlib.Path("pid").write_text(str(os.getpid()))
time.sleep(0 if pathlib.Path("calm").exists() else 60)
"""
FLOW = "import pathlib; from pipelines.dvc_commands import reproduce; reproduce(pathlib.Path(), 'work', {})"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize(
    ("shell", "launcher"),  # dash stays, bash makes way for the command it runs
    [("dash", ""), slow("bash", ""), slow("dash", "torchrun")],
)
def test_a_killed_flow_leaves_nobody_at_work(workspace: Path, shell: str, launcher: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} on this machine")
    (workspace / "stage.py").write_text(STAGE)
    command = f"{sys.executable} stage.py {launcher}"
    (workspace / "dvc.yaml").write_text(
        f"stages:\n  work:\n    cmd: {command}\n    deps: [data]\n    outs: [out]\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SHELL": program}
    flow = subprocess.Popen([sys.executable, "-c", FLOW], cwd=workspace, env=environment)
    pid = workspace / "pid"
    while not (pid.is_file() and pid.read_text()):
        assert flow.poll() is None
        time.sleep(0.02)
    family = psutil.Process(flow.pid).children(recursive=True)
    assert len(family) >= (4 if launcher else 2)  # DVC, torchrun and its two
    assert int(pid.read_text()) in [member.pid for member in family]
    flow.send_signal(signal.SIGKILL)
    flow.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    (workspace / "calm").touch()
    again = subprocess.run(
        flow.args, cwd=workspace, env=environment, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr


def test_a_kernel_without_process_descriptors_stops_no_child() -> None:
    script = """
import errno, os, threading
def missing(pid):
    raise OSError(errno.ENOSYS, "Function not implemented")
os.pidfd_open = missing
from featherface.child_process import end_with_named_parent
end_with_named_parent()
print(threading.active_count())
"""
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid()), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


def test_a_child_whose_parent_is_gone_does_not_start(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    refused = subprocess.run(
        module_command("dvc", "version"), env={**os.environ, PARENT_VARIABLE: str(gone.pid)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "is gone" in refused.stderr


def test_a_new_project_tells_its_makers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc init` runs before the project has settings of its own; a process of its own reports afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("DVC_ANALYTICS_ENDPOINT", address)
        monkeypatch.delenv("DVC_TEST", raising=False)
        monkeypatch.delenv("DVC_NO_ANALYTICS", raising=False)
        dvc_commands.initialize(tmp_path)
        listener.settimeout(5)
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts a process the fast way")
def test_a_process_of_a_pool_ends_with_the_one_that_has_the_pool() -> None:
    program = (
        "import multiprocessing, os, runpy, signal, time\n"
        f"end_with_pool = runpy.run_path({child_process.__file__!r})['end_with_pool']\n"
        "reader, writer = os.pipe()\n"
        "work = lambda: (end_with_pool(), os.write(writer, b'works'), time.sleep(60))\n"
        "multiprocessing.get_context('fork').Process(target=work).start()\n"
        "os.read(reader, 5)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    # Returns when nobody has the other end of the pipe any more.
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
