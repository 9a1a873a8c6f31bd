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
