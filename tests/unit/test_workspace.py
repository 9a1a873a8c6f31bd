"""A new workspace takes what it is told; an old one is not changed behind its owner's back."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherface.config import load_config
from featherface.errors import ConfigError
from pipelines.workspace import IMPORTED_STUDENT, prepare_workspace

SMALL = {"synthesize.num_train": 2, "synthesize.num_val": 1, "synthesize.image_hw": [96, 128]}


def test_settings_and_a_student_make_a_workspace_and_change_none(tmp_path: Path) -> None:
    student, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    student.write_bytes(b"weights")
    other.write_bytes(b"others")
    root = tmp_path / "workspace"

    def prepare(student: Path | None, **settings: object) -> None:
        prepare_workspace(
            root, profile="synthetic", data=None, teacher=None, student=student, settings=SMALL | settings
        )

    prepare(student, **{"distill.train.epochs": 7})
    config = load_config(root / "params.yaml")
    assert config.distill.train.epochs == 7
    assert config.distill.initial_weights == IMPORTED_STUDENT
    assert (root / IMPORTED_STUDENT).read_bytes() == b"weights"
    assert IMPORTED_STUDENT in (root / "dvc.yaml").read_text(), "another student makes the training stale"

    prepare(student, **{"distill.train.epochs": 7})
    prepare(None)
    assert load_config(root / "params.yaml") == config
    with pytest.raises(ConfigError, match=r"is there already, and says otherwise than --set"):
        prepare(student, **{"distill.train.epochs": 8})
    with pytest.raises(ConfigError, match=r"goes on from another student than .*b\.safetensors"):
        prepare(other)
    assert (root / IMPORTED_STUDENT).read_bytes() == b"weights"
