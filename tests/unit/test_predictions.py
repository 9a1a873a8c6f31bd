from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featherface.errors import DataError
from featherface.evaluation.predictions import (
    load_archive,
    read_predictions,
    save_archive,
    to_rows,
    write_predictions,
)
from featherface.structures import Detections

ROWS = np.array([[0.1, -2.5, 3.25, 1e-3, 0.123456789], [100, 200, 30, 40, 0.5]])


def write(root: Path, text: str | bytes) -> Path:
    path = root / "0--A" / "a.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def test_files_have_the_official_form(tmp_path: Path) -> None:
    write_predictions(tmp_path, {"0--A/a": ROWS, "0--A/b.c": np.empty((0, 5))})
    assert (tmp_path / "0--A" / "a.txt").read_text() == (
        "a\n2\n0.1 -2.5 3.25 0.001 0.123456789\n100.0 200.0 30.0 40.0 0.5\n"
    )
    assert (tmp_path / "0--A" / "b.c.txt").read_text() == "b.c\n0\n"
    assert sorted(p.name for p in (tmp_path / "0--A").iterdir()) == ["a.txt", "b.c.txt"]


def test_what_is_written_reads_back_to_the_same_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    predictions = {f"{e}--E/{i}.x": rng.normal(0, 1e3, (i, 5)) for e in range(2) for i in range(4)}
    predictions["0--E/float32"] = rng.random((3, 5)).astype(np.float32)
    write_predictions(tmp_path, predictions)
    again = read_predictions(tmp_path)
    assert sorted(again) == sorted(predictions)
    for name, expected in predictions.items():
        np.testing.assert_array_equal(again[name], expected.astype(np.float64))


def test_detections_become_rows_that_survive_the_file(tmp_path: Path) -> None:
    detections = Detections(
        boxes_xyxy=np.array([[1.1, 2.2, 4.4, 6.6], [0.5, 0.5, 0.5, 0.5]], np.float32),
        scores=np.array([0.9, 0.021], np.float32),
        landmarks_xy=np.zeros((2, 5, 2), np.float32),
    )
    rows = to_rows(detections)
    np.testing.assert_allclose(rows, [[1.1, 2.2, 3.3, 4.4, 0.9], [0.5, 0.5, 0, 0, 0.021]], atol=1e-6)
    write_predictions(tmp_path, {"0--A/a": rows})
    np.testing.assert_array_equal(read_predictions(tmp_path)["0--A/a"], rows)
    none = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))
    assert to_rows(none).shape == (0, 5)


@pytest.mark.parametrize(
    "text",
    ["a\n1\n1 2 3 4 0.5\n", "a.jpg\r\n1\r\n1 2 3 4 0.5 \r\n\r\n", "other name\n 1 \n\t1.0  2e0 3 4 5e-1"],
)
def test_spaces_line_ends_and_names_may_vary(tmp_path: Path, text: str) -> None:
    assert read_predictions(write(tmp_path, text))["0--A/a"].tolist() == [[1, 2, 3, 4, 0.5]]


def test_files_that_are_no_predictions_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "a\n0\n")
    (tmp_path / "readme.txt").write_text("about these files")
    (tmp_path / "0--A" / "._a.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "0--A" / "b.json").write_text("{}")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("?")
    assert list(read_predictions(tmp_path)) == ["0--A/a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.txt: a name, a count and the detections are needed, got 0 lines"),
        ("a\n", r"a\.txt: a name, a count and the detections are needed, got 1 lines"),
        ("a\nmany\n", r"a\.txt:2: a count of detections is needed, got 'many'"),
        ("a\n2\n1 2 3 4 0.5\n", r"a\.txt:2: says 2 detections, but 1 lines follow"),
        ("a\n1\n1 2 3 4 0.5\n1 2 3 4 0.5\n", r"a\.txt:2: says 1 detections, but 2 lines follow"),
        ("a\n-1\n", r"a\.txt:2: says -1 detections"),
        (
            "a\n2\n1 2 3 4 0.5\n1 2 3 nan 0.5\n",
            r"a\.txt:4: five finite numbers x y w h score are needed, got '1 2 3 n",
        ),
        ("a\n1\n1 2 3 4 inf\n", r"a\.txt:3: five finite numbers"),
        ("a\n1\n1 2 3 4 1e999\n", r"a\.txt:3: five finite numbers"),
        (
            "a\n2\n1 2 3 4\n1 2 3 4 0.5 6\n",
            r"a\.txt:3: five finite numbers x y w h score are needed, got '1 2 3 4'",
        ),
        ("a\n2\n1 2 3 4 5\n\n1 2 3 4 5\n", r"a\.txt:2: says 2 detections, but 3 lines"),
        ("a\n1\n1 2 3 four 0.5\n", r"a\.txt:3: .* got '1 2 3 four 0.5'"),
        (b"a\n1\n\xff\xfe\n", r"a\.txt: cannot be read as text"),
    ],
)
def test_broken_file_is_refused_with_file_and_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_predictions(write(tmp_path, text))


def test_folder_without_predictions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no <event>/<image>\.txt file"):
        read_predictions(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        read_predictions(tmp_path / "absent")
    (tmp_path / "0--A" / "a.txt").mkdir(parents=True)
    with pytest.raises(DataError, match=r"a\.txt: cannot be read"):
        read_predictions(tmp_path)


def test_predictions_of_other_images_are_never_mixed_with_ours(tmp_path: Path) -> None:
    write_predictions(tmp_path, {"0--A/a": ROWS, "0--A/old": ROWS})
    with pytest.raises(DataError, match="holds predictions of another image '0--A/old'"):
        write_predictions(tmp_path, {"0--A/a": ROWS[:1]})
    assert len(read_predictions(tmp_path)["0--A/a"]) == 2
    write_predictions(tmp_path, {"0--A/a": ROWS[:1], "0--A/old": ROWS, "1--B/new": ROWS})
    assert {name: len(rows) for name, rows in read_predictions(tmp_path).items()} == {
        "0--A/a": 1,
        "0--A/old": 2,
        "1--B/new": 2,
    }


@pytest.mark.parametrize("name", ["a", "../a", "0--A/..", "x/0--A/a", "/a", "0--A/", "0--A/a\0b"])
def test_name_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="an image name '<event>/<image>' is needed"):
        write_predictions(tmp_path / "out", {name: ROWS})
    assert not (tmp_path / "out").exists()


def test_failed_write_leaves_the_old_file_and_no_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_predictions(tmp_path, {"0--A/a": ROWS})

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DataError, match=r"cannot be written \(disk full\)"):
        write_predictions(tmp_path, {"0--A/a": ROWS[:1]})
    assert [p.name for p in (tmp_path / "0--A").iterdir()] == ["a.txt"]
    assert len(read_predictions(tmp_path)["0--A/a"]) == 2


def test_an_archive_reads_back_to_the_same_numbers(tmp_path: Path) -> None:
    predictions = {
        "a/1": np.random.default_rng(0).random((3, 5)),
        "a/2": np.empty((0, 5)),
        "b/3": np.ones((1, 5)),
    }
    save_archive(tmp_path / "all.npz", predictions)
    found = load_archive(tmp_path / "all.npz")
    assert list(found) == list(predictions)
    for name, rows in predictions.items():
        np.testing.assert_array_equal(found[name], rows)
    save_archive(tmp_path / "none.npz", {})
    assert load_archive(tmp_path / "none.npz") == {}


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_archive_of_predictions_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.npz"
    if content is None:
        np.savez(path, names=np.asarray(["a/1"]), counts=np.asarray([2]), rows=np.zeros((1, 5)))
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match="is no archive of predictions"):
        load_archive(path)
