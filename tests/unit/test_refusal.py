"""A refusal of a stage is told once: by whoever started it, or by itself where nobody reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherface.cli import main
from featherface.errors import FeatherFaceError
from featherface.stages.refusal import REFUSAL_VARIABLE
from pipelines import dvc_commands


def test_a_refusal_that_somebody_asked_for_is_left_to_him(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(asked_for: Path | None) -> str:
        if asked_for is not None:
            monkeypatch.setenv(REFUSAL_VARIABLE, str(asked_for))
        with pytest.raises(SystemExit) as left:
            main(["run", "validate", "--root", str(tmp_path)])
        assert left.value.code == 2
        return capsys.readouterr().err

    alone = refuse(None)
    assert alone.startswith(f"featherface: {tmp_path / 'params.yaml'}: cannot be read")
    assert refuse(tmp_path / "refusal.txt") == ""
    assert alone == f"featherface: {(tmp_path / 'refusal.txt').read_text()}\n"
    (tmp_path / "file").touch()
    assert refuse(tmp_path / "file" / "refusal.txt") == alone, "where it cannot be left it is told"


@pytest.mark.parametrize("words", ["no such folder", None])
def test_who_runs_a_stage_through_dvc_raises_its_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str | None
) -> None:
    def end(root: Path, stage: str, environment: dict[str, str]) -> None:
        assert environment["SAID"] == "before"
        if words is not None:
            Path(environment[REFUSAL_VARIABLE]).write_text(words)
        raise dvc_commands.StageDiedError(stage)

    monkeypatch.setattr(dvc_commands, "_reproduce", end)
    error = dvc_commands.StageDiedError if words is None else FeatherFaceError
    with pytest.raises(error, match=words or "'work' ended early"):
        dvc_commands.reproduce(tmp_path, "work", {"SAID": "before"})
