from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.io import loadmat, savemat

from featherface.errors import DataError
from featherface.evaluation.predictions import read_predictions
from featherface.evaluation.widerface import (
    SETTINGS,
    WiderGroundTruth,
    average_precision,
    image_key,
    judge,
    load_ground_truth,
    restrict,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
needs_shared = [
    pytest.mark.shared,
    pytest.mark.skipif(not (SHARED / "oracle").is_dir(), reason="no research data beside the project"),
]

FACE = [0, 0, 9, 9]


def cells(values: Sequence[object]) -> np.ndarray:
    """A MATLAB column of cells."""
    column = np.empty((len(values), 1), dtype=object)
    column[:, 0] = values
    return column


def write_mats(
    directory: Path,
    faces: Mapping[str, Mapping[str, list[list[float]]]],
    counted: Mapping[str, Mapping[str, list[int]]],
    *,
    skip: str = "",
) -> Path:
    """The four official files: faces by event and image, counted ones (from 1) by setting and image."""
    directory.mkdir(exist_ok=True)
    events = {"event_list": cells(list(faces)), "file_list": cells([cells(list(f)) for f in faces.values()])}
    boxes = [cells([np.array(b, float).reshape(-1, 4) for b in images.values()]) for images in faces.values()]
    contents = {"wider_face_val": {"face_bbx_list": cells(boxes)}}
    for setting in SETTINGS:
        lists = []
        for event, images in faces.items():
            chosen = [counted[setting].get(f"{event}/{image}", []) for image in images]
            lists.append(cells([np.array(one, np.uint8).reshape(-1, 1) for one in chosen]))
        contents[f"wider_{setting}_val"] = {"gt_list": cells(lists)}
    for name, content in contents.items():
        if name != skip:
            savemat(directory / f"{name}.mat", events | content)
    return directory


def one_image(
    boxes: list[list[float]], *, easy: list[int], hard: list[int] | None = None, others: int = 0
) -> WiderGroundTruth:
    """Ground truth of image `0--A/a` with zero-based counted faces; medium counts what hard counts."""

    def mask(positions: list[int]) -> np.ndarray:
        return np.isin(np.arange(len(boxes)), positions)

    hard = easy if hard is None else hard
    return WiderGroundTruth(
        names=("0--A/a",),
        boxes_xywh=np.array(boxes, float).reshape(-1, 4),
        offsets=np.array([0, len(boxes)]),
        is_counted={"easy": mask(easy), "medium": mask(hard), "hard": mask(hard)},
        total_images=1 + others,
    )


def rows(*values: list[float]) -> dict[str, np.ndarray]:
    return {"0--A/a": np.array(values, float).reshape(-1, 5)}


def test_each_face_found_once_gives_ap_1() -> None:
    result = average_precision(
        rows([*FACE, 0.9], [50, 50, 9, 9, 0.4]), one_image([FACE, [50, 50, 9, 9]], easy=[0, 1])
    )
    assert (result.easy, result.medium, result.hard, result.mean) == (1.0, 1.0, 1.0, 1.0)
    assert result.warnings == ()


def test_iou_counts_pixels_inclusively() -> None:
    # 2 x 1 pixels against 1 x 1 inside: 1/2 inclusively (a hit at 0.5), 0/1 exclusively.
    result = average_precision(
        rows([0, 0, 0, 0, 0.9], [9, 9, 1, 1, 0.1]), one_image([[0, 0, 1, 0]], easy=[0])
    )
    assert result.easy == 1.0


def test_second_hit_of_a_face_is_a_false_positive() -> None:
    # Best first: hit, duplicate, hit: precision at the second face is 2/3.
    predictions = rows([*FACE, 0.9], [*FACE, 0.8], [50, 50, 9, 9, 0.7])
    assert average_precision(
        predictions, one_image([FACE, [50, 50, 9, 9]], easy=[0, 1])
    ).easy == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_detection_of_a_face_that_is_not_counted_is_neither_right_nor_wrong() -> None:
    predictions = rows([50, 50, 9, 9, 0.9], [*FACE, 0.8])
    result = average_precision(predictions, one_image([FACE, [50, 50, 9, 9]], easy=[0], hard=[0, 1]))
    assert result.easy == 1.0
    assert result.hard == 1.0
    assert result.curves["easy"].num_faces == 1
    assert result.curves["hard"].num_faces == 2


def test_detection_looks_only_at_the_face_it_overlaps_most() -> None:
    # Both detections overlap the first face most; the second face (shifted by 2) overlaps them too, in vain.
    faces = [[0, 0, 19, 19], [2, 0, 19, 19]]
    predictions = rows([0, 0, 19, 19, 0.9], [0, 0, 19, 19, 0.8])
    assert average_precision(predictions, one_image(faces, easy=[0, 1])).easy == 0.5


def test_image_without_a_face_of_the_setting_still_adds_false_positives() -> None:
    ground_truth = WiderGroundTruth(
        names=("0--A/a", "0--A/b"),
        boxes_xywh=np.array([FACE, FACE], float),
        offsets=np.array([0, 1, 2]),
        is_counted=dict.fromkeys(SETTINGS, np.array([True, False])),
        total_images=2,
    )
    predictions = rows([*FACE, 0.5]) | {"0--A/b": np.array([[80, 80, 5, 5, 0.9]])}
    assert average_precision(predictions, ground_truth).easy == 0.5


def test_image_without_any_annotated_face_is_skipped() -> None:
    ground_truth = WiderGroundTruth(
        names=("0--A/a", "0--A/b"),
        boxes_xywh=np.array([FACE], float),
        offsets=np.array([0, 1, 1]),
        is_counted=dict.fromkeys(SETTINGS, np.array([True])),
        total_images=2,
    )
    predictions = rows([*FACE, 0.5]) | {"0--A/b": np.array([[80, 80, 5, 5, 0.9]])}
    assert average_precision(predictions, ground_truth).easy == 1.0
    # Nor does it find the face that lies there in the image before it.
    elsewhere = rows([80, 80, 5, 5, 0.9]) | {"0--A/b": np.array([[*FACE, 0.5]])}
    assert average_precision(elsewhere, ground_truth).easy == 0.0


def test_what_is_judged_in_one_setting_stays_when_another_is_asked_about() -> None:
    judgement = judge(rows([*FACE, 0.5]), one_image([FACE], easy=[0]))
    in_easy = judgement.is_judged(np.array([True]))
    assert judgement.is_judged(np.array([False])).tolist() == [False]
    assert in_easy.tolist() == judgement.has_face_in_image.tolist() == [True]


def test_scores_are_stretched_over_the_whole_set() -> None:
    # Scores 10.000 .. 10.001 fall into one of a thousand steps unless they are stretched.
    predictions = rows([80, 80, 5, 5, 10.0], [*FACE, 10.001])
    assert average_precision(predictions, one_image([FACE], easy=[0])).easy == 1.0


def test_precision_and_recall_are_sampled_at_1000_thresholds() -> None:
    # A false positive within the first step below the best score cannot be told from it; one below it can.
    ground_truth = one_image([FACE], easy=[0])
    last = [90, 90, 5, 5, 0.0]
    within = average_precision(rows([*FACE, 1.0], [80, 80, 5, 5, 0.9991], last), ground_truth)
    below = average_precision(rows([*FACE, 1.0], [80, 80, 5, 5, 0.9989], last), ground_truth)
    assert (within.easy, below.easy) == (0.5, 1.0)
    thresholds = within.curves["easy"].thresholds
    assert len(thresholds) == 1000
    assert (thresholds[0], thresholds[-1]) == (0.999, 0.0)


def test_constant_scores_are_defined_and_noted() -> None:
    result = average_precision(
        rows([*FACE, 0.3], [80, 80, 5, 5, 0.3]), one_image([FACE, [50, 50, 9, 9]], easy=[0, 1])
    )
    assert result.easy == 0.25  # precision 1/2 times recall 1/2
    assert set(result.curves["easy"].recall) == {0.5}
    assert len(result.warnings) == 1
    assert "all 2 detections have one score" in result.warnings[0]


def test_negative_and_huge_scores_are_fine() -> None:
    ground_truth = one_image([FACE], easy=[0])
    assert average_precision(rows([*FACE, -1.0], [80, 80, 5, 5, -2.0]), ground_truth).easy == 1.0
    assert average_precision(rows([*FACE, 1.7e308], [80, 80, 5, 5, -1.7e308]), ground_truth).easy == 1.0


def test_zero_area_negative_and_giant_boxes_give_numbers() -> None:
    boxes = [
        [5, 5, 0, 0],
        [5, 5, -1, 1e308],
        [5, 5, -1, -1],
        [5, 5, -9, -9],
        [-1e308, -1e308, 1.7e308, 1.7e308],
    ]
    predictions = rows([*FACE, 0.99], *([*box, 0.9 - i / 10] for i, box in enumerate(boxes)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = average_precision(predictions, one_image([FACE, [5, 5, 0, 0], [70, 70, 0, 3]], easy=[0, 2]))
    assert result.easy == 0.5
    assert all(np.isfinite(curve.precision).all() for curve in result.curves.values())


def test_nothing_detected_is_ap_0_not_nan() -> None:
    result = average_precision({}, one_image([FACE], easy=[0]))
    assert (result.mean, result.detections) == (0.0, 0)
    curve = result.curves["easy"]
    assert (set(curve.precision), set(curve.recall)) == ({1.0}, {0.0})
    assert result.warnings == ("1 of 1 images have no predictions: counted as nothing found",)


def test_setting_without_faces_is_0_and_noted() -> None:
    result = average_precision(rows([*FACE, 0.5], [80, 80, 5, 5, 0.1]), one_image([FACE], easy=[], hard=[0]))
    assert (result.easy, result.hard) == (0.0, 1.0)
    assert result.warnings == ("no face belongs to setting 'easy': its AP is 0 by definition",)


def test_predictions_of_other_images_do_not_count_and_are_noted() -> None:
    predictions = rows([*FACE, 0.5], [80, 80, 5, 5, 0.4]) | {"9--Z/z": np.array([[0, 0, 1, 1, 1e6]])}
    result = average_precision(predictions, one_image([FACE], easy=[0]))
    assert (result.easy, result.detections) == (1.0, 2)
    assert result.warnings == ("predictions of one image outside the ground truth are left out",)


def test_predictions_of_only_other_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"none of the 1 images .* names look like 'a' and '0--A/a'"):
        average_precision({"a": np.array([[0, 0, 1, 1, 0.5]])}, one_image([FACE], easy=[0]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [1, 4], ids=["box", "score"])
def test_detection_that_is_not_finite_is_refused_by_image_and_number(bad: float, column: int) -> None:
    predictions = rows([*FACE, 0.5], [0, 0, 1, 1, 0.5])
    predictions["0--A/a"][1, column] = bad
    with pytest.raises(DataError, match=r"'0--A/a': detection 2 is not finite"):
        average_precision(predictions, one_image([FACE], easy=[0]))


def test_predictions_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"'0--A/a': \(n, 5\) x y w h score is needed, got shape \(1, 4\)"):
        average_precision({"0--A/a": np.ones((1, 4))}, one_image([FACE], easy=[0]))
    with pytest.raises(ValueError, match="iou_threshold"):
        average_precision({}, one_image([FACE], easy=[0]), iou_threshold=0)


def test_many_detections_in_blocks_equal_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    faces = rng.uniform(0, 200, (40, 4))
    predictions = {
        "0--A/a": np.column_stack(
            [faces[rng.integers(0, 40, 300)] + rng.normal(0, 2, (300, 4)), rng.random(300)]
        )
    }
    ground_truth = one_image(faces.tolist(), easy=list(range(20)))
    expected = average_precision(predictions, ground_truth).to_dict()
    monkeypatch.setattr("featherface.evaluation.widerface._MAX_PAIRS", 7)
    assert average_precision(predictions, ground_truth).to_dict() == expected


def test_ground_truth_is_read_from_the_official_structure(tmp_path: Path) -> None:
    faces = {"0--A": {"a": [FACE, [5, 5, 3, 3]], "b.c": []}, "1--B": {"d": [[1, 2, 3, 4]]}}
    counted = {
        "easy": {"0--A/a": [1]},
        "medium": {"0--A/a": [2, 1]},
        "hard": {"0--A/a": [1, 2], "1--B/d": [1]},
    }
    ground_truth = load_ground_truth(write_mats(tmp_path, faces, counted))
    assert ground_truth.names == ("0--A/a", "0--A/b.c", "1--B/d")
    assert ground_truth.offsets.tolist() == [0, 2, 2, 3]
    assert ground_truth.boxes_xywh[2].tolist() == [1, 2, 3, 4]
    assert {s: m.tolist() for s, m in ground_truth.is_counted.items()} == {
        "easy": [True, False, False],
        "medium": [True, True, False],
        "hard": [True, True, True],
    }
    assert ground_truth.total_images == 3


SMALL = {"0--A": {"a": [FACE]}}
COUNTED: dict[str, dict[str, list[int]]] = {"easy": {}, "medium": {}, "hard": {"0--A/a": [1]}}


@pytest.mark.parametrize("name", ["wider_face_val", "wider_medium_val"])
def test_missing_mat_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write_mats(tmp_path, SMALL, COUNTED, skip=name)
    with pytest.raises(DataError, match=rf"{name}\.mat: missing; the ground truth is four files"):
        load_ground_truth(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"not a mat file", b"\0" * 200, b"MATLAB 5.0 MAT-file" + b" " * 200]
)
def test_broken_mat_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    write_mats(tmp_path, SMALL, COUNTED)
    (tmp_path / "wider_hard_val.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"wider_hard_val\.mat: (is no readable|lacks)"):
        load_ground_truth(tmp_path)


def test_truncated_mat_file_is_refused(tmp_path: Path) -> None:
    path = write_mats(tmp_path, SMALL, COUNTED) / "wider_face_val.mat"
    whole = path.read_bytes()
    for length in (*range(1, 200), *(int(len(whole) * share) for share in (0.3, 0.6, 0.9))):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"wider_face_val\.mat"):
            load_ground_truth(tmp_path)


FLIPPED = """
import random, sys
from pathlib import Path
from featherface.errors import DataError
from featherface.evaluation.ground_truth import load_ground_truth
folder, refused = Path(sys.argv[1]), 0
whole = {path: path.read_bytes() for path in sorted(folder.iterdir())}
for seed in range(int(sys.argv[2])):
    draw = random.Random(seed)
    path = draw.choice(list(whole))
    flipped = bytearray(whole[path])
    for _ in range(draw.choice([1, 1, 2, 8])):
        flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    path.write_bytes(flipped)
    try:
        load_ground_truth(folder)
    except DataError as error:
        refused += "\\n" not in str(error)
    path.write_bytes(whole[path])
print(refused)
"""


@pytest.mark.parametrize("extra", [{"a": 1}, sparse.eye(3), "ü" * 5], ids=["struct", "sparse", "text"])
def test_arrays_beside_the_lists_are_nobody_s_business(tmp_path: Path, extra: object) -> None:
    write_mats(tmp_path, SMALL, COUNTED)
    before = load_ground_truth(tmp_path)
    for path in tmp_path.iterdir():
        content = {name: value for name, value in loadmat(path).items() if name[0] != "_"}
        savemat(path, {"note": extra} | content)
    assert load_ground_truth(tmp_path).names == before.names


def test_names_may_have_any_letters(tmp_path: Path) -> None:
    name = "0--Straße/größe"
    write_mats(tmp_path, {"0--Straße": {"größe": [FACE]}}, {setting: {name: [1]} for setting in COUNTED})
    assert load_ground_truth(tmp_path).names == (name,)


@pytest.mark.parametrize("compressed", [False, True])
def test_flipped_bits_are_refused_and_end_no_process(tmp_path: Path, compressed: bool) -> None:
    """Scipy believes sizes and types of a file: one bit of them in ten ended the process."""
    write_mats(tmp_path, SMALL | {"1--B": {"b": [FACE] * 3}}, COUNTED)
    if compressed:
        for path in tmp_path.iterdir():
            content = {name: value for name, value in loadmat(path).items() if name[0] != "_"}
            savemat(path, content, do_compression=True)
    done = subprocess.run(
        [sys.executable, "-c", FLIPPED, str(tmp_path), "300"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr or f"ended by signal {-done.returncode}"
    assert int(done.stdout) > 200  # of others a name, a box or the text at the head is another one


def test_mat_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_mats(tmp_path, SMALL, COUNTED)
    write_mats(tmp_path / "other", {"0--A": {"x": [FACE]}}, COUNTED)
    (tmp_path / "other" / "wider_easy_val.mat").replace(tmp_path / "wider_easy_val.mat")
    with pytest.raises(DataError, match=r"wider_easy_val\.mat: lists other images"):
        load_ground_truth(tmp_path)
    for position in (2, 0):
        write_mats(tmp_path, SMALL, COUNTED | {"easy": {"0--A/a": [position]}})
        with pytest.raises(DataError, match=rf"'0--A/a' must count faces within 1\.\.1, got \[{position}\]"):
            load_ground_truth(tmp_path)


def test_mat_file_with_other_lists_is_refused(tmp_path: Path) -> None:
    write_mats(tmp_path, SMALL, COUNTED)
    savemat(tmp_path / "wider_face_val.mat", {"event_list": np.ones((2, 2))})
    with pytest.raises(DataError, match="lacks file_list, face_bbx_list"):
        load_ground_truth(tmp_path)
    savemat(
        tmp_path / "wider_face_val.mat",
        dict.fromkeys(("event_list", "file_list", "face_bbx_list"), np.ones((2, 2))),
    )
    with pytest.raises(DataError, match="are not nested as in the official files"):
        load_ground_truth(tmp_path)


def test_restriction_keeps_the_official_order_and_says_how_many_of_how_many(tmp_path: Path) -> None:
    faces = {"0--A": {"a": [FACE], "b": [[1, 1, 2, 2]], "c": [[3, 3, 4, 4]]}}
    counted = {setting: {"0--A/b": [1], "0--A/c": [1]} for setting in SETTINGS}
    part = restrict(
        load_ground_truth(write_mats(tmp_path, faces, counted)), ["0--A/c.webp", "0--A/a.jpg", "0--A/a.jpg"]
    )
    assert part.names == ("0--A/a", "0--A/c")
    assert part.boxes_xywh.tolist() == [FACE, [3, 3, 4, 4]]
    assert part.is_counted["easy"].tolist() == [False, True]
    assert part.total_images == 3
    result = average_precision({"0--A/c": np.array([[3, 3, 4, 4, 0.5]])}, part)
    assert (result.images, result.total_images, result.easy) == (2, 3, 1.0)
    with pytest.raises(DataError, match="1 of 2 images are not in the ground truth, the first is '0--A/z'"):
        restrict(part, ["0--A/z.jpg", "0--A/a.jpg"])
    with pytest.raises(DataError, match="no image to restrict"):
        restrict(part, [])


def test_scoring_needs_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; import featherface.evaluation.widerface, featherface.evaluation.predictions, "
        "featherface.evaluation.report, featherface.evaluation.run, featherface.evaluation.plots, "
        "featherface.evaluation.sheets; "
        "print(sorted({'torch', 'torchmetrics', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"


def test_image_key_keeps_dots_that_are_no_image_suffix() -> None:
    assert image_key("root/0--A/a.b.JPG") == "0--A/a.b"
    assert image_key("0--A/a.b") == "0--A/a.b"
    assert image_key(r"0--A\a.webp") == "0--A/a"


class TestOracle:
    pytestmark = needs_shared

    def test_three_images_worked_out_by_hand_match_exactly(self) -> None:
        result = average_precision(
            read_predictions(SHARED / "oracle" / "mini_pred"),
            load_ground_truth(SHARED / "oracle" / "mini_gt"),
        )
        assert [result.easy, result.medium, result.hard] == pytest.approx(
            [3 / 4, 13 / 15, 31 / 35], abs=1e-12
        )

    @pytest.mark.parametrize(
        ("fixture", "expected"),
        [("fixture_a", [0.999918, 0.999956, 0.999701]), ("fixture_b", [0.585624, 0.601242, 0.506264])],
    )
    def test_whole_validation_set_matches_the_published_numbers(
        self, fixture: str, expected: list[float]
    ) -> None:
        ground_truth = load_ground_truth(SHARED / "data" / "widerface" / "ground_truth")
        predictions = read_fixture(fixture)
        start = time.process_time()
        result = average_precision(predictions, ground_truth)
        seconds = time.process_time() - start
        assert [result.easy, result.medium, result.hard] == pytest.approx(expected, abs=1e-6)
        assert result.images == result.total_images == 3226
        assert [result.curves[s].num_faces for s in SETTINGS] == [7211, 13319, 31958]
        assert seconds < 1.5  # 0.12 s on a quiet core; the official port needs 22 s

    def test_shuffled_detections_of_the_whole_set_give_equal_numbers(self) -> None:
        ground_truth = load_ground_truth(SHARED / "data" / "widerface" / "ground_truth")
        predictions, rng = read_fixture("fixture_b"), np.random.default_rng(0)
        shuffled = {name: rng.permutation(values) for name, values in predictions.items()}
        assert (
            average_precision(shuffled, ground_truth).to_dict()
            == average_precision(predictions, ground_truth).to_dict()
        )


def read_fixture(name: str) -> dict[str, np.ndarray]:
    with np.load(SHARED / "oracle" / f"{name}.npz") as fixture:
        groups = np.split(fixture["dets"], np.cumsum(fixture["counts"])[:-1])
        return dict(zip(fixture["names"].tolist(), groups, strict=True))
