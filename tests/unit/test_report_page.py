"""The page of an evaluation: self-contained, with every picture, for good and for hopeless detectors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from featherface.cli import main
from featherface.data.widerface import open_widerface
from featherface.errors import DataError
from featherface.evaluation import page, report_page
from featherface.evaluation.analysis import analyze
from featherface.evaluation.faults import Judged, surest_false, worst_misses
from featherface.evaluation.ground_truth import SETTINGS, WiderGroundTruth, load_ground_truth
from featherface.evaluation.predictions import read_predictions, read_testing
from featherface.evaluation.run import evaluate_dataset
from featherface.evaluation.views import Views
from featherface.imaging import write_image
from featherface.structures import Detections

# Of each image its faces; the image number i is as bright as 60 x i.
FACES = {"a": [[4, 4, 20, 24], [40, 4, 12, 12]], "b": [[30, 10, 16, 16]], "c": []}
WRONG = [2.0, 30, 12, 42]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three photographs in WIDER FACE layout, with official lists in which every face counts."""
    root = tmp_path / "data"
    lines = []
    for number, (name, boxes) in enumerate(FACES.items()):
        path = root / "WIDER_val" / "images" / "0--A" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.full((48, 64, 3), 60 * number, np.uint8))
        lines += [f"0--A/{name}.png", str(len(boxes))]
        lines += [f"{' '.join(map(str, box))} 0 0 0 0 0 0" for box in boxes] or ["0 0 0 0 0 0 0 0 0 0"]
    split = root / "wider_face_split" / "wider_face_val_bbx_gt.txt"
    split.parent.mkdir()
    split.write_text("\n".join(lines) + "\n", encoding="utf-8")
    truth = root / "ground_truth"
    truth.mkdir()
    names = {"event_list": cells("0--A"), "file_list": cells(column(*FACES))}
    boxes = column(*(np.array(each, float).reshape(-1, 4) for each in FACES.values()))
    savemat(truth / "wider_face_val.mat", names | {"face_bbx_list": cells(boxes)})
    counted = column(*(np.arange(1, len(each) + 1).reshape(-1, 1) for each in FACES.values()))
    for setting in ("easy", "medium", "hard"):
        savemat(truth / f"wider_{setting}_val.mat", names | {"gt_list": cells(counted)})
    return root


def column(*values: object) -> np.ndarray:
    """A column of cells, as MATLAB writes lists."""
    made = np.empty((len(values), 1), dtype=object)
    for row, value in enumerate(values):
        made[row, 0] = value
    return made


def cells(value: object) -> np.ndarray:
    return column(value)


def finds(image: np.ndarray) -> Detections:
    """The first face of an image, surely, and one that is not there."""
    faces = list(FACES.values())[int(image[0, 0, 0]) // 60][:1]
    boxes = [[x, y, x + w, y + h] for x, y, w, h in faces] + [WRONG]
    return Detections(
        np.array(boxes, np.float32),
        np.array([0.9, 0.6][-len(boxes) :], np.float32),
        np.zeros((len(boxes), 5, 2), np.float32),
    )


def finds_nothing(_: np.ndarray) -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


@pytest.mark.parametrize("detect", [finds, finds_nothing])
def test_page_holds_every_picture_and_names_the_testing(
    detect: Callable[[np.ndarray], Detections], data: Path, tmp_path: Path
) -> None:
    report = evaluate_dataset(detect, data, views=Views(flip=True))
    report_page.write_page(tmp_path / "page.html", report, data, model="<mine>")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("src='data:image/") == len(page.PICTURES)
    assert "src='http" not in text
    assert "&lt;mine&gt;" in text
    for section in ("Error types", "Operating points", "Calibration of the scores"):
        assert f"<h2>{section}: 3 faces of hard, flip</h2>" in text
    assert "nan" not in re.sub("base64,[^']*", "", text).lower()


def test_sheets_show_the_largest_missed_face_and_the_surest_false_detection(data: Path) -> None:
    report = evaluate_dataset(finds, data)
    truth = load_ground_truth(data / "ground_truth")
    judged = Judged(
        analyze(report.predictions, truth), report.predictions, truth, open_widerface(data, "val")
    )
    (missed,) = worst_misses(judged)
    assert missed.caption == "missed, 12 px high   a"
    # 120 px around the face is the whole image: nothing moves.
    assert missed.gt_boxes_xywh.tolist() == FACES["a"]
    assert missed.load().shape == (48, 64, 3)
    # At the recommended threshold of 0.899 nothing false is left.
    assert surest_false(judged) == []
    everything = Judged(
        analyze({name: rows[rows[:, 4] < 0.7] for name, rows in report.predictions.items()}, truth),
        report.predictions,
        truth,
        judged.samples,
    )
    assert worst_misses(everything, limit=1)[0].caption == "missed, 24 px high   a"


def test_cutout_takes_the_boxes_with_it() -> None:
    name, face, far = "0--A/a", [500.0, 400, 50, 40], [100.0, 100, 50, 50]
    truth = WiderGroundTruth(
        names=(name,),
        boxes_xywh=np.array([face, far]),
        offsets=np.array([0, 2]),
        is_counted=dict.fromkeys(SETTINGS, np.array([True, False])),
        total_images=1,
    )
    predictions = {name: np.array([[*far, 0.9], [480.0, 380, 20, 20, 0.8], [470.0, 380, 20, 20, 0.1]])}
    judged = Judged(analyze(predictions, truth), predictions, truth, ())
    (missed,) = worst_misses(judged)
    # 200 px around the center (525, 420): from (425, 320).
    assert missed.gt_boxes_xywh.tolist() == [[75, 80, 50, 40]]
    assert missed.rows.tolist() == [[55, 60, 20, 20, 0.8], [45, 60, 20, 20, 0.1]]
    assert missed.is_ignored is not None
    assert missed.is_ignored.tolist() == [False]
    (false,) = surest_false(judged)
    assert false.caption == "score 0.80, 20 px high   a"


def test_report_without_official_lists_is_refused_before_the_work(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a report needs the split 'val' and the folder ground_truth"):
        report_page.check_reportable(data, "train")
    with pytest.raises(DataError, match="with the easy, medium and hard lists"):
        report_page.check_reportable(tmp_path, "val")


def test_testing_is_named_in_json_table_metrics_and_beside_saved_predictions(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "predictions"
    often = evaluate_dataset(finds, data, views=Views(True, (1.0, 2.0)), predictions_dir=saved)
    assert often.to_dict()["testing"] == "flip + scales 1, 2"
    assert often.table().startswith("testing: flip + scales 1, 2\n")
    assert all(name.startswith("val-flip-scales-1-2/") for name in often.metrics())
    assert read_testing(saved) == "flip + scales 1, 2"
    assert len(read_predictions(saved)) == 3
    arguments = ["score", "--predictions", str(saved), "--ground-truth", str(data / "ground_truth")]
    assert run(arguments, capsys).startswith("testing: flip + scales 1, 2\n")
    assert json.loads(run([*arguments, "--json"], capsys))["testing"] == "flip + scales 1, 2"
    once = evaluate_dataset(finds, data, predictions_dir=saved)
    assert once.to_dict()["testing"] == "single scale"
    assert "val/ap_easy" in once.metrics()
    assert read_testing(saved) is None
    assert "testing" not in run(arguments, capsys)


def test_evaluate_writes_its_report_and_names_the_testing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out" / "report.html"
    printed = run(["evaluate", "--data", str(data), "--flip", "--report", str(path), "--json"], capsys)
    assert json.loads(printed)["testing"] == "flip"
    assert "Operating points: 3 faces of hard, flip" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scales", "1;2"], "scales must be numbers such as 0.5,1,2"),
        (["--scales", "0"], "scales must be numbers above 0"),
        (["--split", "train", "--report", "r.html"], "a report needs the split 'val'"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(
    arguments: list[str], words: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["evaluate", "--data", str(data), *arguments])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert words in error
    assert error.count("\n") == 1


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert not left.value.code
    return capsys.readouterr().out
