"""The weights in the package: small, described, and good enough for a portrait nobody trained on."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from featherface import FaceDetector
from featherface.imaging import read_image
from featherface.inference.loading import SHIPPED_WEIGHTS

WEIGHTS = Path(str(resources.files("featherface"))) / "weights"
# Eileen Collins's face in NASA's portrait, drawn around by eye: left, top, right, bottom.
FACE_XYXY = np.array([174.0, 60.0, 280.0, 204.0])
MAX_BYTES = 2**20  # one megabyte, as the README says
MAX_NUMBERS = 244_999


@pytest.fixture(scope="module")
def portrait() -> Path:
    skimage = pytest.importorskip("skimage")
    return Path(skimage.__file__).parent / "data" / "astronaut.png"


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(sides.clip(0).prod())
    return shared / (float((a[2:] - a[:2]).prod()) + float((b[2:] - b[:2]).prod()) - shared)


def test_each_file_is_small() -> None:
    assert (Path(str(resources.files("featherface"))) / SHIPPED_WEIGHTS).is_file()
    for name in ("featherface.onnx", "featherface.safetensors"):
        assert (WEIGHTS / name).stat().st_size <= MAX_BYTES, name


def test_the_file_holds_no_more_numbers_than_a_student_may_have() -> None:
    graph = onnx.load(WEIGHTS / "featherface.onnx").graph
    assert sum(math.prod(item.dims) for item in graph.initializer) <= MAX_NUMBERS


def test_the_card_names_the_files_by_their_digests_and_the_terms() -> None:
    card = (WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8")
    for name in ("featherface.onnx", "featherface.safetensors"):
        assert hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest() in card, f"run `make ship`: {name}"
    for word in ("WIDER FACE", "research only", "commit", "Limits", "blur: heavy", "occlusion: heavy"):
        assert word in card, word


def test_one_face_in_the_portrait_with_its_landmarks(portrait: Path) -> None:
    (face,) = FaceDetector()(portrait)
    assert face.score > 0.5
    assert overlap(np.asarray(face.box), FACE_XYXY) > 0.5
    left_eye, right_eye, nose, left_mouth, right_mouth = np.asarray(face.landmarks)
    assert left_eye[0] < nose[0] < right_eye[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_both_files_are_one_network(portrait: Path) -> None:
    image = read_image(portrait)
    onnx, torch = FaceDetector()(image), FaceDetector(WEIGHTS / "featherface.safetensors")(image)
    np.testing.assert_allclose(onnx.boxes, torch.boxes, atol=0.05)
    np.testing.assert_allclose(onnx.scores, torch.scores, atol=1e-3)


def test_a_photograph_is_enough_on_the_command_line(portrait: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "featherface", "detect", str(portrait), "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    ((found,),) = [result["faces"] for result in json.loads(done.stdout)]
    assert overlap(np.array(found["box_xyxy"]), FACE_XYXY) > 0.5


def test_the_face_can_be_cut_out_turned_upright_and_blurred(portrait: Path, tmp_path: Path) -> None:
    faces = FaceDetector()(portrait)
    (crop,) = faces.crop(margin=0.1)
    assert crop.shape[0] > crop.shape[1] > 80
    aligned = faces.align(112)
    assert aligned.shape == (1, 112, 112, 3)
    # Aligned again the face is where it was; blurred, what is left may be a head and no more than that.
    (again,) = FaceDetector(image_size=112)(aligned[0])
    assert np.asarray(again.landmarks)[0] == pytest.approx((38, 52), abs=8)
    assert faces[0].score > 0.99
    assert all(face.score < 0.6 for face in FaceDetector()(faces.blur()))
    assert json.loads(faces.to_json())["faces"][0]["score"] > 0.5
    done = subprocess.run(
        [sys.executable, "-m", "featherface", "detect", str(portrait), "--crops", "c", "--blurred", "b"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "faces cut out are in c" in done.stderr
    assert (tmp_path / "c" / "astronaut-1.png").is_file()
    assert (tmp_path / "b" / "astronaut.png").is_file()


def test_a_face_that_fills_a_large_picture_is_found_when_asked(portrait: Path) -> None:
    left, top, right, bottom = (int(value) for value in FACE_XYXY)
    face = read_image(portrait)[top - 20 : bottom + 20, left - 20 : right + 20]
    picture = cv2.resize(face, None, fx=14, fy=14, interpolation=cv2.INTER_CUBIC)
    place = FACE_XYXY - np.tile((left - 20, top - 20), 2)
    once = FaceDetector(image_size="original")(picture)
    assert not any(overlap(box / 14, place) > 0.5 for box in once.boxes)
    found = FaceDetector(image_size="original", close_ups=True)(picture)
    is_face = [overlap(box / 14, place) > 0.5 for box in found.boxes]
    assert is_face[0]
    assert sum(is_face) == 1


@pytest.mark.parametrize("level", [0, 32, 64, 128, 192, 255])
@pytest.mark.parametrize("shape", [(480, 640), (64, 96)])
def test_a_flat_picture_has_no_face(level: int, shape: tuple[int, int]) -> None:
    assert len(FaceDetector()(np.full((*shape, 3), level, dtype=np.uint8))) == 0
