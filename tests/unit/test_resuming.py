"""For what a stage's checkpoint counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherface.config import DataConfig, RescoreConfig
from featherface.data.widerface import annotation_path
from featherface.stages.base import Workspace
from featherface.stages.resuming import checkpointing_of


def fingerprint(root: Path, rescore: RescoreConfig) -> str:
    return checkpointing_of(
        "rescore", workspace=Workspace(root), data=DataConfig(), sections=(rescore,)
    ).fingerprint


@pytest.mark.parametrize("changed", ["parameters", "data.dvc", "annotations"])
def test_a_checkpoint_counts_for_these_parameters_and_photographs_only(tmp_path: Path, changed: str) -> None:
    annotations = annotation_path(tmp_path / "data", "train")
    annotations.parent.mkdir(parents=True)
    annotations.write_text("one")
    rescore = RescoreConfig()
    before = fingerprint(tmp_path, rescore)
    assert fingerprint(tmp_path, rescore) == before
    if changed == "parameters":
        rescore = rescore.model_copy(update={"epochs": rescore.epochs + 1})
    elif changed == "data.dvc":
        (tmp_path / "data.dvc").write_text(
            "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: data\n"
        )
    else:
        annotations.write_text("two")
    assert fingerprint(tmp_path, rescore) != before
