"""One run at a time in a workspace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from featherface.config import Config, dump_config
from pipelines import scheduled
from pipelines.workspace_turn import WorkspaceBusyError, workspace_turn

HOLD = (
    "import sys, time; from pathlib import Path; from pipelines.workspace_turn import workspace_turn\n"
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
