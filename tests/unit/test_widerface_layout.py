"""The annotation format, official and extended, and the photographs behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featherface.data.splits import split_dev
from featherface.data.widerface import (
    Annotation,
    Sample,
    annotation_path,
    images_dir,
    list_images,
    locate_images,
    open_widerface,
    read_annotations,
)
from featherface.errors import DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "widerface"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the research photographs are not beside the project"
)

OFFICIAL = """\
0--Parade/a.jpg
2
449 330 122 149 0 0 0 0 0 0\x20
10.5 20.25 30 40 2 1 1 1 2 1
1--Handshaking/empty.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/b.jpg
1
1 2 3 4 0 0 0 0 0 0
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "wider_face_train_bbx_gt.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_official_lines_give_boxes_and_flags(tmp_path: Path) -> None:
    first, empty, last = read_annotations(write(tmp_path, OFFICIAL))
    assert [first.image, empty.image, last.image] == [
        "0--Parade/a.jpg",
        "1--Handshaking/empty.jpg",
        "1--Handshaking/b.jpg",
    ]
    np.testing.assert_array_equal(first.boxes_xywh, np.float32([[449, 330, 122, 149], [10.5, 20.25, 30, 40]]))
    np.testing.assert_array_equal(first.boxes_xyxy[1], np.float32([10.5, 20.25, 40.5, 60.25]))
    np.testing.assert_array_equal(first.attributes, [[0, 0, 0, 0, 0, 0], [2, 1, 1, 1, 2, 1]])
    np.testing.assert_array_equal(first.is_invalid, [False, True])
    assert first.event == "0--Parade"
    assert first.boxes_xywh.dtype == np.float32


def test_image_without_faces_has_none_despite_its_line_of_zeros(tmp_path: Path) -> None:
    empty = read_annotations(write(tmp_path, OFFICIAL))[1]
    assert len(empty) == 0
    assert empty.boxes_xywh.shape == (0, 4)
    assert empty.attributes.shape == (0, 6)
    assert empty.landmarks_xy.shape == (0, 5, 2)
    assert empty.has_landmarks.shape == (0,)


@pytest.mark.parametrize("tail", ["", "e/next.jpg\n0\n"])
def test_line_of_zeros_may_be_absent(tmp_path: Path, tail: str) -> None:
    annotations = read_annotations(write(tmp_path, f"e/empty.jpg\n0\n{tail}"))
    assert [len(annotation) for annotation in annotations] == [0] * (1 + bool(tail))


def test_file_without_images_is_no_annotations(tmp_path: Path) -> None:
    assert read_annotations(write(tmp_path, "\n")) == ()


def test_windows_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbf" + OFFICIAL.replace("\n", "\r\n").encode())
    assert [len(annotation) for annotation in read_annotations(path)] == [2, 0, 1]


def test_landmarks_are_read_and_minus_one_means_unknown(tmp_path: Path) -> None:
    known = "1 2 3 4 5 6 7 8 9 10"
    text = f"e/a.jpg\n4\n0 0 9 9 0 0 0 0 0 0 {known}\n0 0 9 9 0 0 0 0 0 0 {' '.join(['-1'] * 10)}\n"
    text += "0 0 9 9 0 0 0 0 0 0\n0 0 9 9 0 0 0 0 0 0 1 2 -1 -1 5 6 7 8 9 10\n"
    (annotation,) = read_annotations(write(tmp_path, text))
    np.testing.assert_array_equal(annotation.has_landmarks, [True, False, False, False])
    np.testing.assert_array_equal(annotation.landmarks_xy[0], [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]])
    assert not annotation.landmarks_xy[1:].any()


def test_landmark_left_of_the_image_is_not_an_unknown_one(tmp_path: Path) -> None:
    text = "e/a.jpg\n1\n0 0 9 9 0 0 0 0 0 0 -1 2 3 4 5 6 7 8 9 10\n"
    (annotation,) = read_annotations(write(tmp_path, text))
    assert annotation.has_landmarks.tolist() == [True]
    assert annotation.landmarks_xy[0, 0].tolist() == [-1, 2]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("e/a.jpg\n", 2, r"expected the number of faces of e/a.jpg, got 'the end of the file'"),
        ("e/a.jpg\ntwo\n", 2, r"expected the number of faces of e/a.jpg, got 'two'"),
        ("e/a.jpg\n-1\n", 2, r"expected the number of faces of e/a.jpg, got '-1'"),
        ("e/a.jpg\n" + "1" * 5000 + "\n", 2, r"expected the number of faces of e/a.jpg, got '1111"),
        (
            "e/a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n",
            4,
            r"expected face 2 of 2 of e/a.jpg: x y w h .*'the end of the",
        ),
        ("e/a.jpg\n1\n1 2 3 4 0 0 0 0 0\n", 3, r"expected face 1 of 1 .*, got '1 2 3 4 0 0 0 0 0'"),
        ("e/a.jpg\n1\n1 2 3 4 0 0 0 0 0 0 7\n", 3, r"and 10 landmark coordinates or nothing, got"),
        ("e/a.jpg\n1\n1 2 x 4 0 0 0 0 0 0\n", 3, r"x y w h blur expression"),
        ("e/a.jpg\n1\n1 2 nan 4 0 0 0 0 0 0\n", 3, r"x y w h blur expression"),
        ("e/a.jpg\n1\n1 2 1e39 4 0 0 0 0 0 0\n", 3, r"x y w h blur expression.*, got '1 2 1e39"),
        ("e/a.jpg\n1\n1 -inf 3 4 0 0 0 0 0 0\n", 3, r"x y w h blur expression"),
        ("e/a.jpg\n1\n1 2 3 4 0 0 0 0 0 0" + " 1e39" * 10, 3, r"and 10 landmark coordinates or nothing"),
        ("e/a.jpg\n1\n1 2 3 4 0.5 0 0 0 0 0\n", 3, r"whole numbers for blur expression"),
        ("e/a.jpg\n1\n1 2 3 4 0 0 0 0 0 999\n", 3, r"whole numbers for blur expression"),
        ("a.jpg\n0\n", 1, r"expected an image name such as 0--Parade/.*, got 'a.jpg'"),
        ("../a.jpg\n0\n", 1, r"expected an image name"),
        ("e/deep/a.jpg\n0\n", 1, r"expected an image name"),
        ("/etc/passwd\n0\n", 1, r"expected an image name"),
        ("e/a.jpg\n0\n\ne/a.jpg\n0\n", 4, r"expected an image that was not named in line 1, got 'e/a.jpg'"),
    ],
)
def test_malformed_line_is_named_with_expected_and_got(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    with pytest.raises(DataError, match=rf"wider_face_train_bbx_gt\.txt:{line}: .*{message}"):
        read_annotations(write(tmp_path, text))


def test_very_long_line_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refusal:
        read_annotations(write(tmp_path, "e/a.jpg\n" + "9" * 1000 + "x"))
    assert len(str(refusal.value)) < 100 + len(str(tmp_path)) + 100


def test_missing_annotation_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read as annotations \(No such file or d"):
        read_annotations(tmp_path / "gone.txt")
    with pytest.raises(DataError, match=r"has no wider_face_split/wider_face_val_bbx_gt\.txt; a data set"):
        open_widerface(tmp_path, "val")


def test_picture_given_as_annotations_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match=r"x\.txt: cannot be read as annotations"):
        read_annotations(tmp_path / "x.txt")


def make_root(tmp_path: Path, present: list[str]) -> Path:
    path = annotation_path(tmp_path, "train")
    path.parent.mkdir()
    path.write_text("e/a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\ne/b.jpg\n0\n")
    folder = images_dir(tmp_path, "train") / "e"
    folder.mkdir(parents=True)
    for name in present:
        (folder / name).touch()
    return tmp_path


def test_samples_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    samples = open_widerface(make_root(tmp_path, ["b.jpg", "a.jpg"]), "train")
    assert [sample.path.name for sample in samples] == ["a.jpg", "b.jpg"]
    assert [len(sample.annotation) for sample in samples] == [1, 0]


def test_photograph_may_have_another_suffix_but_its_own_wins(tmp_path: Path) -> None:
    samples = open_widerface(make_root(tmp_path, ["a.webp", "b.jpg", "b.png", "a.txt"]), "train")
    assert [sample.path.name for sample in samples] == ["a.webp", "b.jpg"]


def test_missing_photograph_is_an_error_that_names_it(tmp_path: Path) -> None:
    message = r"1 of 2 annotated images are missing, the first is e/b\.jpg; `featherface data validate`"
    with pytest.raises(DataError, match=message):
        open_widerface(make_root(tmp_path, ["a.jpg"]), "train")


def test_missing_photograph_is_left_out_on_request(tmp_path: Path) -> None:
    samples = open_widerface(make_root(tmp_path, ["a.jpg"]), "train", missing="skip")
    assert [sample.annotation.image for sample in samples] == ["e/a.jpg"]


def test_no_photograph_at_all_is_an_error_even_then(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 of 2 annotated images are missing"):
        open_widerface(make_root(tmp_path, []), "train", missing="skip")


def test_annotations_of_nothing_are_refused(tmp_path: Path) -> None:
    root = make_root(tmp_path, ["a.jpg"])
    annotation_path(root, "train").write_text("\n")
    with pytest.raises(DataError, match=r"train_bbx_gt\.txt: names no photograph"):
        open_widerface(root, "train", missing="skip")


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: is no folder; a data set in WIDER FACE layout"):
        open_widerface(tmp_path / "nowhere", "val")


def test_photographs_are_located_in_the_order_asked_for(tmp_path: Path) -> None:
    root = make_root(tmp_path, ["a.jpg"])
    paths = locate_images(images_dir(root, "train"), ["e/x.jpg", "e/a.png", "other/a.jpg"])
    assert [path and path.name for path in paths] == [None, "a.jpg", None]


def test_listing_is_sorted_and_has_images_only(tmp_path: Path) -> None:
    root = make_root(tmp_path, ["b.jpg", "a.WEBP", "notes.txt"])
    assert [path.name for path in list_images(images_dir(root, "train"))] == ["a.WEBP", "b.jpg"]


def make_samples(images_by_event: dict[str, int], suffix: str = ".jpg") -> list[Sample]:
    none = np.zeros((0, 4), np.float32)
    flags, points, known = np.zeros((0, 6), np.int8), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.bool_)
    return [
        Sample(Path(f"{event}_{i}{suffix}"), Annotation(f"{event}/{i}{suffix}", none, flags, points, known))
        for event, num_images in images_by_event.items()
        for i in range(num_images)
    ]


def names(samples: tuple[Sample, ...]) -> list[str]:
    return [sample.annotation.image for sample in samples]


def test_development_split_takes_its_share_of_every_event() -> None:
    rest, dev = split_dev(make_samples({"a": 40, "b": 20, "c": 10}), fraction=0.1, seed=0)
    assert {event: sum(name.startswith(event) for name in names(dev)) for event in "abc"} == {
        "a": 4,
        "b": 2,
        "c": 1,
    }
    assert len(rest) == 63
    assert not set(names(rest)) & set(names(dev))


def test_small_events_pool_their_parts() -> None:
    _, dev = split_dev(make_samples({f"event{i}": 1 for i in range(40)}), fraction=0.1, seed=0)
    assert len(dev) == 4


def test_split_does_not_depend_on_order_or_suffix_but_on_the_seed() -> None:
    samples = make_samples({"a": 30, "b": 30})
    dev = set(names(split_dev(samples, fraction=0.2, seed=1)[1]))
    assert set(names(split_dev(samples[::-1], fraction=0.2, seed=1)[1])) == dev
    small = make_samples({"a": 2, "b": 1, "c": 1})
    forward, backward = (split_dev(s, fraction=0.25, seed=1)[1] for s in (small, small[::-1]))
    assert names(forward) == names(backward)
    as_webp = split_dev(make_samples({"a": 30, "b": 30}, ".webp"), fraction=0.2, seed=1)[1]
    assert {name.replace(".webp", ".jpg") for name in names(as_webp)} == dev
    assert set(names(split_dev(samples, fraction=0.2, seed=2)[1])) != dev


@pytest.mark.parametrize(("fraction", "expected"), [(0, 0), (1, 15)])
def test_whole_and_empty_splits(fraction: float, expected: int) -> None:
    rest, dev = split_dev(make_samples({"a": 7, "b": 8}), fraction=fraction, seed=0)
    assert (len(rest), len(dev)) == (15 - expected, expected)


def test_fraction_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\], got 1.5"):
        split_dev([], fraction=1.5, seed=0)


@pytest.mark.shared
@needs_shared
@pytest.mark.parametrize(
    ("split", "num_images", "num_faces", "num_invalid", "num_flat"),
    [("train", 4384, 47_924, 651, 9), ("val", 323, 4085, 96, 0)],
)
def test_real_annotations_and_photographs_are_all_found(
    split: str, num_images: int, num_faces: int, num_invalid: int, num_flat: int
) -> None:
    samples = open_widerface(SHARED, split)  # type: ignore[arg-type]
    annotations = [sample.annotation for sample in samples]
    assert len(samples) == num_images
    assert sum(len(annotation) for annotation in annotations) == num_faces
    assert sum(annotation.is_invalid.sum() for annotation in annotations) == num_invalid
    flat = sum((annotation.boxes_xywh[:, 2:] <= 0).any(axis=1).sum() for annotation in annotations)
    assert flat == num_flat
