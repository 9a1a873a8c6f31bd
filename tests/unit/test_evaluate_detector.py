from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from featherface.data.widerface import Annotation, Sample
from featherface.errors import DataError, ImageDecodeError
from featherface.evaluation.plots import plot_precision_recall
from featherface.evaluation.predictions import read_predictions
from featherface.evaluation.report import EvaluationReport, wider_table
from featherface.evaluation.run import evaluate_dataset, evaluate_detector
from featherface.evaluation.widerface import SETTINGS, WiderGroundTruth, average_precision
from featherface.imaging import read_image, write_image
from featherface.structures import Detections

FACES = {"a": [[4.0, 4, 20, 24]], "b": [], "c": [[40.0, 8, 16, 16], [10, 30, 12, 12], [0, 0, 0, 0]]}


def make_samples(root: Path) -> list[Sample]:
    """Three grey images, told apart by brightness; the third has an invalid face without area."""
    samples = []
    for image_idx, (name, boxes) in enumerate(FACES.items()):
        path = root / "WIDER_val" / "images" / "0--A" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.full((48, 64, 3), 50 * image_idx, np.uint8))
        attributes = np.zeros((len(boxes), 6), np.int8)
        attributes[2:, 3] = 1
        annotation = Annotation(
            image=f"0--A/{name}.png",
            boxes_xywh=np.array(boxes, np.float32).reshape(-1, 4),
            attributes=attributes,
            landmarks_xy=np.zeros((len(boxes), 5, 2), np.float32),
            has_landmarks=np.zeros(len(boxes), bool),
        )
        samples.append(Sample(path, annotation))
    return samples


def make_ground_truth() -> WiderGroundTruth:
    """The three images and one that is not there."""
    boxes = np.array([box for boxes in [*FACES.values(), [[1.0, 1, 5, 5]]] for box in boxes])
    return WiderGroundTruth(
        names=("0--A/a", "0--A/b", "0--A/c", "0--A/absent"),
        boxes_xywh=boxes,
        offsets=np.array([0, 1, 1, 4, 5]),
        is_counted=dict.fromkeys(SETTINGS, np.array([True, True, True, False, True])),
        total_images=4,
    )


def detect(image: np.ndarray) -> Detections:
    """Finds every face of positive area but the last one, and one too many on the image without faces."""
    faces = [box for box in list(FACES.values())[int(image[0, 0, 0]) // 50] if box[2] > 0][:1] or [
        [1.0, 1, 30, 30]
    ]
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in faces], np.float32)
    scores = np.array([0.9 if image[0, 0, 0] != 50 else 0.3], np.float32)
    return Detections(boxes, scores, np.zeros((1, 5, 2), np.float32))


def test_detector_is_judged_by_both_protocols_on_the_images_that_are_there(tmp_path: Path) -> None:
    report = evaluate_detector(
        detect, make_samples(tmp_path), ground_truth=make_ground_truth(), predictions_dir=tmp_path / "out"
    )
    assert report.wider is not None
    # Two of three faces at precision 1.
    assert (report.wider.easy, report.wider.images, report.wider.total_images) == (pytest.approx(2 / 3), 3, 4)
    assert report.coco["ap50"] == pytest.approx(67 / 101)  # COCO samples recall at 101 points
    assert "ap_large" not in report.coco
    assert (report.images, report.faces, report.detections) == (3, 3, 3)
    assert report.detect_ms_p50 > 0
    saved = read_predictions(tmp_path / "out")
    assert sorted(saved) == ["0--A/a", "0--A/b", "0--A/c"]
    for name, rows in saved.items():
        np.testing.assert_array_equal(rows, report.predictions[name])
    again = average_precision(saved, make_ground_truth())
    assert again.curves["hard"].num_faces == 4


def test_who_needs_no_coco_gets_the_benchmarks_numbers_alone(tmp_path: Path) -> None:
    samples, ground_truth = make_samples(tmp_path), make_ground_truth()
    both, alone = (
        evaluate_detector(detect, samples, ground_truth=ground_truth, coco=coco) for coco in (True, False)
    )
    assert alone.coco == {}
    assert alone.metrics() == {name: x for name, x in both.metrics().items() if "coco" not in name}


def test_without_ground_truth_only_coco_is_reported(tmp_path: Path) -> None:
    report = evaluate_detector(detect, make_samples(tmp_path), ground_truth=None)
    assert report.wider is None
    assert "WIDER" not in report.table()
    assert report.to_dict()["easy"] is None
    assert report.to_dict()["coco_ap50"] == pytest.approx(67 / 101)
    assert not any(name.startswith("val/ap_") for name in report.metrics())


def test_detector_that_finds_nothing_scores_0(tmp_path: Path) -> None:
    nothing = Detections(
        np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32)
    )
    report = evaluate_detector(lambda _: nothing, make_samples(tmp_path), ground_truth=make_ground_truth())
    assert report.metrics()["val/ap_mean"] == 0.0
    assert report.metrics()["val/coco_ap"] == 0.0


def test_no_image_at_all_is_a_report_of_nothing() -> None:
    report = evaluate_detector(detect, [], ground_truth=None)
    assert (report.images, dict(report.coco), report.detect_ms_p50) == (0, {}, 0.0)


def test_image_outside_the_ground_truth_or_listed_twice_is_refused_before_detecting(tmp_path: Path) -> None:
    def never(_: np.ndarray) -> Detections:
        pytest.fail("detected first")

    samples = make_samples(tmp_path)
    ground_truth = make_ground_truth()
    other = Sample(samples[0].path, Annotation("9--Z/z.png", *(_empty_faces())))
    with pytest.raises(DataError, match="not in the ground truth, the first is '9--Z/z'"):
        evaluate_detector(never, [*samples, other], ground_truth=ground_truth)
    with pytest.raises(DataError, match="listed twice"):
        evaluate_detector(never, [samples[0], samples[0]], ground_truth=ground_truth)


def test_broken_image_ends_the_evaluation_and_its_thread(tmp_path: Path) -> None:
    samples = make_samples(tmp_path)
    samples[1].path.write_bytes(b"no picture")
    with pytest.raises(ImageDecodeError, match=r"b\.png"):
        evaluate_detector(detect, samples, ground_truth=None)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_dataset_folder_is_judged_without_the_images_that_are_missing(tmp_path: Path) -> None:
    make_samples(tmp_path)
    lines = []
    for name, boxes in {**FACES, "gone": [[1.0, 1, 9, 9]]}.items():
        lines += [f"0--A/{name}.png", str(len(boxes))]
        lines += [f"{x:.0f} {y:.0f} {w:.0f} {h:.0f} 0 0 0 {int(w == 0)} 0 0" for x, y, w, h in boxes]
        lines += [] if boxes else ["0 0 0 0 0 0 0 0 0 0"]
    (tmp_path / "wider_face_split").mkdir()
    (tmp_path / "wider_face_split" / "wider_face_val_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    report = evaluate_dataset(detect, tmp_path)
    assert (report.images, report.wider, report.faces) == (3, None, 3)
    (tmp_path / "ground_truth").mkdir()
    with pytest.raises(DataError, match=r"wider_face_val\.mat: missing"):
        evaluate_dataset(detect, tmp_path)


def test_progress_is_shown_only_when_asked_for_or_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = make_samples(tmp_path)
    evaluate_detector(detect, samples, ground_truth=None)
    assert capsys.readouterr() == ("", "")
    evaluate_detector(detect, samples, ground_truth=None, show_progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err


def make_report(tmp_path: Path) -> EvaluationReport:
    return evaluate_detector(detect, make_samples(tmp_path), ground_truth=make_ground_truth())


def test_report_gives_flat_metrics_and_json(tmp_path: Path) -> None:
    report = make_report(tmp_path)
    metrics = report.metrics("train")
    assert {"train/ap_easy", "train/ap_medium", "train/ap_hard", "train/ap_mean", "train/coco_ap"} <= set(
        metrics
    )
    assert metrics["train/ap_hard"] == pytest.approx(2 / 3)
    assert all(isinstance(value, float) for value in metrics.values())
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert {"easy", "medium", "hard", "mean", "images"} <= set(content)
    assert (content["images"], content["total_images"], content["warnings"]) == (3, 4, [])


def test_table_shows_percent_and_how_many_of_how_many(tmp_path: Path) -> None:
    table = make_report(tmp_path).table()
    assert "66.67" in table
    assert "on 3 of 4 validation images" in table
    assert "3 faces to find, 3 detections in 3 images" in table
    result = average_precision({}, make_ground_truth())
    assert "note: 4 of 4 images have no predictions" in wider_table(result)
    assert "on 4 validation images" in wider_table(result)


def test_precision_recall_plot_is_a_picture_in_which_each_model_shows(tmp_path: Path) -> None:
    report = make_report(tmp_path)
    assert report.wider is not None
    plot_precision_recall({"ours": report.wider}, tmp_path / "plots" / "one.png")
    nothing = average_precision({}, make_ground_truth())
    plot_precision_recall({f"model {i}": nothing for i in range(9)}, tmp_path / "many.png", title="Nine")
    one, many = read_image(tmp_path / "plots" / "one.png"), read_image(tmp_path / "many.png")
    assert one.shape == many.shape == (660, 1800, 3)
    blue = np.abs(one.astype(int) - [0, 0x72, 0xB2]).sum(axis=2) < 30
    # The line at precision 1 runs over two thirds of each of the three panels.
    assert blue.any(axis=0).sum() > 3 * 0.6 * 500
    with pytest.raises(DataError, match="no result to draw"):
        plot_precision_recall({}, tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.nonsense: the plot cannot be written"):
        plot_precision_recall({"ours": nothing}, tmp_path / "x.nonsense")


def _empty_faces() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.empty((0, 4), np.float32),
        np.empty((0, 6), np.int8),
        np.empty((0, 5, 2), np.float32),
        np.empty(0, bool),
    )
