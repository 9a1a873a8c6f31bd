"""Plans of short trainings: what they may name, what a cell leaves, and the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from featherface.data.synthetic import synthesize_dataset
from featherface.data.widerface import Annotation, Sample
from featherface.errors import ConfigError
from featherface.evaluation.development import development_ground_truth
from featherface.inference.weights import save_weights
from featherface.models.build import build_model
from featherface.trials.plan import read_cells
from featherface.trials.run import run_plan, table

ROOT = Path(__file__).resolve().parents[2]
TINY = """
profile: synthetic
seeds: [1, 2]
common:
  evaluate.num_threads: 1
  distill.train: {epochs: 1, batch_size: 4, image_size_px: 64, num_threads: 1}
development: {fraction: 0.25, image_size: 64, scale: 1.0}
cells:
  base: {}
  twin: {distill.enabled: false, model.innovations: []}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_cells_change_what_they_name_and_nothing_else(tmp_path: Path) -> None:
    wide_crops = "{distill.train.augment.crop_scale_max: 2}"
    text = f"common: {{distill.train.epochs: 3}}\ncells: {{base: {{}}, wide: {wide_crops}}}\n"
    base, wide = read_cells(write(tmp_path / "plan.yaml", text))
    assert (base.label, wide.label) == ("base-seed1", "wide-seed1")
    assert base.config.distill.train.epochs == wide.config.distill.train.epochs == 3
    assert wide.config.distill.train.augment.crop_scale_max == 2
    train = base.config.distill.train
    augment = train.augment.model_copy(update={"crop_scale_max": 2.0})
    assert wide.config.distill.train == train.model_copy(update={"augment": augment})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cells: {}", "key 'cells'"),
        (
            "cells: {a: {distil.train.epochs: 3}}",
            "'distil.train.epochs' is not in params.yaml; known here: synth",
        ),
        (
            "cells: {a: {distill.train.epoch: 3}}",
            "key 'distill.train.epoch' is not in params.yaml; known here: epochs",
        ),
        ("cells: {a: {distill.train.epochs.most: 3}}", "'epochs' has no keys below it"),
        (
            "cells: {a: {distill.train.epochs: many}}",
            "cell 'a': key 'distill.train.epochs': Input should be a valid",
        ),
        ("cells: {../a: {}}", "key 'cells.../a.[key]'"),
        ("cells: {a: {}}\nseed: 3", "unknown key 'seed'; allowed here: profile"),
        ("profile: none\ncells: {a: {}}", "there is no such profile"),
        ("development: {fraction: 0}\ncells: {a: {}}", "key 'development.fraction'"),
        ("development: {fraction: 1}\ncells: {a: {}}", "key 'development.fraction'"),
    ],
)
def test_what_a_plan_must_not_say_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_cells(write(tmp_path / "plan.yaml", text))
    assert problem in str(refused.value)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_plans_of_the_project_can_be_read(path: Path) -> None:
    assert read_cells(path)


@pytest.mark.slow
def test_a_plan_is_run_once_and_its_cells_do_not_depend_on_each_other(tmp_path: Path) -> None:
    data, teacher, plan = (
        tmp_path / "data",
        tmp_path / "teacher.safetensors",
        write(tmp_path / "plan.yaml", TINY),
    )
    synthesize_dataset(data, num_train=12, num_val=1, image_hw=(120, 160), seed=3, num_workers=1)
    save_weights(teacher, build_model("v1-487k"), architecture="v1-487k")
    first = run_plan(plan, data=data, teacher=teacher, folder=tmp_path / "out")
    results = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("out/*/result.json")}
    assert results.keys() == {"base-seed1", "twin-seed1", "base-seed2", "twin-seed2"}
    assert results["base-seed1"]["metrics"]["dev/images"] == 3
    assert first.count("\n| ") == 3
    assert "| twin | " in first
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/student.safetensors")}
    weights = (tmp_path / "out/twin-seed2/student.safetensors").read_bytes()
    (tmp_path / "out/twin-seed2/result.json").unlink()
    assert run_plan(plan, data=data, teacher=teacher, folder=tmp_path / "out").count("\n| ") == 3
    again = {path: path.stat().st_mtime_ns for path in stamps}
    assert {path.parent.name for path in stamps if stamps[path] != again[path]} == {"twin-seed2"}
    assert (tmp_path / "out/twin-seed2/student.safetensors").read_bytes() == weights
    # Looked at in another size, students are judged again and not trained again.
    write(plan, TINY.replace("image_size: 64, scale", "image_size: 96, scale"))
    smaller = run_plan(plan, data=data, teacher=teacher, folder=tmp_path / "out")
    assert "long side 96 px" in smaller
    assert {path: path.stat().st_mtime_ns for path in stamps} == again
    before, after = results["base-seed1"], json.loads((tmp_path / "out/base-seed1/result.json").read_text())
    assert after["trained_by"] == before["trained_by"]
    assert after["judged_by"] != before["judged_by"]
    assert after["metrics"].keys() == before["metrics"].keys()
    assert after["metrics"]["train/seconds"] == before["metrics"]["train/seconds"]


def test_table_gives_differences_with_their_interval(tmp_path: Path) -> None:
    cells = read_cells(write(tmp_path / "plan.yaml", "seeds: [1, 2, 3]\ncells: {a: {}, b: {}}"))

    def runs(*means: float) -> list[dict[str, float]]:
        common = {"model/params": 240_017.0, "model/multiply_adds_640": 5.4e8, "train/seconds": 90.0}
        return [
            {**{f"dev/ap_{name}": mean for name in ("easy", "medium", "hard", "mean")}, **common}
            for mean in means
        ]

    text = table({"a": runs(0.5, 0.6, 0.7), "b": runs(0.51, 0.62, 0.73)}, cells)
    assert "Seeds: 1, 2, 3." in text
    assert "| a | 240,017 | 540 | 60.00 | 60.00 | 60.00 | 60.00 |  | 1.5 |" in text
    # Differences 1, 2, 3: standard error 0.5774, t(2) = 4.3027.
    assert "| +2.00 (-0.48 to +4.48) |" in text


def test_levels_follow_height_at_the_benchmarks_scale() -> None:
    boxes = np.asarray(
        [[0, 0, 20, 32], [0, 0, 20, 20], [0, 0, 9, 7], [0, 0, 5, 5], [0, 0, 40, 40]], np.float32
    )
    attributes = np.zeros((5, 6), np.int8)
    attributes[4, 3] = 1  # invalid
    annotation = Annotation(
        image="0--Parade/a.jpg",
        boxes_xywh=boxes,
        attributes=attributes,
        landmarks_xy=np.zeros((5, 5, 2), np.float32),
        has_landmarks=np.zeros(5, np.bool_),
    )
    truth = development_ground_truth([Sample(Path("a.jpg"), annotation)], scale=1.6)
    assert truth.names == ("0--Parade/a",)
    assert truth.offsets.tolist() == [0, 5]
    assert {name: mask.tolist() for name, mask in truth.is_counted.items()} == {
        "easy": [True, False, False, False, False],
        "medium": [True, True, False, False, False],
        "hard": [True, True, True, False, False],
    }
    assert development_ground_truth([]).boxes_xywh.shape == (0, 4)
