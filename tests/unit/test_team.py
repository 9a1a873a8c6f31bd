"""Services as processes, and the settings of a team: real processes, no server."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from full_disk import fill_disk

from featherface.errors import ConfigError, ModelError
from pipelines.team import s3
from pipelines.team.services import Service, ServiceError, running, start, stop
from pipelines.team.settings import open_team
from pipelines.team.up import status

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); "
    "time.sleep(60)"
)


def service(state: Path, code: str, name: str = "server") -> Service:
    """Ready once it has said `up`."""
    log = state / f"{name}.log"
    return Service(
        name,
        [sys.executable, "-c", code],
        is_ready=lambda: log.exists() and "up" in log.read_text(),
        ready_s=10,
    )


def test_a_service_is_started_once_and_stopped_with_its_children(tmp_path: Path) -> None:
    parent = service(
        tmp_path,
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('up', flush=True); time.sleep(60)",
    )
    assert start(parent, tmp_path)
    process = running("server", tmp_path)
    assert process is not None
    assert not start(parent, tmp_path), "it runs already"
    assert running("server", tmp_path) == process
    children = process.children()
    assert len(children) == 1
    assert stop("server", tmp_path)
    assert running("server", tmp_path) is None
    assert not children[0].is_running() or children[0].status() == psutil.STATUS_ZOMBIE
    assert not stop("server", tmp_path), "nothing runs any more"


def test_what_a_killed_service_leaves_is_ended_before_it_starts_again(tmp_path: Path) -> None:
    parent = service(
        tmp_path,
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('up', flush=True); time.sleep(60)",
    )
    start(parent, tmp_path)
    first = running("server", tmp_path)
    assert first is not None
    [orphan] = first.children()
    first.kill()
    first.wait(5)
    assert orphan.is_running()
    assert start(parent, tmp_path)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    stop("server", tmp_path)


def test_a_stranger_with_the_number_of_a_stopped_service_is_left_alone(tmp_path: Path) -> None:
    """After a restart of the machine every process is younger than what was noted."""
    stranger = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    )
    note = tmp_path / "server.pid"
    note.write_text(f"{stranger.pid} {psutil.Process(stranger.pid).create_time() - 60}\n")
    assert not stop("server", tmp_path)
    assert psutil.pid_exists(stranger.pid), "it was killed"
    stranger.communicate(b"\n")
    assert not note.exists()


def test_strangers_whose_group_has_lost_its_leader_are_left_alone_after_a_restart(tmp_path: Path) -> None:
    leader = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; "
         "print(subprocess.Popen([sys.executable, '-c', 'input()']).pid)"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert leader.stdout is not None
    stranger = psutil.Process(int(leader.stdout.readline()))
    leader.wait()
    before_the_restart = min(psutil.boot_time(), psutil.Process(1).create_time()) - 60
    (tmp_path / "server.pid").write_text(f"{leader.pid} {before_the_restart}\n")
    start(service(tmp_path, "import time; print('up', flush=True); time.sleep(60)"), tmp_path)
    stop("server", tmp_path)
    assert stranger.is_running()
    assert stranger.status() != psutil.STATUS_ZOMBIE
    leader.communicate()


def test_a_service_that_ignores_a_signal_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.team.services._PATIENCE_S", 0.4)
    start(service(tmp_path, STUBBORN), tmp_path)
    assert stop("server", tmp_path)
    assert running("server", tmp_path) is None


def test_a_service_that_ends_or_stays_silent_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"server ended while it started: .*no such table.*server\.log"):
        start(service(tmp_path, "raise SystemExit('no such table')"), tmp_path)
    silent = Service(
        "silent", [sys.executable, "-c", "import time; time.sleep(60)"], lambda: False, ready_s=0.5
    )
    with pytest.raises(ServiceError, match=r"silent does not answer after 0 s|it said nothing"):
        start(silent, tmp_path)
    assert stop("silent", tmp_path)


def test_a_number_that_now_belongs_to_another_process_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "server.pid").write_text(f"{psutil.Process().pid} 12345.0\n")
    assert running("server", tmp_path) is None
    (tmp_path / "server.pid").write_text("nonsense")
    assert running("server", tmp_path) is None


def test_settings_are_kept_and_passwords_stay_private(tmp_path: Path) -> None:
    first = open_team(tmp_path / "team", {"mlflow_port": "5999"})
    again = open_team(tmp_path / "team")
    assert again == first
    assert again.mlflow_url == "http://127.0.0.1:5999"
    for name in ("secrets.yaml", "env.sh"):
        assert stat.S_IMODE((tmp_path / "team" / name).stat().st_mode) == 0o600
    assert len(set(first.passwords.model_dump().values())) == 5
    assert first.passwords.postgres not in (tmp_path / "team" / "team.yaml").read_text()
    assert dict(status(tmp_path / "team"))["worker"] is None


def test_no_other_account_looks_into_the_state_new_or_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = tmp_path / "team"
    for folder in (team / "s3", team / "run"):
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    for account, expected in ((1000, 0o700), (0, 0o711)):  # PostgreSQL's account passes through that of root
        monkeypatch.setattr("os.geteuid", lambda account=account: account)
        open_team(team)
        assert stat.S_IMODE(team.stat().st_mode) == expected
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in team.iterdir() if path.is_dir()}
        assert modes == dict.fromkeys(("s3", "run", "prefect"), 0o700)


def test_on_a_full_disk_the_settings_stay_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_team(tmp_path / "team", {"mlflow_port": 5999, "timezone": "Europe/Berlin"})
    with monkeypatch.context() as patch:
        fill_disk(patch, "team.yaml")
        with pytest.raises(ModelError, match=r"team\.yaml: cannot be written \(No space left"):
            open_team(tmp_path / "team", {"mlflow_port": 6000})
    assert open_team(tmp_path / "team") == before


def test_a_wrong_setting_is_refused_and_a_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"team\.yaml: key 'mlflow_port': Input should be less than"):
        open_team(tmp_path / "team", {"mlflow_port": 70_000})
    with pytest.raises(ConfigError, match="key 'colour'"):
        open_team(tmp_path / "team", {"colour": "blue"})
    assert not (tmp_path / "team").exists(), "an older folder would have had its permissions changed"
    open_team(tmp_path / "team")
    secrets = tmp_path / "team" / "secrets.yaml"
    secrets.write_text(secrets.read_text().replace("postgres:", "postgers:"))
    with pytest.raises(ConfigError, match="postgres") as refused:
        open_team(tmp_path / "team")
    value = secrets.read_text().splitlines()[0].partition(": ")[2]
    assert value not in str(refused.value)


def test_a_store_that_is_not_installed_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match=r"needs Ceph \(ceph-mon, .*`apt-get install ceph-mon"):
        s3.start_s3(open_team(tmp_path / "team"), tmp_path)
