from __future__ import annotations

import contextlib
import copy
import io
import pickle

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from featherface.evaluation.coco import FaceAveragePrecision

Image = tuple[np.ndarray, np.ndarray, np.ndarray]
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar", "ar_small", "ar_medium", "ar_large")


def random_images(seed: int, num_images: int = 8) -> list[Image]:
    """Detections, faces, ignored flags: jittered hits, duplicates, ties, strays, empty sides."""
    rng = np.random.default_rng(seed)
    images = []
    for image_idx in range(num_images):
        num_faces = 0 if image_idx == 1 else int(rng.integers(0, 9))
        sizes = rng.choice([8, 30, 60, 130], (num_faces, 1)) * rng.uniform(0.8, 1.2, (num_faces, 2))
        faces = np.concatenate([rng.uniform(0, 90, (num_faces, 2)), sizes], axis=1)
        chosen = faces[rng.integers(0, num_faces, 12)] if num_faces and image_idx != 2 else np.empty((0, 4))
        boxes = chosen + rng.normal(0, 0.06, chosen.shape) * chosen[:, 2:].mean(axis=1, keepdims=True)
        strays = np.concatenate([rng.uniform(0, 100, (3, 2)), rng.uniform(2, 100, (3, 2))], axis=1)
        exact = faces[:2]  # IoU 1, above the last threshold
        boxes = np.concatenate([boxes, exact, strays])
        images.append(
            (
                np.column_stack([boxes, rng.integers(0, 20, len(boxes)) / 20]),
                faces,
                rng.random(num_faces) < 0.3,
            )
        )
    return images


def measure(images: list[Image], **options: int) -> dict[str, float]:
    metric = FaceAveragePrecision(**options)
    for image in images:
        metric.update(*image)
    return {name: float(value) for name, value in metric.compute().items()}


def measure_directly(images: list[Image], max_detections: int = 1000) -> dict[str, float]:
    """The same through unmodified pycocotools, as its own demo does."""
    faces, found = [], []
    for image_id, (rows, boxes, is_ignored) in enumerate(images):
        for box, ignored in zip(boxes.tolist(), is_ignored.tolist(), strict=True):
            faces.append(
                {"id": len(faces) + 1, "image_id": image_id, "category_id": 1, "bbox": box}
                | {"area": box[2] * box[3], "iscrowd": int(ignored)}
            )
        found += [
            {"image_id": image_id, "category_id": 1, "bbox": r[:4], "score": r[4]} for r in rows.tolist()
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image_id} for image_id in range(len(images))],
            "categories": [{"id": 1}],
            "annotations": faces,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    return {
        "ap": mean(precision[:, :, 0, 0]),
        "ap50": mean(precision[0, :, 0, 0]),
        "ap75": mean(precision[5, :, 0, 0]),
        **{
            f"ap_{label}": mean(precision[:, :, 0, i])
            for i, label in enumerate(("small", "medium", "large"), 1)
        },
        "ar": mean(recall[:, 0, 0]),
        **{f"ar_{label}": mean(recall[:, 0, i]) for i, label in enumerate(("small", "medium", "large"), 1)},
    }


# In 132 it matters which of two ignored faces a detection takes.
@pytest.mark.parametrize("seed", [*range(8), 132])
def test_metric_equals_pycocotools_exactly(seed: int) -> None:
    images = random_images(seed)
    assert measure(images) == measure_directly(images)


def test_metric_equals_pycocotools_with_few_detections_an_image() -> None:
    images = random_images(100)
    assert measure(images, max_detections=4) == measure_directly(images, max_detections=4)
    assert measure(images, max_detections=4) != measure(images)


def test_perfect_detections_score_1() -> None:
    face = np.array([[10.0, 10, 20, 20]])
    values = measure([(np.array([[10.0, 10, 20, 20, 0.9]]), face, np.zeros(1, bool))])
    assert {name: values[name] for name in ("ap", "ap50", "ap75", "ap_small", "ar")} == dict.fromkeys(
        ("ap", "ap50", "ap75", "ap_small", "ar"), pytest.approx(1.0)
    )
    assert values["ap_large"] == -1.0  # no large face to find


def test_overlap_exactly_at_the_threshold_is_a_match() -> None:
    image = (np.array([[0.0, 0, 20, 10, 0.9]]), np.array([[0.0, 0, 10, 10]]), np.zeros(1, bool))
    assert measure([image])["ap50"] == pytest.approx(1.0)
    assert measure([image]) == measure_directly([image])


def test_faces_on_the_border_of_two_sizes_belong_to_both() -> None:
    faces = np.array([[0.0, 0, 32, 32], [200, 200, 96, 96]])
    rows = np.column_stack([faces, [0.9, 0.8]])
    image = (rows, faces, np.zeros(2, bool))
    values = measure([image])
    assert [values[f"ar_{size}"] for size in ("small", "medium", "large")] == [1.0, 1.0, 1.0]
    assert values == measure_directly([image])


def test_a_face_behind_more_than_a_hundred_others_counts() -> None:
    strays = np.array([[300.0 + 10 * i, 300, 5, 5, 0.9] for i in range(101)])
    image = (np.concatenate([strays, [[0, 0, 20, 20, 0.5]]]), np.array([[0.0, 0, 20, 20]]), np.zeros(1, bool))
    assert measure([image])["ap50"] == pytest.approx(1 / 102)


def test_ignored_face_is_neither_asked_for_nor_punished() -> None:
    faces = np.array([[10.0, 10, 20, 20], [100, 100, 40, 40]])
    rows = np.array([[100.0, 100, 40, 40, 0.95], [101, 101, 39, 39, 0.94], [10, 10, 20, 20, 0.9]])
    assert measure([(rows, faces, np.array([False, True]))])["ap"] == pytest.approx(1.0)
    assert measure([(rows, faces, np.array([False, False]))])["ap"] < 1.0


def test_images_without_faces_count_their_false_positives() -> None:
    hit = (np.array([[0.0, 0, 9, 9, 0.5]]), np.array([[0.0, 0, 9, 9]]), np.zeros(1, bool))
    stray = (np.array([[0.0, 0, 9, 9, 0.9]]), np.empty((0, 4)), np.zeros(0, bool))
    assert measure([hit, stray])["ap"] == pytest.approx(0.5)


def test_faces_without_detections_score_0_and_nothing_at_all_is_undefined() -> None:
    faces = (np.empty((0, 5)), np.array([[0.0, 0, 9, 9]]), np.zeros(1, bool))
    assert (measure([faces])["ap"], measure([faces])["ar"]) == (0.0, 0.0)
    empty = (np.empty((0, 5)), np.empty((0, 4)), np.zeros(0, bool))
    assert set(measure([empty]).values()) == {-1.0}


def test_zero_area_boxes_give_numbers() -> None:
    rows = np.array([[5.0, 5, 0, 0, 0.9], [5, 5, 0, 4, 0.8]])
    values = measure([(rows, np.array([[5.0, 5, 0, 0], [50, 50, 9, 9]]), np.array([True, False]))])
    assert values["ap"] == 0.0
    assert np.isfinite(list(values.values())).all()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric FaceAveragePrecision was called before")
def test_compute_without_update_is_undefined_not_an_error() -> None:
    metric = FaceAveragePrecision()
    values = metric.compute()
    assert sorted(values) == sorted(NAMES)
    assert {float(value) for value in values.values()} == {-1.0}


def test_reset_forgets_and_compute_follows_updates() -> None:
    images = random_images(3)
    metric = FaceAveragePrecision()
    metric.update(*images[0])
    first = metric.compute()
    metric.update(*images[3])
    assert {k: float(v) for k, v in metric.compute().items()} == measure([images[0], images[3]])
    metric.reset()
    metric.update(*images[0])
    assert metric.compute() == first


def test_merged_metrics_equal_one_metric() -> None:
    images = random_images(5)
    whole, first, second = FaceAveragePrecision(), FaceAveragePrecision(), FaceAveragePrecision()
    for image in images:
        whole.update(*image)
    for image in images[:4]:
        first.update(*image)
    for image in images[4:]:
        second.update(*image)
    second.merge_state(first)
    assert second.compute() == whole.compute()


def test_metric_survives_copy_and_pickle() -> None:
    metric = FaceAveragePrecision(max_detections=7)
    metric.update(*random_images(6)[0])
    again = pickle.loads(pickle.dumps(metric))
    assert again.max_detections == 7
    assert again.compute() == copy.deepcopy(metric).compute() == metric.compute()


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    measure(random_images(0))
    assert capsys.readouterr() == ("", "")


def test_input_that_does_not_fit_is_refused() -> None:
    metric = FaceAveragePrecision()
    with pytest.raises(ValueError, match=r"rows must be \(n, 5\) finite numbers, got shape \(1, 4\)"):
        metric.update(np.ones((1, 4)), np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"rows must be \(n, 5\) finite"):
        metric.update(np.full((1, 5), np.nan), np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"is_ignored must be \(1,\), got \(2,\)"):
        metric.update(np.ones((1, 5)), np.ones((1, 4)), np.zeros(2, bool))
    with pytest.raises(ValueError, match="max_detections must be at least 1, got 0"):
        FaceAveragePrecision(max_detections=0)
