"""What users import stays importable, and costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import featherface


def test_public_names_are_these() -> None:
    assert featherface.__all__ == [
        "Face",
        "FaceDetector",
        "Faces",
        "FeatherFaceError",
        "build_model",
        "load_config",
        "load_model",
        "load_public_v1",
    ]


@pytest.mark.parametrize("name", featherface.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(featherface, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = featherface.nonsense


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = (
        "import sys, featherface; heavy = {'torch', 'numpy', 'cv2', 'onnxruntime'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_first_faces_import_nothing_that_they_do_not_need() -> None:
    code = (
        "import sys, numpy as np; from featherface import FaceDetector; "
        "faces = FaceDetector(num_threads=1)(np.full((64, 64, 3), 99, np.uint8)); "
        "faces.plot(); faces.to_json(); "
        "heavy = {'torch', 'mlflow', 'prefect', 'dvc', 'pandas', 'matplotlib', 'scipy', 'skimage', "
        "'jaxtyping', 'pydantic', 'typer', 'yaml', 'tqdm', 'asyncio', 'unittest', 'ssl'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("first", "expected"), [("jaxtyping", "jaxtyping"), ("sys", "numpy")])
def test_shapes_are_checked_where_jaxtyping_is_loaded_and_free_elsewhere(first: str, expected: str) -> None:
    code = (
        f"import {first}, numpy; from featherface.shapes import Float32; "
        "print(Float32[numpy.ndarray, 'P 4'].__module__.partition('.')[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
