"""DVC in a workspace, after somebody was killed at a bad moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import dvc_commands


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    dvc_commands.initialize(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").write_text("1")
    dvc_commands.run_dvc(tmp_path, "add", "data")
    return tmp_path


@pytest.mark.parametrize("left", ["", '{"read": {}, "wri'])
def test_a_half_written_list_of_locks_stops_nobody(
    workspace: Path, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    locks = workspace / ".dvc" / "tmp" / "rwlock"
    assert locks.is_file()
    locks.write_text(left)
    dvc_commands.run_dvc(workspace, "add", "data")
    assert "half-written" in caplog.text


def test_a_refusal_of_dvc_is_passed_on_with_its_words(workspace: Path) -> None:
    with pytest.raises(dvc_commands.DvcError, match=r"`dvc add nothing` failed: ERROR: .*does not exist"):
        dvc_commands.run_dvc(workspace, "add", "nothing")


def test_files_that_mlflow_keeps_are_none_of_dvcs(workspace: Path) -> None:
    kept = workspace / "mlartifacts" / "models" / "1"
    kept.mkdir(parents=True)
    (kept / "data.dvc").write_text((workspace / "data.dvc").read_text())
    assert dvc_commands.stale_stages(workspace) == set()
