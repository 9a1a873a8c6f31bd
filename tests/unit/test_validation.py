"""What a check of a data set finds, counts and draws."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from featherface.cli import main
from featherface.config import Config
from featherface.data.synthetic import synthesize_dataset
from featherface.data.validation import ValidationReport, validate_dataset
from featherface.data.validation_plot import plot_validation
from featherface.data.widerface import annotation_path, images_dir
from featherface.errors import DataError
from featherface.imaging import read_image, write_image
from featherface.stages import STAGES
from featherface.stages.base import Workspace

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "widerface"

TRAIN = """\
e/good.png
6
-3 5 10 10 0 0 0 0 0 0
-0.5 5 80.9 10 0 0 0 0 0 0
2 3 20 10 0 0 0 0 0 0
70 30 30 10 0 0 0 1 0 0
100 5 10 10 0 0 0 0 0 0
5 5 0 7 3 0 0 0 0 0
e/landmarks.png
1
2 3 20 300 0 0 0 0 0 0 1 1 2 2 3 3 4 4 5 5
e/empty.png
0
0 0 0 0 0 0 0 0 0 0
e/gone.png
1
1 1 5 5 0 0 0 0 0 0
e/broken.jpg
1
1 1 5 5 0 0 0 0 0 0
"""


def picture(seed: int, hw: tuple[int, int] = (40, 80)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


@pytest.fixture
def report(tmp_path: Path) -> ValidationReport:
    """A training split with one of every problem, and a validation image that repeats a training image."""
    for split, text in (("train", TRAIN), ("val", "e/copy.png\n1\n0 0 9 9 0 0 0 0 0 0\n")):
        path = annotation_path(tmp_path, split)  # type: ignore[arg-type]
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        (images_dir(tmp_path, split) / "e").mkdir(parents=True)  # type: ignore[arg-type]
    train, val = images_dir(tmp_path, "train") / "e", images_dir(tmp_path, "val") / "e"
    for name, seed in {"good": 0, "landmarks": 1, "empty": 2, "unannotated": 3, "again": 3}.items():
        write_image(train / f"{name}.png", picture(seed))
    (train / "broken.jpg").write_text("no picture")
    write_image(val / "copy.png", picture(1))
    return validate_dataset(tmp_path, num_threads=2)


def test_files_behind_each_problem_are_named(report: ValidationReport) -> None:
    train = report.splits["train"]
    assert train.missing == ("e/gone.png",)
    assert [name for name, _ in train.unreadable] == ["e/broken.jpg"]
    assert "is no JPEG" in train.unreadable[0][1]
    assert train.unannotated == ("e/again.png", "e/unannotated.png")
    assert report.splits["val"].missing == ()


def test_duplicates_are_grouped_and_leaks_between_splits_set_apart(report: ValidationReport) -> None:
    leak = ("train/e/landmarks.png", "val/e/copy.png")
    assert sorted(report.duplicates) == [("train/e/again.png", "train/e/unannotated.png"), leak]
    assert report.leaks == (leak,)
    assert not report.is_usable


def test_faces_are_counted_by_what_is_odd_about_them(report: ValidationReport) -> None:
    counts = report.splits["train"].counts()
    assert counts == {
        "images": 5,
        "missing images": 1,
        "unreadable images": 1,
        "damaged images": 0,
        "images without annotation": 2,
        "images without faces": 1,
        "faces": 9,
        "faces with landmarks": 1,
        "faces flagged invalid": 1,
        "boxes without area": 1,
        "boxes outside the image": 1,
        "boxes partly outside": 3,
        "unknown flag values": 1,
        "most faces in an image": 6,
    }


def test_faces_are_counted_by_height(report: ValidationReport) -> None:
    assert report.splits["train"].faces_by_height() == {
        "0-8": 3,
        "8-16": 5,
        "16-32": 0,
        "32-64": 0,
        "64-128": 0,
        "128-256": 0,
        "256+": 1,
    }


def test_report_is_json_with_sizes_and_files(report: ValidationReport) -> None:
    read_back = json.loads(json.dumps(report.to_dict()))
    train = read_back["splits"]["train"]
    assert train["image_sizes"] == {"80x40": 3}
    assert train["files"]["missing"] == ["e/gone.png"]
    assert train["faces_by_height_px"]["8-16"] == 5
    assert train["boxes_without_area"] == 1
    assert read_back["duplicates_across_splits"] == 1
    assert read_back["is_usable"] is False


def test_table_has_a_column_a_split_and_names_files(report: ValidationReport) -> None:
    table = report.table()
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert lines[0] == "train val"
    assert "images 5 1" in lines
    assert "train: missing: e/gone.png" in lines
    assert "in two splits: train/e/landmarks.png = val/e/copy.png" in lines
    assert "NOT usable" in lines[-1]


def make_clean(tmp_path: Path) -> Path:
    path = annotation_path(tmp_path, "val")
    path.parent.mkdir(parents=True)
    names = [f"e/{i}.png" for i in range(8)]
    path.write_text("".join(f"{name}\n1\n1 1 5 5 0 0 0 0 0 0\n" for name in names))
    (images_dir(tmp_path, "val") / "e").mkdir(parents=True)
    for seed, name in enumerate(names):
        write_image(images_dir(tmp_path, "val") / name, picture(seed, (8, 8)))
    return tmp_path


def test_clean_split_alone_is_usable(tmp_path: Path) -> None:
    report = validate_dataset(make_clean(tmp_path))
    assert report.is_usable
    assert list(report.splits) == ["val"]
    assert report.table().endswith(": usable")


def test_a_damaged_photograph_is_named_and_used(tmp_path: Path) -> None:
    root = make_clean(tmp_path)
    photograph = images_dir(root, "val") / "e" / "0.png"  # what it is, its content says
    write_image(photograph.with_suffix(".jpg"), picture(9, (64, 64)))
    data = photograph.with_suffix(".jpg").read_bytes()
    photograph.with_suffix(".jpg").unlink()
    photograph.write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 200 :])
    report = validate_dataset(root)
    assert report.is_usable
    assert report.splits["val"].counts()["damaged images"] == 1
    assert "val: damaged: " in report.table()
    assert [told["image"] for told in report.to_dict()["splits"]["val"]["files"]["damaged"]] == ["e/0.png"]


def test_long_lists_are_cut_in_the_table_but_not_in_the_json(tmp_path: Path) -> None:
    root = make_clean(tmp_path)
    for path in (images_dir(root, "val") / "e").iterdir():
        path.unlink()
    report = validate_dataset(root)
    assert "val: missing: and 3 more" in report.table()
    assert len(report.to_dict()["splits"]["val"]["files"]["missing"]) == 8


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: is no folder; a data set in WIDER FACE layout"):
        validate_dataset(tmp_path / "nowhere")


def test_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no wider_face_split/wider_face_train_bbx_gt\.txt nor"):
        validate_dataset(tmp_path)


def test_plot_is_a_picture_with_both_splits_colors(report: ValidationReport, tmp_path: Path) -> None:
    plot_validation(report, tmp_path / "plot.png")
    drawn = read_image(tmp_path / "plot.png")
    assert drawn.shape[1] > 1000
    for color in [(0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)]:
        assert (np.abs(drawn.astype(int) - color).max(axis=2) < 8).sum() > 50


def test_plot_of_no_readable_image_is_drawn_all_the_same(tmp_path: Path) -> None:
    root = make_clean(tmp_path)
    for path in (images_dir(root, "val") / "e").iterdir():
        path.unlink()
    plot_validation(validate_dataset(root), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["file/plot.png", "plot.docx"])
def test_plot_that_cannot_be_written_is_refused(report: ValidationReport, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"plot\.\w+: the plot cannot be written \("):
        plot_validation(report, tmp_path / name)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "data"
    synthesize_dataset(root, num_train=2, num_val=2, image_hw=(96, 128), seed=1, num_workers=1)
    return root


@pytest.fixture
def workspace(drawn: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(drawn, tmp_path / "data")
    return Workspace(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "content", "words"),
    [
        ("*/wider_hard*", None, r"lacks ground_truth/wider_hard_val\.mat \(of eval_tools\.zip"),
        ("*/wider_hard*", b"cut", r"wider_hard_val\.mat: is no readable \.mat file"),
        ("*/*train_bbx*", None, r"wider_face_train_bbx_gt\.txt \(of wider_face_split\.zip"),
        ("*/*train_bbx*", b"", "the annotations of train name no photograph"),
        ("*/*val_bbx*", b"\n", "the annotations of val name no photograph"),
        ("*/*val_bbx*", b"e/x.jpg\n0\n", "1 of 1 images are not in the ground truth"),
    ],
)
def test_data_by_which_no_student_can_be_judged_are_refused_before_any_training(
    workspace: Workspace, pattern: str, content: bytes | None, words: str
) -> None:
    (path,) = (workspace.root / "data").glob(pattern)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        STAGES["validate"].run(Config(), workspace)


def test_a_whole_data_set_passes_the_stage(workspace: Workspace) -> None:
    assert STAGES["validate"].run(Config(), workspace).metrics["data/val_images"] == 2


def test_a_data_set_without_ground_truth_is_usable_and_said_to_be_for_trials_alone(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(workspace.root / "data/ground_truth")
    with pytest.raises(SystemExit) as left:
        main(["data", "validate", str(workspace.root / "data")])
    told = capsys.readouterr()
    assert not left.value.code
    assert told.out.endswith("data: usable\n")
    assert "data: lacks ground_truth/wider_face_val.mat, " in told.err
    assert "(of eval_tools.zip); `featherface pipeline` needs it, `featherface trials` only" in told.err


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the research photographs are not beside the project")
def test_real_validation_event_is_clean(tmp_path: Path) -> None:
    path = annotation_path(tmp_path, "val")
    path.parent.mkdir()
    path.write_bytes(annotation_path(SHARED, "val").read_bytes())
    event = images_dir(tmp_path, "val") / "0--Parade"
    event.parent.mkdir(parents=True)
    event.symlink_to(images_dir(SHARED, "val") / "0--Parade")
    val = validate_dataset(tmp_path).splits["val"]
    num_files = len(list(event.iterdir()))
    assert num_files > 5
    assert len(val.image_wh) == num_files
    assert (val.image_wh[:, 0] == 1024).all()
    assert val.unreadable == val.unannotated == ()
    assert val.num_outside_faces == 0
