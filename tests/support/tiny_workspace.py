"""A pipeline on a few drawn scenes, run as a person runs it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

FEATHERFACE = [str(Path(sys.executable).parent / "featherface")]
TINY_TRAINING = {"epochs": 2, "batch_size": 4, "image_size_px": 64, "num_threads": 1}
# An untrained network with untrained statistics answers with large numbers, so its differences are large too.
TINY = {
    # Exporting takes half of the time with one innovation instead of five; test_export_onnx has all of them.
    "model": {"innovations": ["dynamic_weight_sharing"]},
    "synthesize": {"num_train": 8, "num_val": 4, "image_hw": [120, 160], "seed": 3},
    "train_teacher": TINY_TRAINING,
    "distill": {"train": TINY_TRAINING},
    "rescore": {"long_sides_px": [160], "epochs": 1, "num_threads": 1},
    "evaluate": {"num_threads": 1},
    "export": {"parity_tolerance": 0.01, "parity_images": 1, "latency_size_px": 64},
    "promote": {"min_mean_ap": 0.99, "max_parity_error": 0.01},
}
# A gate through which whatever such a training gives comes.
GENEROUS = {"min_mean_ap": 0.0, "max_parity_error": 0.01, "max_latency_ratio": 100.0, "max_ap_drop": 1.0}


def environment() -> dict[str, str]:
    """As a person has it: with bytecode, and without what other tests told MLflow, which our children see."""
    others = ("MLFLOW_", "PREFECT_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}


def run_featherface(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FEATHERFACE, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=1500,  # a guard against hanging, on the slowest machine that we know
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
