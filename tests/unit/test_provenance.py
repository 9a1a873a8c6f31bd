"""Tags of a real git checkout, of a folder without one, and of DVC's files."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from featherface.tracking.provenance import provenance_tags, stage_lock_md5

LOCK = """schema: '2.0'
stages:
  evaluate:
    cmd: featherface run evaluate
    deps:
    - path: data
      md5: {data}
  evaluate_teacher:
    cmd: featherface run evaluate_teacher
    params:
      params.yaml:
        evaluate.split: val
"""


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    run = subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "params.yaml").write_text("model: {}\n")
    (tmp_path / "dvc.lock").write_text(LOCK.format(data="aa"))
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "Start")
    return tmp_path


def test_a_clean_checkout_is_tagged_with_its_commit_and_digests(checkout: Path) -> None:
    md5 = "0123456789abcdef0123456789abcdef.dir"
    (checkout / "data.dvc").write_text(f"md5: {'f' * 32}\nouts:\n- md5: {md5}\n  size: 1\n  path: data\n")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "Add data")

    assert provenance_tags(checkout, flow_run_id="flow-1", code=checkout) == {
        "git.sha": git(checkout, "rev-parse", "HEAD"),
        "git.dirty": "false",
        "dvc.data.md5": md5,
        "dvc.lock.md5": hashlib.md5((checkout / "dvc.lock").read_bytes()).hexdigest(),
        "params.sha256": hashlib.sha256(b"model: {}\n").hexdigest(),
        "prefect.flow_run_id": "flow-1",
    }


def test_a_changed_file_makes_the_checkout_dirty(checkout: Path) -> None:
    (checkout / "params.yaml").write_text("model: {architecture: v1}\n")
    assert provenance_tags(checkout, code=checkout)["git.dirty"] == "true"


def test_looking_writes_nothing_into_the_repository(checkout: Path) -> None:
    """Killed while it writes the index, git leaves a lock behind that refuses every commit."""
    index = checkout / ".git" / "index"
    os.utime(checkout / "params.yaml", (1, 1))
    before = index.read_bytes()
    provenance_tags(checkout, code=checkout)
    assert index.read_bytes() == before
    git(checkout, "status")
    assert index.read_bytes() != before, "there was something to write"


def test_a_file_that_git_does_not_know_makes_the_checkout_dirty(checkout: Path) -> None:
    (checkout / "new.py").write_text("")
    assert provenance_tags(checkout, code=checkout)["git.dirty"] == "true"


def test_a_change_above_the_workspace_counts_but_the_lock_that_the_pipeline_writes_does_not(
    checkout: Path,
) -> None:
    workspace = checkout / "runs" / "one"
    workspace.mkdir(parents=True)
    (workspace / "dvc.lock").write_text("stages: {}\n")
    (checkout / "dvc.lock").write_text(LOCK.format(data="bb"))
    assert provenance_tags(workspace, code=workspace)["git.dirty"] == "false"
    (checkout / "params.yaml").write_text("")
    assert provenance_tags(workspace, code=workspace)["git.dirty"] == "true"


def test_without_git_or_dvc_every_fact_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tags = provenance_tags(tmp_path, code=tmp_path)
    assert set(tags) == {"git.sha", "git.dirty", "dvc.data.md5", "dvc.lock.md5", "params.sha256"}
    assert set(tags.values()) == {"unknown"}


def test_outside_a_checkout_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance_tags(tmp_path, code=tmp_path)["git.sha"] == "unknown"
    assert provenance_tags(tmp_path, code=tmp_path)["git.dirty"] == "unknown"


def test_the_commit_is_that_of_the_code_wherever_the_workspace_lies(checkout: Path, tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "featherface").mkdir(parents=True)
    (code / "featherface" / "__init__.py").write_text("")
    git(code, "init", "-q")
    assert provenance_tags(checkout, code=code)["git.sha"] == git(checkout, "rev-parse", "HEAD")
    git(code, "add", "-A")
    git(code, "commit", "-q", "-m", "Code")
    tags = provenance_tags(checkout, code=code)
    assert tags["git.sha"] == git(code, "rev-parse", "HEAD")
    assert tags["git.dirty"] == "false"
    (code / "featherface" / "new.py").write_text("")
    assert provenance_tags(checkout, code=code)["git.dirty"] == "true"


def test_a_repository_without_a_commit_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert provenance_tags(tmp_path, code=tmp_path)["git.sha"] == "unknown"


def test_the_digest_of_a_stage_follows_its_own_entry_alone(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(LOCK.format(data="aa"))
    before = stage_lock_md5(tmp_path, "evaluate"), stage_lock_md5(tmp_path, "evaluate_teacher")
    lock.write_text(LOCK.format(data="bb"))
    after = stage_lock_md5(tmp_path, "evaluate"), stage_lock_md5(tmp_path, "evaluate_teacher")

    assert None not in before
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_a_stage_that_never_ran_has_no_digest(tmp_path: Path) -> None:
    assert stage_lock_md5(tmp_path, "evaluate") is None
    (tmp_path / "dvc.lock").write_text(LOCK.format(data="aa"))
    assert stage_lock_md5(tmp_path, "eval") is None
    assert stage_lock_md5(tmp_path, "stages") is None
