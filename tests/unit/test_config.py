"""params.yaml: what a stage could not use is refused before it starts, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherface.config import load_config
from featherface.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train_teacher: {epocs: 3}", "unknown key 'train_teacher.epocs'; allowed here: epochs, batch_size"),
        ("train_teacher: {epochs: many}", "key 'train_teacher.epochs': Input should be a valid integer"),
        ("train_teacher: {lr: .nan}", "key 'train_teacher.lr': .*, got nan"),
        (
            "train_teacher: {seed: -1}",
            "'train_teacher.seed': .* greater than or equal to 0, got -1",
        ),
        (
            "distill: {train: {ema_decay: 1.0}}",
            "'distill.train.ema_decay': .* less than 1, got 1.0",
        ),
        (
            "distill: {train: {loss: {match_iou_threshold: 0}}}",
            "threshold': .* greater than 0, got 0",
        ),
        ("teacher: {architecture: v2-ultra}", "'teacher.architecture': Input should be 'v1' or 'v1-487k'"),
        (
            "distill: {train: {augment: {crop_scale_min: 2.0, crop_scale_max: 0.5}}}",
            r"crop_scale_max': must not be below crop_scale_min \(2\), got 0.5",
        ),
        ("synthesize: {seed: -3}", "key 'synthesize.seed'"),
        (
            "data: {root: photos}",
            "key 'data.root': DVC tracks the workspace's folder 'data' and no other; set it to data, .*, "
            "got 'photos'",
        ),
        ("[1, 2]", "a mapping of sections is needed, got a list"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_what_no_stage_could_use_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words) as refused:
        load_config(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("root", ["data", "data/", "./data"])
def test_the_tracked_folder_may_be_written_in_any_way(tmp_path: Path, root: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"data: {{root: {root}}}", encoding="utf-8")
    assert load_config(path).data.root == root
