"""A registered version made again from its own commit is the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tiny_workspace import FEATHERFACE, GENEROUS, TINY, environment

from featherface.config import Config, dump_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROJECT = Path(__file__).resolve().parents[2]


def in_clone(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FEATHERFACE, *arguments],
        cwd=clone, env=environment() | {"PYTHONPATH": str(clone)},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_a_version_can_be_made_again(tmp_path: Path) -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("no repository around the project")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
    root = clone / "workspaces" / "tiny"
    root.mkdir(parents=True)
    (root / "params.yaml").write_text(dump_config(Config.model_validate(TINY | {"promote": GENEROUS})))
    made = in_clone(clone, "pipeline", "--root", str(root))
    assert made.returncode == 0, made.stderr
    asked = ("registry", "reproduce", "1", "--root", str(root), "--target", str(tmp_path / "again"))
    again = in_clone(clone, *asked)
    assert again.returncode == 0, again.stderr + again.stdout
    assert "version 1: the same file, byte by byte; all" in again.stdout
    assert "metrics are equal" in again.stdout
    repeated = in_clone(clone, *asked)
    assert repeated.returncode == 2
    assert "again: is there already; give a new folder" in repeated.stderr
    changed = clone / "featherface" / "cli" / "demo.py"  # no stage watches it, so nothing is trained again
    changed.write_text(changed.read_text() + "\n")
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("opset: 18", "opset: 19"))
    assert in_clone(clone, "pipeline", "--root", str(root)).returncode == 0
    refused = in_clone(clone, "registry", "reproduce", "2", "--root", str(root))
    assert refused.returncode == 2
    assert "version 2: was made with changes that were not committed" in refused.stderr
