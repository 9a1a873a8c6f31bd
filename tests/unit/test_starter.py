"""What a stage leaves to whoever starts it: to tell its refusal, and to clear its checkpoints at the end."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from featherface.cli import main
from featherface.errors import FeatherFaceError
from featherface.stages.base import CHECKPOINT_FILE
from featherface.stages.starter import STARTER_VARIABLE, begin, finish, hand_on
from pipelines import dvc_commands


def test_a_refusal_that_somebody_asked_for_is_left_to_him(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(asked_for: Path | None) -> str:
        if asked_for is not None:
            monkeypatch.setenv(STARTER_VARIABLE, str(asked_for))
        with pytest.raises(SystemExit) as left:
            main(["run", "validate", "--root", str(tmp_path)])
        assert left.value.code == 2
        return capsys.readouterr().err

    alone = refuse(None)
    assert alone.startswith(f"featherface: {tmp_path}: is no workspace")
    assert refuse(tmp_path) == ""
    assert alone == f"featherface: {(tmp_path / 'refusal.txt').read_text()}\n"
    (tmp_path / "file").touch()
    assert refuse(tmp_path / "file") == alone, "where it cannot be left it is told"


@pytest.mark.parametrize("words", ["no such folder", None])
def test_who_runs_a_stage_through_dvc_raises_its_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str | None
) -> None:
    def end(root: Path, stage: str, environment: dict[str, str]) -> None:
        assert environment["SAID"] == "before"
        if words is not None:
            monkeypatch.setenv(STARTER_VARIABLE, environment[STARTER_VARIABLE])
            assert hand_on(FeatherFaceError(words))
        raise dvc_commands.StageDiedError(stage)

    monkeypatch.setattr(dvc_commands, "_reproduce", end)
    error = dvc_commands.StageDiedError if words is None else FeatherFaceError
    with pytest.raises(error, match=words or "'work' ended early"):
        dvc_commands.reproduce(tmp_path, "work", {"SAID": "before"})


@pytest.mark.parametrize("how", ["by hand", "recorded", "dies before it is recorded", "restored"])
def test_checkpoints_stay_until_dvc_has_recorded_the_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    checkpoint = tmp_path / "state" / "work" / CHECKPOINT_FILE
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()

    def run(root: Path, stage: str, environment: dict[str, str]) -> None:
        if how == "restored":
            return  # from DVC's cache: no process of the stage ran
        with monkeypatch.context() as patch:
            patch.setenv(STARTER_VARIABLE, environment[STARTER_VARIABLE])
            finish(checkpoint.parent, "before")
        assert checkpoint.exists()
        if how == "dies before it is recorded":
            raise dvc_commands.StageDiedError(stage)

    monkeypatch.setattr(dvc_commands, "_reproduce", run)
    if how == "by hand":
        finish(checkpoint.parent, "before")
    else:
        with suppress(dvc_commands.StageDiedError):
            dvc_commands.reproduce(tmp_path, "work", {})
    assert checkpoint.exists() == (how not in ("by hand", "recorded"))
    if how == "dies before it is recorded":
        begin(checkpoint.parent, "before")
        assert checkpoint.exists(), "the next run has it finished at once"
        begin(checkpoint.parent, "after")
        assert checkpoint.exists(), "this one was not finished when it was killed"


@pytest.mark.parametrize("recorded", ["after", None])
def test_a_recorded_training_is_not_gone_on_with_where_its_starter_died_just_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str | None
) -> None:
    """With other code it would be taken for that of the new one."""
    monkeypatch.setenv(STARTER_VARIABLE, str(tmp_path / "starter"))
    (tmp_path / CHECKPOINT_FILE).touch()
    finish(tmp_path, "before")
    begin(tmp_path, recorded)
    assert [path.name for path in tmp_path.iterdir()] == ["starter"]
