from __future__ import annotations

import numpy as np
import pytest

from featherface.errors import ImageDecodeError
from featherface.evaluation.sheets import SheetItem, draw_sheet, match_item, worst_first

GREEN, RED, YELLOW, BLUE, GREY = (52, 199, 89), (255, 45, 45), (255, 204, 0), (64, 156, 255), (150, 150, 150)
FACES = np.array([[10.0, 10, 60, 60], [100, 10, 60, 60], [10, 100, 60, 60]])


def item(
    rows: list[list[float]],
    faces: np.ndarray = FACES,
    ignored: list[bool] | None = None,
    name: str = "0--A/a",
) -> SheetItem:
    return SheetItem(
        name=name,
        load=lambda: np.zeros((180, 240, 3), np.uint8),
        gt_boxes_xywh=faces,
        rows=np.array(rows, float).reshape(-1, 5),
        is_ignored=None if ignored is None else np.array(ignored),
    )


def has_color(sheet: np.ndarray, color: tuple[int, int, int], box: tuple[int, int, int, int]) -> bool:
    """Whether a color is within a part x1 y1 x2 y2 of a sheet with tiles of the image's own size."""
    x1, y1, x2, y2 = box
    part = sheet[8 + y1 : 8 + y2, 8 + x1 : 8 + x2].astype(int)
    return bool((np.abs(part - color).sum(axis=2) < 40).any())


def test_best_detection_takes_the_face_and_the_second_is_false() -> None:
    matches = match_item(
        item([[12, 10, 60, 60, 0.7], [10, 10, 60, 60, 0.9], [200, 150, 9, 9, 0.6], [0, 0, 9, 9, 0.1]])
    )
    assert matches.is_found.tolist() == [True, False, False]
    assert matches.is_missed.tolist() == [False, True, True]
    assert matches.is_shown.tolist() == [True, True, True, False]
    assert matches.is_false.tolist() == [True, False, True, False]
    assert matches.f1 == pytest.approx(2 / (2 + 4))


def test_detection_of_an_ignored_face_is_neither_false_nor_is_the_face_missed() -> None:
    matches = match_item(item([[10, 10, 60, 60, 0.9], [10, 10, 60, 60, 0.8]], ignored=[True, False, False]))
    assert matches.is_found.tolist() == [False, False, False]
    assert matches.is_missed.tolist() == [False, True, True]
    assert matches.is_false.tolist() == [False, False]


def test_image_without_faces_or_detections_is_faultless() -> None:
    assert match_item(item([], np.empty((0, 4)))).f1 == 1.0
    assert match_item(item([[0, 0, 9, 9, 0.9]], np.empty((0, 4)))).f1 == 0.0
    assert match_item(item([[5, 5, 0, 0, 0.9]], np.array([[5.0, 5, 0, 0]]))).f1 == 0.0


def test_worst_images_come_first() -> None:
    perfect = item([[*face, 0.9] for face in FACES.tolist()], name="perfect")
    half = item([[*FACES[0].tolist(), 0.9]], name="half")
    few = item([], FACES[:1], name="one missed")
    many = item([], FACES, name="three missed")
    assert [i.name for i in worst_first([perfect, few, half, many])] == [
        "three missed",
        "one missed",
        "half",
        "perfect",
    ]
    assert [i.name for i in worst_first([half, perfect], score_threshold=0.95)] == ["half", "perfect"]


def test_colors_tell_found_missed_false_and_ignored() -> None:
    one = item([[100, 12, 60, 60, 0.9], [200, 140, 30, 30, 0.8]], ignored=[False, False, True])
    sheet = draw_sheet([one], columns=1, tile_wh_px=(240, 180))
    assert has_color(sheet, RED, (0, 0, 90, 90))
    assert has_color(sheet, GREEN, (95, 0, 170, 90))
    assert has_color(sheet, YELLOW, (95, 0, 170, 90))
    assert has_color(sheet, GREY, (0, 90, 90, 180))
    assert has_color(sheet, BLUE, (190, 130, 240, 180))
    assert not has_color(sheet, RED, (95, 0, 240, 180))
    assert not has_color(sheet, BLUE, (0, 0, 180, 120))


def test_sheet_has_a_row_for_every_started_set_of_columns() -> None:
    three = [item([]) for _ in range(3)]
    one_row = draw_sheet(three, columns=3, tile_wh_px=(240, 180))
    two_rows = draw_sheet(three, columns=2, tile_wh_px=(240, 180))
    assert one_row.dtype == two_rows.dtype == np.uint8
    assert two_rows.shape[0] - one_row.shape[0] == 180 + 24 + 8
    assert draw_sheet([]).shape[0] < 60  # the legend alone


@pytest.mark.parametrize("image_hw", [(1, 1), (4, 900), (900, 4), (31, 47)])
def test_images_of_any_shape_fit_their_tile(image_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    odd = SheetItem(
        name="0--A/" + "a very long name " * 9 + "é漢",
        load=lambda: rng.integers(0, 255, (*image_hw, 3), dtype=np.uint8),
        gt_boxes_xywh=np.empty((0, 4), np.float32),
        rows=np.array([[-5e20, -5, 1e21, 9, 0.9]], np.float32),
    )
    assert draw_sheet([odd], tile_wh_px=(100, 80)).ndim == 3


def test_broken_image_and_impossible_sizes_are_refused() -> None:
    def fail() -> np.ndarray:
        raise ImageDecodeError("a.jpg: no image")

    broken = SheetItem("0--A/a", fail, np.empty((0, 4)), np.empty((0, 5)))
    with pytest.raises(ImageDecodeError, match=r"a\.jpg"):
        draw_sheet([broken])
    with pytest.raises(ValueError, match="columns and tile sides must be at least 1, got 0"):
        draw_sheet([], columns=0)
