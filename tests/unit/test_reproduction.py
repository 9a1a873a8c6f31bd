"""Where a version is made again, and what a registered recipe may have us do there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from featherface.config import Config, dump_config, with_settings
from featherface.errors import DataError, ModelError
from featherface.tracking.registry import ModelRegistry
from featherface.tracking.versions import RegisteredVersion
from pipelines import reproduction

DATA_FILE = "outs:\n- md5: 0.dir\n  path: data\n"


class OneRecipe:
    """A registry that keeps the files of one version."""

    def __init__(self, folder: Path, settings: dict[str, Any], data_file: str) -> None:
        self.kept = {name: folder / name for name in ("params.yaml", "data.dvc")}
        folder.mkdir()
        self.kept["params.yaml"].write_text(dump_config(with_settings(Config(), settings, "here")))
        self.kept["data.dvc"].write_text(data_file)
        self.payload = folder / "payload"
        self.payload.write_text("payload")

    def fetch_extra(self, _: str, name: str) -> Path:
        return self.kept.get(name, self.payload)


@pytest.mark.parametrize("way_out", ["{outside}/there", "../there", "inputs/../../there"])
@pytest.mark.parametrize("key", ["teacher.weights", "distill.initial_weights", "outs.path", "wdir"])
def test_a_recipe_writes_nowhere_but_in_its_workspace(tmp_path: Path, key: str, way_out: str) -> None:
    outside, workspace = tmp_path / "outside", tmp_path / "outside" / "workspace"
    way_out = way_out.format(outside=outside)
    is_data_file = key in {"outs.path", "wdir"}
    data_file = f"wdir: {way_out}\n" if key == "wdir" else DATA_FILE.replace("path: data", f"path: {way_out}")
    recipe = OneRecipe(
        tmp_path / "kept",
        {} if is_data_file else {key: way_out},
        data_file if is_data_file else DATA_FILE,
    )
    version = RegisteredVersion("3", (), None, 0, {}, {})
    with pytest.raises(ModelError, match=rf"version 3: {key} of its \S+ is '\S+', which is not inside the"):
        reproduction._lay_out(cast("ModelRegistry", recipe), version, tmp_path, workspace)
    assert not (outside / "there").exists()


def test_a_folder_that_was_deleted_is_checked_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, target = tmp_path / "repository", tmp_path / "again"

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repository), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    repository.mkdir()
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    commit = git("rev-parse", "HEAD")
    monkeypatch.setattr(reproduction, "_PROJECT", repository)
    for _ in range(2):
        reproduction._check_out(commit, target)
        assert (target / ".git").is_file()
        shutil.rmtree(target)
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=rf"commit {commit}: cannot be checked out from .*Not a directory"
    ) as refused:
        reproduction._check_out(commit, tmp_path / "file" / "again")
    assert "fetch it first" not in str(refused.value)
    with pytest.raises(
        DataError, match=r"commit 0{40}: is not in .*repository \(fatal: .*\); fetch it first"
    ):
        reproduction._check_out("0" * 40, target)
