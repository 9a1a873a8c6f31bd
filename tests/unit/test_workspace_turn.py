"""One run at a time in a workspace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featherface.cli import main
from featherface.config import Config, dump_config
from featherface.turn import HOLDER_VARIABLE, WorkspaceBusyError, workspace_turn
from pipelines import dvc_commands, scheduled

HOLD = (
    "import sys, time; from pathlib import Path; from featherface.turn import workspace_turn\n"
    "with workspace_turn(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


def test_a_second_run_is_told_who_is_at_work_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(WorkspaceBusyError, match=rf"another run is at work here \(process {other.pid}\)"),
            workspace_turn(tmp_path),
        ):
            pytest.fail("two at once")
    finally:
        other.kill()
        other.communicate()
    with workspace_turn(tmp_path):
        pass
    with workspace_turn(tmp_path):
        pass


def test_the_champion_is_not_judged_on_data_that_a_run_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(dump_config(Config()))
    asked: list[Path] = []

    def judge(folder: Path, *_: object) -> None:
        asked.append(folder)
        with pytest.raises(WorkspaceBusyError), workspace_turn(folder):
            pytest.fail("the data could be changed now")

    monkeypatch.setattr(scheduled, "_judge_champion", judge)
    with workspace_turn(tmp_path):
        state = scheduled.reevaluate_champion.fn(str(tmp_path))
    assert (state.name, asked) == ("Skipped", [])
    assert "another run is at work here" in state.message
    scheduled.reevaluate_champion.fn(str(tmp_path))
    assert asked == [tmp_path]


def refusal_of_a_stage(root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(["run", "validate", "--root", str(root)])
    assert left.value.code == 2
    return capsys.readouterr().err


def test_a_stage_by_hand_waits_for_its_turn_and_one_of_the_holder_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = f"featherface: {tmp_path}: another run is at work here (process {os.getpid()}); wait until it has"
    began = "params.yaml: unknown key 'stage'"
    (tmp_path / "params.yaml").write_text("stage: began\n", encoding="utf-8")
    with workspace_turn(tmp_path):
        error = refusal_of_a_stage(tmp_path, capsys)
        assert error.startswith(busy)
        assert error.count("\n") == 1
        monkeypatch.setenv(HOLDER_VARIABLE, str(os.getppid()))  # inherited from a run that has ended
        assert refusal_of_a_stage(tmp_path, capsys).startswith(busy)
        monkeypatch.setenv(HOLDER_VARIABLE, str(os.getpid()))
        assert began in refusal_of_a_stage(tmp_path, capsys)
    monkeypatch.delenv(HOLDER_VARIABLE)
    assert began in refusal_of_a_stage(tmp_path, capsys)


def test_a_stage_that_dvc_runs_for_the_holder_works_in_its_turn(tmp_path: Path) -> None:
    script = tmp_path / "stage.py"
    script.write_text(
        "from pathlib import Path; from featherface.turn import workspace_turn\n"
        "with workspace_turn(Path()) as holder: Path('out').write_text(holder)"
    )
    (tmp_path / "dvc.yaml").write_text(
        f"stages:\n  work:\n    cmd: {sys.executable} stage.py\n    outs: [out]\n"
    )
    dvc_commands.initialize(tmp_path)
    with workspace_turn(tmp_path):
        dvc_commands.reproduce(tmp_path, "work", {})
    assert (tmp_path / "out").read_text() == str(os.getpid())


def test_a_program_that_takes_the_holder_over_keeps_the_turn(tmp_path: Path) -> None:
    """As torchrun does where a training has several processes."""
    take_over = (
        "import os, sys; from pathlib import Path; from featherface.turn import workspace_turn\n"
        "with workspace_turn(Path(sys.argv[1])): os.execv(sys.executable, "
        "[sys.executable, '-c', 'print(1, flush=True); input()'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", take_over, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"1\n"
        with pytest.raises(WorkspaceBusyError, match=rf"process {other.pid}"), workspace_turn(tmp_path):
            pytest.fail("two at once")
        other.communicate(b"\n")
    with workspace_turn(tmp_path):
        pass
