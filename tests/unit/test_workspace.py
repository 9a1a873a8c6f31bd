"""A new workspace takes what it is told; an old one is not changed behind its owner's back."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_disk import fill_disk

from featherface.config import load_config, load_profile
from featherface.errors import ConfigError, DataError, ModelError
from featherface.stages.base import Workspace
from pipelines.workspace import IMPORTED_STUDENT, bring_data, prepare_workspace, sync_dvc_yaml

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


def test_a_profile_need_not_be_named_like_its_photographs(tmp_path: Path) -> None:
    source, given = tmp_path / "source", tmp_path / "given.safetensors"
    given.write_bytes(b"weights")
    for split in ("train", "val"):
        picture = source / f"WIDER_{split}/images/0--Parade/a.jpg"
        picture.parent.mkdir(parents=True)
        picture.write_bytes(b"picture")
        annotations = source / f"wider_face_split/wider_face_{split}_bbx_gt.txt"
        annotations.parent.mkdir(exist_ok=True)
        annotations.write_text("0--Parade/a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n", encoding="utf-8")

    (source / "ground_truth").mkdir()
    for name in ("face", "easy", "medium", "hard"):
        (source / f"ground_truth/wider_{name}_val.mat").write_bytes(b"matrix")

    def prepare(root: Path, profile: str) -> None:
        prepare_workspace(root, profile=profile, data=source, teacher=given, student=given)

    root = tmp_path / "workspace"
    prepare(root, "widerface-continue")
    config = load_config(root / "params.yaml")
    assert config.distill.initial_weights == IMPORTED_STUDENT
    assert config.distill.logit_weight > load_profile("widerface").distill.logit_weight
    prepare(root, "widerface-continue")
    assert load_config(root / "params.yaml") == config
    details = tmp_path / "details"
    prepare(details, "widerface-details")
    assert load_config(details / "params.yaml").distill.learn == "details"
    with pytest.raises(ConfigError, match=r"data\.source is 'widerface', asked for profile 'synthetic'"):
        prepare_workspace(root, profile="synthetic", data=None, teacher=None)


def test_photographs_that_a_drawn_workspace_would_not_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--data \S+photos would not be read: .* --profile widerface"):
        prepare_workspace(
            tmp_path / "new", profile="synthetic", data=tmp_path / "photos", teacher=None, settings=SMALL
        )
    assert not any((tmp_path / "new").iterdir())


def test_a_student_to_go_on_from_is_asked_for_before_anything_is_made(tmp_path: Path) -> None:
    given, root = tmp_path / "teacher.safetensors", tmp_path / "new"
    given.write_bytes(b"weights")
    with pytest.raises(DataError, match=r"student\.safetensors: .* is not there; give --student FILE"):
        prepare_workspace(root, profile="widerface-continue", data=tmp_path, teacher=given)
    named = SMALL | {"distill.initial_weights": "mistyped.safetensors"}
    with pytest.raises(DataError, match=r"mistyped\.safetensors: the student to go on from is not there"):
        prepare_workspace(root, profile="synthetic", data=None, teacher=None, settings=named)
    assert not (root / "params.yaml").exists()
    assert not (root / "data").exists()


def test_on_a_full_disk_dvc_yaml_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, path = load_profile("synthetic"), tmp_path / "dvc.yaml"
    assert sync_dvc_yaml(tmp_path, config)
    before = path.read_text().replace("report", "rapport")
    path.write_text(before)
    fill_disk(monkeypatch, "dvc.yaml")
    with pytest.raises(ModelError, match=r"dvc\.yaml: cannot be written \(No space left"):
        sync_dvc_yaml(tmp_path, config)
    assert path.read_text() == before, "cut, it would not be known as ours again"


def test_on_a_full_disk_a_stage_leaves_what_was_there_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    workspace.write_json("artifacts/metrics.json", {"a": 1})
    fill_disk(monkeypatch, "metrics.json")
    with pytest.raises(ModelError, match=r"metrics\.json: cannot be written \(No space left"):
        workspace.write_json("artifacts/metrics.json", {"a": 2})
    assert workspace.read_json("artifacts/metrics.json") == {"a": 1}
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["metrics.json"]


def test_recorded_data_whose_remote_is_away_are_not_said_to_be_unknown(tmp_path: Path) -> None:
    md5 = "0123456789abcdef0123456789abcdef.dir"
    remote = "http://ann:secret@127.0.0.1:9/data"
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(
        f"[core]\nno_scm = true\nremote = far\n['remote \"far\"']\nurl = {remote}\n"
    )
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {md5}\n  hash: md5\n  path: data\n")
    with pytest.raises(DataError) as refused:
        bring_data(tmp_path, load_profile("widerface"), source=None)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'data.dvc'}: its version {md5} cannot be fetched from http://127")
    assert message.endswith("; start the remote if it is away, or give the photographs with --data DIR")
    assert "secret" not in message
