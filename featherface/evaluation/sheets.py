"""Sheets of images with what was found, missed and imagined, so that people see what the numbers mean.

The matching here is for the eye (one detection a face, best first, above one threshold), not the benchmark's.
Nothing is read from disk: images come from a function. `imaging.write_image` saves the sheet.

Dimensions: `N` detections and `G` faces of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from featherface.inference.overlap import box_iou, xywh_to_xyxy

if TYPE_CHECKING:
    import numpy.typing as npt

    RgbImage = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]

# RGB
_GREEN, _RED, _YELLOW, _BLUE, _GREY = (
    (52, 199, 89),
    (255, 45, 45),
    (255, 204, 0),
    (64, 156, 255),
    (150, 150, 150),
)
_LEGEND = (
    ("face found", _GREEN),
    ("face missed", _RED),
    ("detection", _YELLOW),
    ("false positive", _BLUE),
    ("ignored face", _GREY),
)
_PAPER, _INK, _MAT = (250, 250, 250), (40, 40, 40), (225, 225, 225)
_GAP_PX, _CAPTION_PX, _LEGEND_PX, _TINY_PX, _FAR_PX = 8, 24, 36, 12, 10_000


@dataclass(frozen=True, eq=False)
class SheetItem:
    """One image of a sheet."""

    name: str
    load: Callable[[], RgbImage]
    """Gives the (H, W, 3) uint8 RGB image; called only when the sheet is drawn."""
    gt_boxes_xywh: npt.NDArray[np.floating]
    """(G, 4) in pixels of the image."""
    rows: npt.NDArray[np.floating]
    """(N, 5) detections: x, y, width, height, score."""
    is_ignored: Mask | None = None
    """(G,) faces that need not be found; None: none."""
    caption: str | None = None
    """None: what was found, missed and imagined, and the name."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Which faces and detections of an image belong together at one threshold."""

    is_found: Mask
    """(G,)."""
    is_missed: Mask
    """(G,) not found and not ignored."""
    is_shown: Mask
    """(N,) detections above the score threshold."""
    is_false: Mask
    """(N,) shown, on no face, or on one that a better detection has; never on an ignored face."""

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]; 1 if nothing is to be found, and nothing is."""
        num_hits = int(np.count_nonzero(self.is_found))
        num_errors = int(np.count_nonzero(self.is_missed) + np.count_nonzero(self.is_false))
        return 2 * num_hits / (2 * num_hits + num_errors) if num_hits + num_errors else 1.0


def match_item(item: SheetItem, *, score_threshold: float = 0.5, match_iou_threshold: float = 0.5) -> Matches:
    """Give each detection, best first, the free face it overlaps most."""
    rows = np.asarray(item.rows, dtype=np.float64).reshape(-1, 5)
    boxes = np.asarray(item.gt_boxes_xywh, dtype=np.float64).reshape(-1, 4)
    is_ignored = np.zeros(len(boxes), dtype=bool) if item.is_ignored is None else item.is_ignored
    is_found = np.zeros(len(boxes), dtype=bool)
    is_shown = rows[:, 4] >= score_threshold
    is_false = is_shown.copy()
    overlaps = box_iou(xywh_to_xyxy(rows[:, :4]), xywh_to_xyxy(boxes))
    for det_idx in np.argsort(-rows[:, 4], kind="stable"):
        if not is_shown[det_idx]:
            break
        is_near = overlaps[det_idx] >= match_iou_threshold
        is_free = is_near & ~is_found & ~is_ignored
        if is_free.any():
            is_found[np.argmax(np.where(is_free, overlaps[det_idx], -1))] = True
            is_false[det_idx] = False
        elif (is_near & is_ignored).any():
            is_false[det_idx] = False
    return Matches(is_found=is_found, is_missed=~is_found & ~is_ignored, is_shown=is_shown, is_false=is_false)


def worst_first(
    items: Sequence[SheetItem], *, score_threshold: float = 0.5, match_iou_threshold: float = 0.5
) -> list[SheetItem]:
    """The items by rising F1, those with more errors first among equals."""

    def badness(item: SheetItem) -> tuple[float, int]:
        matches = match_item(item, score_threshold=score_threshold, match_iou_threshold=match_iou_threshold)
        return matches.f1, -int(matches.is_missed.sum() + matches.is_false.sum())

    return sorted(items, key=badness)


def draw_sheet(
    items: Sequence[SheetItem],
    *,
    columns: int = 4,
    tile_wh_px: tuple[int, int] = (360, 270),
    score_threshold: float = 0.5,
    match_iou_threshold: float = 0.5,
) -> RgbImage:
    """Draw images in rows, each scaled to fit its tile, with a caption, and a legend below.

    Args:
        items: in the order to show; none gives the legend alone.
        columns: tiles in a row.
        tile_wh_px: width and height of a tile without its caption.
        score_threshold: least score of a detection that is drawn and counted.
        match_iou_threshold: least overlap that counts as found.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: `columns` or a tile's side is below 1.
        ImageDecodeError: what an item's `load` raises.
    """
    tile_w, tile_h = tile_wh_px
    if columns < 1 or min(tile_wh_px) < 1:
        raise ValueError(f"columns and tile sides must be at least 1, got {columns} and {tile_wh_px}")
    num_rows = -(-len(items) // columns)
    width = max(columns * (tile_w + _GAP_PX) + _GAP_PX, 640)
    height = num_rows * (tile_h + _CAPTION_PX + _GAP_PX) + _GAP_PX + _LEGEND_PX
    sheet = np.full((height, width, 3), _PAPER, dtype=np.uint8)
    for item_idx, item in enumerate(items):
        row, column = divmod(item_idx, columns)
        x = _GAP_PX + column * (tile_w + _GAP_PX)
        y = _GAP_PX + row * (tile_h + _CAPTION_PX + _GAP_PX)
        matches = match_item(item, score_threshold=score_threshold, match_iou_threshold=match_iou_threshold)
        sheet[y : y + tile_h, x : x + tile_w] = _draw_tile(item, matches, tile_wh_px)
        _write(sheet, item.caption or _caption(item, matches), (x + 2, y + tile_h + 16), tile_w - 4)
    _draw_legend(sheet, height - _LEGEND_PX)
    return sheet


def _draw_tile(item: SheetItem, matches: Matches, tile_wh_px: tuple[int, int]) -> RgbImage:
    tile_w, tile_h = tile_wh_px
    image = item.load()
    scale = min(tile_w / image.shape[1], tile_h / image.shape[0])
    w, h = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    resized = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = np.full((tile_h, tile_w, 3), _MAT, dtype=np.uint8)
    x0, y0 = (tile_w - w) // 2, (tile_h - h) // 2
    tile[y0 : y0 + h, x0 : x0 + w] = resized
    # What went right below, what went wrong on top of it.
    rows = np.asarray(item.rows).reshape(-1, 5)[:, :4]
    faces = np.asarray(item.gt_boxes_xywh).reshape(-1, 4)
    layers = (
        (faces, ~matches.is_found & ~matches.is_missed, _GREY, 1),
        (faces, matches.is_found, _GREEN, 2),
        (rows, matches.is_shown & ~matches.is_false, _YELLOW, 1),
        (rows, matches.is_false, _BLUE, 2),
        (faces, matches.is_missed, _RED, 2),
    )
    for boxes, mask, color, thickness in layers:
        for left, top, box_w, box_h in boxes[mask] * scale:
            # Clipped, since OpenCV takes 32-bit integers and a bad detector's boxes may be any size.
            corners = np.array([left + x0, top + y0, left + box_w + x0, top + box_h + y0])
            x1, y1, x2, y2 = corners.clip(-_FAR_PX, _FAR_PX).round().astype(int).tolist()
            # A thick frame would hide a tiny face.
            is_tiny = min(box_w, box_h) < _TINY_PX
            cv2.rectangle(tile, (x1, y1), (x2, y2), color, 1 if is_tiny else thickness, cv2.LINE_AA)
    return tile


def _caption(item: SheetItem, matches: Matches) -> str:
    num_found, num_missed = int(matches.is_found.sum()), int(matches.is_missed.sum())
    name = item.name.rpartition("/")[2]
    found = f"{num_found}/{num_found + num_missed} found" if num_found + num_missed else "no face"
    return f"{found}, {int(matches.is_false.sum())} false   {name}"


def _draw_legend(sheet: RgbImage, y: int) -> None:
    x = _GAP_PX + 4
    for label, color in _LEGEND:
        cv2.rectangle(sheet, (x, y + 10), (x + 14, y + 24), color, 2, cv2.LINE_AA)
        _write(sheet, label, (x + 22, y + 22), 200)
        x += 22 + cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0] + 22


def _write(sheet: RgbImage, text: str, origin_xy: tuple[int, int], max_width_px: int) -> None:
    """Put one line of text, shortened until it fits; OpenCV's font knows ASCII only."""
    text = text.encode("ascii", "replace").decode()
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    if cv2.getTextSize(text, font, size, 1)[0][0] > max_width_px:
        while text and cv2.getTextSize(text + "...", font, size, 1)[0][0] > max_width_px:
            text = text[:-1]
        text += "..."
    cv2.putText(sheet, text, origin_xy, font, size, _INK, 1, cv2.LINE_AA)
