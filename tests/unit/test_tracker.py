"""The tracker that keeps nothing, and names of nested parameters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from featherface.tracking.tracker import NullTracker, Tracker, flatten_params


def test_nested_parameters_get_dotted_names_and_json_values() -> None:
    params = {
        "train": {"lr": 0.002, "loss": {"box_weight": 2.0}, "sizes": (1, 2), "weights": None},
        "model": "v2-ultra",
        "enabled": True,
        "empty": {},
        "where": Path("data"),
    }
    assert flatten_params(params) == {
        "train.lr": "0.002",
        "train.loss.box_weight": "2.0",
        "train.sizes": "[1, 2]",
        "train.weights": "null",
        "model": "v2-ultra",
        "enabled": "true",
        "empty": "{}",
        "where": '"data"',
    }


def test_two_parameters_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two parameters are called 'a\.b'"):
        flatten_params({"a.b": 1, "a": {"b": 2}})


def test_the_null_tracker_takes_every_note_and_has_no_run(tmp_path: Path) -> None:
    tracker: Tracker = NullTracker()
    tracker.log_params({"a": 1})
    tracker.log_metric("train/loss", 1.0, step=3)
    tracker.log_metrics({"val/ap": 0.5})
    tracker.log_artifact(tmp_path / "missing")
    tracker.set_tags({"a": "b"})
    tracker.log_dataset("synthetic", "0" * 36, "data")
    assert tracker.run_id is None


def test_what_stages_and_the_gate_import_loads_neither_mlflow_nor_torch() -> None:
    code = (
        "import sys; import featherface.tracking.tracker, featherface.tracking.provenance, pipelines.gate; "
        "print([name for name in ('mlflow', 'torch', 'prefect', 'pandas') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert run.stdout.strip() == "[]"
