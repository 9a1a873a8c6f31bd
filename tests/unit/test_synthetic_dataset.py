"""The procedural data set on disk: same bytes from the same seed, the files of WIDER FACE, all or nothing."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from featherface.data import synthetic
from featherface.data.synthetic import synthesize_dataset
from featherface.data.synthetic_layout import AnnotatedImage, belongs, format_annotations
from featherface.data.synthetic_scenes import SyntheticFace
from featherface.errors import DataError

SMALL: dict[str, Any] = {"num_train": 3, "num_val": 9, "image_hw": (160, 224), "seed": 4}
FACE = SyntheticFace((10.0, 20.5, 30.0, 60.25), ((1.0, 2.0),) * 5, 0, 1, 0, 2, 0, 1)
OFFICIAL_LISTS = {
    "event_list", "file_list", "face_bbx_list", "blur_label_list", "expression_label_list",
    "illumination_label_list", "invalid_label_list", "occlusion_label_list", "pose_label_list",
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "data"
    synthesize_dataset(root, **SMALL, num_workers=1)
    return root


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def parse(root: Path, split: str) -> dict[str, list[list[float]]]:
    """Read the text file in the way of the official tools, without our reader."""
    lines = (root / f"wider_face_split/wider_face_{split}_bbx_gt.txt").read_text().splitlines()
    faces: dict[str, list[list[float]]] = {}
    at = 0
    while at < len(lines):
        name, count = lines[at], int(lines[at + 1])
        rows = lines[at + 2 : at + 2 + max(1, count)]
        faces[name] = [[float(field) for field in row.split()] for row in rows][:count]
        if count == 0:
            assert rows == ["0 0 0 0 0 0 0 0 0 0"]
        at += 2 + len(rows)
    return faces


def test_the_layout_is_that_of_wider_face(dataset: Path) -> None:
    top = {path.name for path in dataset.iterdir()}
    assert top == {"WIDER_train", "WIDER_val", "wider_face_split", "ground_truth"}
    for split, count in (("train", 3), ("val", 9)):
        images = dataset / f"WIDER_{split}" / "images"
        on_disk = {path.relative_to(images).as_posix() for path in images.rglob("*.jpg")}
        assert on_disk == set(parse(dataset, split))
        assert len(on_disk) == count


def test_images_decode_to_the_size_asked_for_or_turned(dataset: Path) -> None:
    for path in dataset.rglob("*.jpg"):
        image = cv2.imread(str(path))
        assert image is not None
        assert image.shape in ((160, 224, 3), (224, 160, 3))


def test_rows_have_box_flags_and_five_landmarks(dataset: Path) -> None:
    rows = [row for faces in parse(dataset, "val").values() for row in faces]
    assert len(rows) > 15
    for row in rows:
        assert len(row) == 20
        assert all(value >= 0 or value == -1 for value in row)
    with_landmarks = sum(min(row[10:]) >= 0 for row in rows)
    assert with_landmarks > 0.7 * len(rows)


def test_two_processes_write_the_bytes_of_one(dataset: Path, tmp_path: Path) -> None:
    synthesize_dataset(tmp_path / "again", **SMALL, num_workers=2)
    assert digests(tmp_path / "again") == digests(dataset)


def test_another_seed_writes_other_images(dataset: Path, tmp_path: Path) -> None:
    synthesize_dataset(tmp_path / "other", **{**SMALL, "seed": 5}, num_workers=1)
    first, other = digests(dataset), digests(tmp_path / "other")
    assert set(first) == set(other)
    assert all(first[name] != other[name] for name in first)


def test_a_longer_data_set_begins_with_the_images_of_a_shorter_one(dataset: Path, tmp_path: Path) -> None:
    synthesize_dataset(tmp_path / "longer", **{**SMALL, "num_train": 4, "num_val": 1}, num_workers=1)
    first, longer = digests(dataset / "WIDER_train"), digests(tmp_path / "longer" / "WIDER_train")
    assert first.items() < longer.items()


def test_optimized_opencv_draws_the_same_and_is_left_as_it_was(dataset: Path, tmp_path: Path) -> None:
    cv2.setUseOptimized(True)
    threads = cv2.getNumThreads()
    synthesize_dataset(tmp_path / "again", **SMALL, num_workers=1)
    assert cv2.useOptimized()
    assert cv2.getNumThreads() == threads
    # With every instruction this machine has:
    rgb, _, optics = synthetic.render_photograph(SMALL["seed"], "train", 0, SMALL["image_hw"])
    _, content = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, optics.jpeg_quality])
    written = dataset / "WIDER_train" / "images" / "0--Street" / "0_Street_train_00000.jpg"
    assert written.read_bytes() == content.tobytes()


def test_mat_files_have_the_official_nesting_in_the_order_of_the_text(dataset: Path) -> None:
    text = parse(dataset, "val")
    for level in ("face", "easy", "medium", "hard"):
        content = loadmat(dataset / "ground_truth" / f"wider_{level}_val.mat")
        names = {name for name in content if name.endswith("_list")}
        assert names == OFFICIAL_LISTS | (set() if level == "face" else {"gt_list"})
        events = [str(cell[0][0]) for cell in content["event_list"]]
        assert content["face_bbx_list"].shape == (len(events), 1)
        listed = []
        for event, files, boxes in zip(events, content["file_list"], content["face_bbx_list"], strict=True):
            for file, faces in zip(files[0], boxes[0], strict=True):
                name = f"{event}/{file[0][0]}.jpg"
                listed.append(name)
                expected = np.array([row[:4] for row in text[name]]).reshape(-1, 4)
                np.testing.assert_allclose(faces[0], expected)
        assert listed == list(text)


def test_level_lists_count_faces_by_height_and_from_one(dataset: Path) -> None:
    text = parse(dataset, "val")
    kept = dict.fromkeys(("easy", "medium", "hard"), 0)
    for level, min_height in (("easy", 50), ("medium", 30), ("hard", 10)):
        content = loadmat(dataset / "ground_truth" / f"wider_{level}_val.mat")
        for event, files, lists in zip(
            content["event_list"], content["file_list"], content["gt_list"], strict=True
        ):
            for file, counted in zip(files[0], lists[0], strict=True):
                rows = text[f"{event[0][0]}/{file[0][0]}.jpg"]
                expected = [
                    number
                    for number, row in enumerate(rows, 1)
                    if row[3] >= min_height and not row[7] and (level != "easy" or row[8] < 2)
                ]
                assert counted[0].ravel().tolist() == expected
                kept[level] += len(expected)
    assert 0 < kept["easy"] < kept["medium"] < kept["hard"]


def test_mat_files_carry_no_date(dataset: Path) -> None:
    for path in (dataset / "ground_truth").iterdir():
        header = path.read_bytes()[:116]
        assert header == b"MATLAB 5.0 MAT-file, FeatherFace procedural data set".ljust(116)


def test_heavily_occluded_faces_are_never_easy_and_unusable_ones_never_count() -> None:
    levels = {level: belongs(FACE, level) for level in ("easy", "medium", "hard")}
    assert levels == {"easy": False, "medium": True, "hard": True}
    unusable = SyntheticFace((0.0, 0.0, 50.0, 60.0), ((1.0, 2.0),) * 5, 0, 0, 0, 0, 1, 0)
    assert not any(belongs(unusable, level) for level in ("easy", "medium", "hard"))


def test_a_row_is_formatted_in_the_official_order_and_landmarks_outside_are_unknown() -> None:
    landmarks = ((1.0, 2.0), (-3.0, 4.0), (5.0, 6.0), (7.0, 99.5), (9.0, 100.0))
    face = SyntheticFace((10.0, 20.5, 30.0, 60.25), landmarks,
                         blur=1, expression=0, illumination=1, occlusion=2, invalid=0, pose=1)  # fmt: skip
    text = format_annotations([AnnotatedImage("0--Street", "a.jpg", (100, 100), (face,))])
    assert text == (
        "0--Street/a.jpg\n1\n10.00 20.50 30.00 60.25 1 0 1 0 2 1 1.00 2.00 -1 -1 5.00 6.00 7.00 99.50 -1 -1\n"
    )


def test_a_folder_with_something_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="is not an empty folder; give a new one or delete it first"):
        synthesize_dataset(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    synthesize_dataset(tmp_path / "data", **{**SMALL, "num_val": 1}, num_workers=1)
    assert (tmp_path / "data" / "WIDER_val").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train": 0}, "at least one image per split is needed, got 0 for train and 9 for val"),
        ({"image_hw": (64, 640)}, "at least 96 px a side are needed, got 64x640"),
        ({"seed": -1}, "the seed must not be negative, got -1"),
        ({"num_workers": 0}, "at least one worker is needed, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        synthesize_dataset(tmp_path / "data", **{**SMALL, **change})
    assert not any(tmp_path.iterdir())


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(synthetic, "write_ground_truth", fail)
    with pytest.raises(OSError, match="disk full"):
        synthesize_dataset(tmp_path / "data", **SMALL, num_workers=1)
    assert not any(tmp_path.iterdir())


def test_the_remains_of_a_killed_run_are_removed_by_the_next(tmp_path: Path) -> None:
    killed = tmp_path / ".synthesizing-data-abc"
    killed.mkdir()
    (killed / "half.jpg").write_bytes(b"\xff\xd8")
    other = tmp_path / ".synthesizing-data2-abc"
    other.mkdir()
    synthesize_dataset(tmp_path / "data", **{**SMALL, "num_val": 1}, num_workers=1)
    assert {path.name for path in tmp_path.iterdir()} == {"data", ".synthesizing-data2-abc"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "leaves"), [(signal.SIGKILL, -9, True), (signal.SIGTERM, 143, False)]
)
def test_whoever_draws_ends_with_a_run_that_is_stopped(
    tmp_path: Path, number: int, code: int, leaves: bool
) -> None:
    command = [sys.executable, "-m", "featherface", "data", "synthesize", "data", "--train", "9999"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not any(tmp_path.rglob("*.jpg")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        process.communicate(timeout=60)  # those that draw have our end of the pipe, too
        assert process.returncode == code
    assert any(tmp_path.iterdir()) == leaves
