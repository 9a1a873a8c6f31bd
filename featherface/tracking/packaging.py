"""What is registered: the ONNX file, the code that runs it and a signature; complete without this project."""

from __future__ import annotations

import base64
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

import featherface
from featherface.tracking.served_params import params_schema

ONNX_NAME = "featherface.onnx"
INPUT = "images"

IMAGE_COLUMN = "image"
_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
FACE_COLUMNS = ("x1", "y1", "x2", "y2", "score", *(f"{point}_{axis}" for point in _POINTS for axis in "xy"))

_CODE_FILE = Path(__file__).with_name("pyfunc_model.py")
_NOT_FOR_DETECTING = frozenset(
    [
        "bundles",
        "claims",
        "cli",
        "comparison",
        "data",
        "demo",
        "deployment",
        "distillation",
        "evaluation",
        "export",
        "losses",
        "monitoring",
        "profiles",
        "stages",
        "training",
        "trials",
        "weights",
    ]
)
# What a server of the model needs, and no more: no torch.
_REQUIREMENTS = (
    "mlflow",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pydantic",
    "pyyaml",
    "simplejpeg",
)


def signature() -> ModelSignature:
    """Any number of images in, a row of sixteen numbers a face out; two options of the detector as params.

    The one type of MLflow's that lets both texts (files in base64) and arrays (pixels) pass is a vector of
    objects: of such a tensor MLflow checks the name alone, and `read_served_image` the rest.
    """
    images = TensorSpec(np.dtype("object"), (-1,), INPUT)
    faces: list[ColSpec | TensorSpec] = [
        ColSpec("integer", IMAGE_COLUMN),
        *(ColSpec("float", name) for name in FACE_COLUMNS),
    ]
    return ModelSignature(inputs=Schema([images]), outputs=Schema(faces), params=params_schema())


def save_pyfunc(onnx_path: Path, folder: Path, *, model: Model | None = None) -> None:
    """Write the model folder that MLflow loads and serves.

    Args:
        onnx_path: the exported detector; its copy is called `featherface.onnx`.
        folder: where; must not exist or be empty.
        model: ties the folder to a run and a logged model.
    """
    with warnings.catch_warnings():
        # Importing MLflow's model flavors warns about type hints of its own code.
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

    with tempfile.TemporaryDirectory() as scratch:
        named = Path(scratch) / ONNX_NAME
        shutil.copyfile(onnx_path, named)
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(_CODE_FILE),
            artifacts={"onnx": str(named)},
            code_paths=[str(_copy_code(Path(scratch)))],
            signature=signature(),
            input_example={INPUT: np.array([_example_image()], dtype=object)},
            # Named here: MLflow would otherwise start a process to find out.
            pip_requirements=[f"{name}=={version(name)}" for name in _REQUIREMENTS],
            mlflow_model=model,
        )


def log_model(
    client: MlflowClient,
    run_id: str,
    onnx_path: Path,
    *,
    name: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    extras: Mapping[str, Path] | None = None,
) -> str:
    """Keep an exported detector as a model of a run, with its own numbers.

    Args:
        client: where.
        run_id: the run that made it.
        onnx_path: the exported file.
        name: what the model is called.
        metrics: noted with this model alone: without its id MLflow would give them to every model of the run.
        tags: where it came from.
        extras: other files to keep with it, by the name they get; nothing of theirs is needed to detect.

    Returns:
        The id of the logged model, ready for use.
    """
    run = client.get_run(run_id)
    model = client.create_logged_model(
        run.info.experiment_id, name=name, source_run_id=run_id, tags=dict(tags), model_type="onnx-detector"
    )
    try:
        with tempfile.TemporaryDirectory() as scratch:
            description = Model(run_id=run_id, model_id=model.model_id, artifact_path=model.artifact_location)
            save_pyfunc(onnx_path, Path(scratch) / "model", model=description)
            for file, source in (extras or {}).items():
                shutil.copyfile(source, Path(scratch) / "model" / file)
            client.log_model_artifacts(model.model_id, str(Path(scratch) / "model"))
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        _log_metrics(client, run_id, model.model_id, metrics)
    except BaseException:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def log_measurement(
    client: MlflowClient,
    run_id: str,
    model_id: str,
    *,
    metrics: Mapping[str, float],
    extras: Mapping[str, Path],
) -> None:
    """Keep what a later run measured of a logged model beside what is there; nothing is overwritten.

    Args:
        client: where.
        run_id: the run that measured.
        model_id: of the logged model.
        metrics: its numbers.
        extras: its files, by the name they get, in `measured_folder(run_id)`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for file, source in extras.items():
            shutil.copyfile(source, Path(scratch) / file)
        client.log_model_artifacts(model_id, scratch, measured_folder(run_id))
    _log_metrics(client, run_id, model_id, metrics)


def measured_folder(run_id: str) -> str:
    """Where the extras of a later measurement lie, below the logged model."""
    return f"measured/{run_id}"


def _log_metrics(client: MlflowClient, run_id: str, model_id: str, metrics: Mapping[str, float]) -> None:
    now_ms = time.time_ns() // 1_000_000
    points = [
        Metric(key, float(value), now_ms, 0, model_id=model_id, run_id=run_id)
        for key, value in metrics.items()
    ]
    client.log_batch(run_id, metrics=points)


def _example_image() -> str:
    """A small grey picture as clients send one."""
    encoded = cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1]
    return base64.b64encode(encoded.tobytes()).decode("ascii")


def _copy_code(scratch: Path) -> Path:
    """What detecting needs of this package: every file is a request to the server that keeps the model."""
    package = Path(featherface.__file__).parent
    target = scratch / package.name

    def ignore(folder: str, names: list[str]) -> set[str]:
        is_top = Path(folder) == package
        return {name for name in names if name == "__pycache__" or (is_top and name in _NOT_FOR_DETECTING)}

    shutil.copytree(package, target, ignore=ignore)
    return target
