"""AP by what a face is like, and the error of landmarks, on hand-made photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featherface.data.widerface import ATTRIBUTES, Annotation, Sample
from featherface.evaluation.annotated import annotated_faces
from featherface.evaluation.landmarks import landmark_errors
from featherface.evaluation.slices import MIN_FACES, height_slices, slices
from featherface.evaluation.widerface import SETTINGS, WiderGroundTruth, average_precision

HEIGHTS_PX = (12.0, 24.0, 48.0)
NUM_PHOTOGRAPHS = 12


def photographs() -> list[Sample]:
    """Each with a small, a middle and a large face and an invalid one; every second middle one is blurred."""
    samples = []
    for number in range(NUM_PHOTOGRAPHS):
        boxes = np.array([[60.0 * i, 10, height, height] for i, height in enumerate((*HEIGHTS_PX, 30.0))])
        attributes = np.zeros((4, len(ATTRIBUTES)), np.int8)
        attributes[1, ATTRIBUTES.index("blur")] = 2 * (number % 2)
        attributes[3, ATTRIBUTES.index("invalid")] = 1
        landmarks = boxes[:, None, :2] + boxes[:, None, 2:] * np.linspace(0.2, 0.8, 5)[None, :, None]
        annotation = Annotation(
            image=f"0--A/{number}.jpg",
            boxes_xywh=boxes.astype(np.float32),
            attributes=attributes,
            landmarks_xy=landmarks.astype(np.float32),
            has_landmarks=np.ones(4, np.bool_),
        )
        samples.append(Sample(Path(annotation.image), annotation))
    return samples


def found(samples: list[Sample], faces: slice) -> dict[str, np.ndarray]:
    """Perfect detections of some of the faces of each photograph."""
    return {
        sample.annotation.image.removesuffix(".jpg"): np.concatenate(
            [
                sample.annotation.boxes_xywh[faces],
                np.full((len(sample.annotation.boxes_xywh[faces]), 1), 0.9),
            ],
            axis=1,
        ).astype(np.float64)
        for sample in samples
    }


def test_a_slice_sees_its_own_faces_only() -> None:
    samples = photographs()
    by_name = {each.name: each for each in slices(found(samples, slice(1, 3)), samples)}
    assert by_name["height_10_16"].average_precision == 0.0
    assert by_name["height_16_32"].average_precision == 1.0
    assert by_name["height_32_64"].recall == 1.0
    assert [by_name[f"height_{name}"].faces for name in ("10_16", "16_32", "32_64")] == [NUM_PHOTOGRAPHS] * 3
    assert by_name["pose_typical"].faces == 3 * NUM_PHOTOGRAPHS
    assert by_name["pose_typical"].recall == pytest.approx(2 / 3)
    assert "height_64_128" not in by_name, "no face is that large"
    assert NUM_PHOTOGRAPHS // 2 < MIN_FACES
    assert "blur_heavy" not in by_name, "too few to say anything"


def test_false_detections_count_in_every_slice() -> None:
    samples = photographs()
    predictions = {
        name: np.concatenate([rows, [[200.0, 200, 30, 30, 0.95]]])
        for name, rows in found(samples, slice(0, 3)).items()
    }
    for each in slices(predictions, samples):
        assert each.average_precision < 1.0, each.name
        assert each.recall == 1.0, each.name


def test_a_slice_of_all_faces_is_the_official_number() -> None:
    samples = photographs()
    generator = np.random.default_rng(3)
    predictions = {
        name: np.concatenate([rows[:, :4] + generator.normal(0, 4, (len(rows), 4)), rows[:, 4:]], axis=1)
        for name, rows in found(samples, slice(0, 3)).items()
    }
    for rows in predictions.values():
        rows[:, 4] = generator.random(len(rows))
    faces = annotated_faces(samples)
    official = average_precision(
        predictions,
        WiderGroundTruth(
            names=faces.names,
            boxes_xywh=faces.boxes_xywh,
            offsets=faces.offsets,
            is_counted=dict.fromkeys(SETTINGS, faces.is_valid),
            total_images=len(samples),
        ),
    )
    sliced = {each.name: each.average_precision for each in slices(predictions, samples)}
    assert 0 < official.hard < 1
    assert sliced["pose_typical"] == official.hard


def test_every_height_from_ten_pixels_is_in_one_slice() -> None:
    heights_px = np.concatenate([np.arange(10, 300), [9.99, 1e4]])
    belongs = np.sum(list(height_slices(heights_px).values()), axis=0)
    assert belongs.tolist() == [*[1] * 290, 0, 1]


def photograph(name: str, boxes: np.ndarray, attributes: np.ndarray, *, has_landmarks: bool) -> Sample:
    """Landmarks, if there are, lie in the corner of the photograph."""
    annotation = Annotation(
        image=f"{name}.jpg",
        boxes_xywh=boxes,
        attributes=attributes,
        landmarks_xy=np.zeros((len(boxes), 5, 2), np.float32),
        has_landmarks=np.full(len(boxes), has_landmarks),
    )
    return Sample(Path(f"{name}.jpg"), annotation)


def test_a_level_means_what_the_benchmark_s_number_says() -> None:
    # A face of each number, of the least height that counts, 20 px wide; and one that is too small. Found are
    # those of number 1.
    attributes = np.zeros((4, len(ATTRIBUTES)), np.int8)
    attributes[1:3] = np.array([[1], [2]])
    attributes[:, ATTRIBUTES.index("invalid")] = 0
    boxes = np.array([[60 * i, 0, 20, height] for i, height in enumerate((10, 10, 10, 9))], np.float32)
    samples = [
        photograph(f"0--A/{number}", boxes, attributes, has_landmarks=False) for number in range(MIN_FACES)
    ]
    by_name = {each.name: each for each in slices(found(samples, slice(1, 2)), samples)}
    assert {name: each.recall for name, each in by_name.items()} == pytest.approx(
        {"height_10_16": 1 / 3}
        | {"blur_clear": 0, "blur_normal": 1, "blur_heavy": 0}
        | {"occlusion_none": 0, "occlusion_partial": 1, "occlusion_heavy": 0}
        | {"pose_typical": 0, "pose_atypical": 1}
        | {"expression_typical": 0, "expression_exaggerated": 1}
        | {"illumination_normal": 0, "illumination_extreme": 1}
    )
    assert by_name.pop("height_10_16").faces == 3 * MIN_FACES
    assert {each.faces for each in by_name.values()} == {MIN_FACES}


def test_landmarks_are_measured_in_fractions_of_the_face() -> None:
    samples = photographs()
    predictions = found(samples, slice(0, 4))
    landmarks = {
        sample.annotation.image.removesuffix(".jpg"): sample.annotation.landmarks_xy.astype(np.float64)
        for sample in samples
    }
    exact = landmark_errors(samples, predictions, landmarks)
    assert exact["nme"] == pytest.approx(0.0, abs=1e-7)
    moved = {
        name: points + np.array([0.1, 0.0]) * predictions[name][:, None, 2:4]
        for name, points in landmarks.items()
    }
    assert landmark_errors(samples, predictions, moved) == pytest.approx(
        dict.fromkeys(("nme", "nme_height_10_16", "nme_height_16_32", "nme_height_32_64"), 0.1)
    )
    of_network = landmark_errors(samples, predictions, moved, reference=(predictions, moved))
    assert of_network["nme"] == 0.0


def test_landmark_errors_are_means_over_points_and_valid_faces_found_at_least_by_half() -> None:
    # Of a face of 20 x 40 px the upper half is found, and one point lies 10 px off; of one that is flagged
    # invalid all points do.
    boxes = np.array([[0, 0, 20, 40], [100, 0, 20, 40]], np.float32)
    attributes = np.zeros((2, len(ATTRIBUTES)), np.int8)
    attributes[1, ATTRIBUTES.index("invalid")] = 1
    names = [f"0--A/{number}" for number in range(MIN_FACES)]
    samples = [photograph(name, boxes, attributes, has_landmarks=True) for name in names]
    points = np.zeros((2, 5, 2))
    points[0, 2] = (6, 8)
    points[1] = 50
    rows = np.array([[0.0, 0, 20, 20, 0.9], [100, 0, 20, 40, 0.8]])
    errors = landmark_errors(samples, dict.fromkeys(names, rows), dict.fromkeys(names, points))
    assert errors == pytest.approx(dict.fromkeys(("nme", "nme_height_32_64"), 10 / 5 / np.sqrt(20 * 40)))


def test_landmarks_of_faces_that_one_network_missed_are_not_compared() -> None:
    samples = photographs()
    everything, large = found(samples, slice(0, 3)), found(samples, slice(2, 3))
    points = {name: np.zeros((len(rows), 5, 2)) for name, rows in everything.items()}
    some = {name: np.ones((len(rows), 5, 2)) for name, rows in large.items()}
    errors = landmark_errors(samples, everything, points, reference=(large, some))
    assert errors.keys() == {"nme", "nme_height_32_64"}
    nothing = {name: np.zeros((0, 5)) for name in everything}
    assert landmark_errors(samples, nothing, {name: np.zeros((0, 5, 2)) for name in nothing}) == {}
