"""Detections on disk in the WIDER FACE benchmark's own text format: `<event>/<image>.txt`.

A file holds the image's name, the number of detections, and a line `x y w h score` for each. Decimals are
kept: rounding boxes to whole pixels costs small faces their overlap. Nothing is scored here.

Dimensions: `N` detections of one image.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featherface.errors import DataError
from featherface.files import why_unwritable

if TYPE_CHECKING:
    import numpy.typing as npt

    from featherface.structures import Detections

BOX_DECIMALS = 3
"""Digits kept of a pixel, as the benchmark's own files do."""
SCORE_DECIMALS = 9
"""Digits kept of a score: finer than float32 tells scores above 0.02 apart."""
TESTING_FILE = "testing.txt"
"""Beside the events where detections were not found at single scale: says how they were."""


def to_rows(detections: Detections) -> npt.NDArray[np.float64]:
    """(N, 5) x, y, width, height in pixels and score, rounded as they are written.

    Judging these rows and judging the files they are written to gives the same numbers.
    """
    boxes = detections.boxes_xyxy.astype(np.float64)
    rows = np.empty((len(detections), 5))
    rows[:, :2] = boxes[:, :2]
    rows[:, 2:4] = boxes[:, 2:] - boxes[:, :2]
    rows[:, :4] = rows[:, :4].round(BOX_DECIMALS)
    rows[:, 4] = detections.scores.astype(np.float64).round(SCORE_DECIMALS)
    return rows


def write_predictions(
    directory: Path | str, predictions: Mapping[str, npt.NDArray[np.floating]], *, testing: str | None = None
) -> None:
    """Write one file for each image; each appears complete or not at all, and reads back to the same numbers.

    Args:
        directory: made if it is not there; earlier predictions of the same images are replaced.
        predictions: for each image name `<event>/<image>` an (n, 5) array of x, y, width, height and score.
        testing: how often the detector looked at an image, kept beside them; None: once, as it is.

    Raises:
        DataError: the folder holds predictions of other images (they would be judged together with these), a
            name would leave the folder, or the folder cannot be written.
    """
    directory = Path(directory)
    check_folder(directory, predictions)
    try:
        for event in {name.partition("/")[0] for name in predictions}:
            (directory / event).mkdir(parents=True, exist_ok=True)
        for name, rows in predictions.items():
            _write_atomically(directory / f"{name}.txt", _format(name.partition("/")[2], rows))
        if testing is not None:
            _write_atomically(directory / TESTING_FILE, f"{testing}\n")
        else:
            (directory / TESTING_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{directory}: cannot be written ({error.strerror or error})") from error


def check_folder(directory: Path, names: Iterable[str]) -> None:
    """Refuse at once, before long work, a folder that `write_predictions` would refuse.

    Raises:
        DataError: as there.
    """
    names = list(names)
    for name in names:
        _check_name(name)
    stale = sorted(set(_list_files(directory)).difference(names)) if directory.is_dir() else []
    if stale:
        others = "another image" if len(stale) == 1 else f"{len(stale)} other images, such as"
        raise DataError(f"{directory}: holds predictions of {others} '{stale[0]}'; give an empty folder")
    reason = why_unwritable(directory)
    if reason is not None:
        raise DataError(f"{directory}: cannot be written ({reason})")


def read_predictions(directory: Path | str) -> dict[str, npt.NDArray[np.float64]]:
    """Read every `<event>/<image>.txt` of a folder as (n, 5) arrays under the names `<event>/<image>`.

    The name in the file's first line is not compared: writers disagree on its suffix. Images without a file
    are simply absent; `widerface.average_precision` counts and reports them.

    Raises:
        DataError: there is no such folder or no file in it; a file is no text, its count differs from its
            lines, or a line is not five finite numbers. Names file and line.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"{directory}: is no folder; give one with <event>/<image>.txt files")
    names = _list_files(directory)
    if not names:
        raise DataError(f"{directory}: holds no <event>/<image>.txt file")
    return {name: _read_file(directory / f"{name}.txt") for name in names}


def read_testing(directory: Path | str) -> str | None:
    """How the predictions of a folder were found, where they say that it was not at single scale.

    Raises:
        DataError: it cannot be read.
    """
    path = Path(directory) / TESTING_FILE
    try:
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error


def save_archive(path: Path | str, predictions: Mapping[str, npt.NDArray[np.floating]]) -> None:
    """Write predictions as one compressed file, which reads back to the same numbers.

    Args:
        path: ends in `.npz`.
        predictions: as of `write_predictions`.
    """
    rows = [np.asarray(each, dtype=np.float64).reshape(-1, 5) for each in predictions.values()]
    np.savez_compressed(
        path,
        names=np.asarray(list(predictions), dtype=np.str_),
        counts=np.asarray([len(each) for each in rows], dtype=np.int64),
        rows=np.concatenate([*rows, np.empty((0, 5))]),
    )


def load_archive(path: Path | str) -> dict[str, npt.NDArray[np.float64]]:
    """Read what `save_archive` wrote.

    Raises:
        DataError: the file is missing, broken, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            names, counts, rows = archive["names"], archive["counts"], archive["rows"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: is no archive of predictions ({error})") from error
    if rows.shape != (counts.sum(), 5) or len(counts) != len(names):
        raise DataError(f"{path}: is no archive of predictions (its parts do not belong together)")
    parts = np.split(rows, np.cumsum(counts)[:-1]) if len(names) else []
    return dict(zip(names.tolist(), parts, strict=True))


def _list_files(directory: Path) -> list[str]:
    """Sorted names `<event>/<image>` of the prediction files; hidden files are not predictions."""
    names = []
    try:
        for event in os.scandir(directory):
            if event.is_dir() and not event.name.startswith("."):
                names += [
                    f"{event.name}/{file.name.removesuffix('.txt')}"
                    for file in os.scandir(event.path)
                    if file.name.endswith(".txt") and not file.name.startswith(".")
                ]
    except OSError as error:
        raise DataError(f"{directory}: cannot be listed ({error})") from error
    return sorted(names)


def _read_file(path: Path) -> npt.NDArray[np.float64]:
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
    if len(lines) < 2:
        raise DataError(f"{path}: a name, a count and the detections are needed, got {len(lines)} lines")
    try:
        count = int(lines[1])
    except ValueError:
        raise DataError(f"{path}:2: a count of detections is needed, got {lines[1]!r:.80}") from None
    fields = [line.split() for line in lines[2:]]
    if count != len(fields):
        raise DataError(f"{path}:2: says {count} detections, but {len(fields)} lines follow")
    if not fields:
        return np.empty((0, 5))
    try:
        rows = np.array(fields, dtype=np.float64)
        if rows.shape == (count, 5) and np.isfinite(rows).all():
            return rows
    except ValueError:
        pass  # ragged or no numbers: the lines are searched for the culprit below
    raise _explain(path, lines)


def _explain(path: Path, lines: list[str]) -> DataError:
    """The error for the first line that is not five finite numbers."""
    for line_number, line in enumerate(lines[2:], start=3):
        try:
            is_good = len(line.split()) == 5 and all(np.isfinite(float(field)) for field in line.split())
        except ValueError:
            is_good = False
        if not is_good:
            return DataError(
                f"{path}:{line_number}: five finite numbers x y w h score are needed, got {line!r:.80}"
            )
    return DataError(f"{path}: the detections cannot be read as numbers")


def _check_name(name: str) -> None:
    parts = name.split("/")
    if len(parts) != 2 or any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise DataError(f"an image name '<event>/<image>' is needed, got '{name}'")


def _format(image: str, rows: npt.NDArray[np.floating]) -> str:
    # repr of a float is the shortest text that reads back to it.
    lines = [" ".join(map(repr, row)) for row in np.asarray(rows, dtype=np.float64).tolist()]
    return "\n".join([image, str(len(lines)), *lines, ""])


def _write_atomically(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o644)  # mkstemp's 0600 would lock out whoever reads the results
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
