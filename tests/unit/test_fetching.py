"""Recorded data are there as a whole, or not at all, wherever a fetch of them was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import dvc_commands
from pipelines.data_sources import CACHE_VARIABLE, DataSource, local_data
from pipelines.fetching import fetch_data

VERSION = f"{'0' * 32}.dir"


class PretendedDvc:
    """Fills the folder that a record names with two photographs; killed in the middle, with one of them."""

    def __init__(self) -> None:
        self.is_killed = False
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, root: Path, *arguments: str) -> str:
        self.calls.append(arguments)
        if arguments[0] in ("pull", "checkout"):
            record = (root / arguments[1]).read_text()
            assert VERSION in record
            folder = root / record.split("path: ")[1].strip()
            folder.mkdir()
            (folder / "1.jpg").touch()
            if self.is_killed:
                raise KeyboardInterrupt
            (folder / "2.jpg").touch()
        return ""


@pytest.fixture
def dvc(monkeypatch: pytest.MonkeyPatch) -> PretendedDvc:
    pretended = PretendedDvc()
    monkeypatch.setattr(dvc_commands, "run_dvc", pretended)
    return pretended


@pytest.mark.parametrize("from_remote", [True, False])
def test_a_fetch_that_was_killed_is_begun_anew(tmp_path: Path, dvc: PretendedDvc, from_remote: bool) -> None:
    dvc.is_killed = True
    with pytest.raises(KeyboardInterrupt):
        fetch_data(tmp_path, VERSION, tmp_path / "data", from_remote=from_remote)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data.partial").mkdir()  # what SIGKILL leaves
    (tmp_path / "data.partial" / "1.jpg").write_text("half")
    (tmp_path / "data.partial.dvc").touch()
    dvc.is_killed = False
    fetch_data(tmp_path, VERSION, tmp_path / "data", from_remote=from_remote)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert {path.name: path.read_text() for path in (tmp_path / "data").iterdir()} == {
        "1.jpg": "",
        "2.jpg": "",
    }
    assert dvc.calls[-1] == ("pull" if from_remote else "checkout", "data.partial.dvc")


def test_the_record_of_a_fetch_is_gone_before_the_data_are_there(
    tmp_path: Path, dvc: PretendedDvc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in between, nobody would remove it, and `dvc checkout` would make a second copy of the data."""
    replace, beside = Path.replace, []

    def look_and_replace(self: Path, target: Path) -> Path:
        if target == tmp_path / "data":
            beside.append([path.name for path in tmp_path.iterdir()])
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", look_and_replace)
    fetch_data(tmp_path, VERSION, tmp_path / "data", from_remote=False)
    assert beside == [["data.partial"]]


def test_a_machine_does_not_train_on_the_half_that_it_had_pulled(
    tmp_path: Path, dvc: PretendedDvc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    source = DataSource(tmp_path / "elsewhere", VERSION, "s3://bucket")
    dvc.is_killed = True
    with pytest.raises(KeyboardInterrupt):
        local_data(source)
    dvc.is_killed = False
    assert len(list(local_data(source).iterdir())) == 2
    num_calls = len(dvc.calls)
    assert len(list(local_data(source).iterdir())) == 2
    assert len(dvc.calls) == num_calls, "it is pulled once"
