"""The WIDER FACE layout on disk: annotation files and where their photographs lie.

    root/WIDER_{train,val}/images/<event>/<image>
    root/wider_face_split/wider_face_{train,val}_bbx_gt.txt
    root/ground_truth/wider_{face,easy,medium,hard}_val.mat    (only the official evaluation reads these)

Boxes may be decimal, and ten more numbers after the official ten may give five landmarks (our extension, -1
for unknown). Nothing here decodes an image.

Reference: S. Yang, P. Luo, C. C. Loy, X. Tang, "WIDER FACE: A Face Detection Benchmark", arXiv:1511.06523.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from featherface.errors import DataError
from featherface.imaging import IMAGE_SUFFIXES

Split = Literal["train", "val"]

ATTRIBUTES = ("blur", "expression", "illumination", "invalid", "occlusion", "pose")
"""The six flags after a box, in the order of the file."""
ATTRIBUTE_MAXIMA = (2, 1, 1, 1, 2, 1)
"""The largest value that the benchmark gives each flag; the smallest is 0."""
GROUND_TRUTH_DIR = "ground_truth"
"""Where a data set keeps the official .mat files of its validation split."""
_GROUND_TRUTH_FILES = tuple(f"wider_{what}_val.mat" for what in ("face", "easy", "medium", "hard"))
_NUM_OFFICIAL = 4 + len(ATTRIBUTES)
_NUM_WITH_LANDMARKS = _NUM_OFFICIAL + 10
_UNKNOWN = -1.0
_MAX_COUNT_DIGITS = 9
# No picture is so large, and areas and sums of such numbers still fit into float32.
_MAX_COORDINATE = 1e9


@dataclass(frozen=True, eq=False)
class Annotation:
    """The faces of one photograph, in its pixels."""

    image: str
    """`<event>/<file>` as the annotation file names it; the file on disk may have another suffix."""
    boxes_xywh: npt.NDArray[np.float32]
    """(G, 4) left, top, width, height; sizes may be 0, boxes may leave the image: the data is like that."""
    attributes: npt.NDArray[np.int8]
    """(G, 6) in the order of `ATTRIBUTES`."""
    landmarks_xy: npt.NDArray[np.float32]
    """(G, 5, 2) left eye, right eye, nose, left and right corner of the mouth; zeros where unknown."""
    has_landmarks: npt.NDArray[np.bool_]
    """(G,) all five points of the face are known."""

    @property
    def event(self) -> str:
        """The scene class, such as `0--Parade`."""
        return PurePosixPath(self.image).parts[0]

    @property
    def is_invalid(self) -> npt.NDArray[np.bool_]:
        """(G,) flagged by the annotators as not usable."""
        return np.not_equal(self.attributes[:, ATTRIBUTES.index("invalid")], 0)

    @property
    def boxes_xyxy(self) -> npt.NDArray[np.float32]:
        """(G, 4) left, top, right, bottom."""
        return np.concatenate(
            [self.boxes_xywh[:, :2], self.boxes_xywh[:, :2] + self.boxes_xywh[:, 2:]], axis=1
        )

    def __len__(self) -> int:
        return int(self.boxes_xywh.shape[0])


@dataclass(frozen=True, eq=False)
class Sample:
    """An annotated photograph that is there."""

    path: Path
    """The image file."""
    annotation: Annotation


def annotation_path(root: Path | str, split: Split) -> Path:
    """Where the annotations of a split lie under `root`."""
    return Path(root) / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt"


def images_dir(root: Path | str, split: Split) -> Path:
    """Where the photographs of a split lie under `root`."""
    return Path(root) / f"WIDER_{split}" / "images"


def lacking(has: Callable[[str], bool]) -> str:
    """What a whole data set has and this one has not, with the archives that hold it; empty: nothing.

    The pipeline trains on one split and judges on the other, by the official lists. Trials on a part of the
    training photographs need less.

    Args:
        has: whether a file or folder is there, by its path below the root.
    """
    parts = {
        "WIDER_train.zip": ["WIDER_train/images"],
        "WIDER_val.zip": ["WIDER_val/images"],
        "wider_face_split.zip": [annotation_path("", split).as_posix() for split in get_args(Split)],
        "eval_tools.zip": [f"{GROUND_TRUTH_DIR}/{name}" for name in _GROUND_TRUTH_FILES],
    }
    absent = {archive: [path for path in paths if not has(path)] for archive, paths in parts.items()}
    return "; ".join(f"{', '.join(paths)} (of {archive})" for archive, paths in absent.items() if paths)


def refuse_lacking(where: Path, has: Callable[[str], bool]) -> None:
    """Refuse, before hours of training, what no student can be trained on and judged by.

    Args:
        where: what is looked at, for the message.
        has: as of `lacking`.

    Raises:
        DataError: something is missing.
    """
    if missing := lacking(has):
        raise DataError(
            f"{where}: lacks {missing}, without which no student is trained and judged; put it there"
        )


def read_annotations(path: Path | str) -> tuple[Annotation, ...]:
    """Parse an annotation file, official or with our landmarks, in the order of the file.

    Raises:
        DataError: the file is missing, or a line is malformed: names file, line, expected and got.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise DataError(f"{path}: cannot be read as annotations ({reason})") from error
    # Blank lines carry nothing in this format; numbers are those of an editor.
    lines = _Lines(
        path, [(n, line) for n, raw in enumerate(text.splitlines(), start=1) if (line := raw.strip())]
    )
    first_seen: dict[str, int] = {}
    annotations = []
    while not lines.at_end():
        number, name = lines.take("an image name")
        _check_name(lines, number, name)
        if name in first_seen:
            raise lines.error(number, f"an image that was not named in line {first_seen[name]}", name)
        first_seen[name] = number
        annotations.append(_parse_faces(lines, name))
    return tuple(annotations)


def open_widerface(
    root: Path | str, split: Split, *, missing: Literal["error", "skip"] = "error"
) -> tuple[Sample, ...]:
    """The annotated photographs of a split, in the order of its annotation file.

    Args:
        root: the folder with `WIDER_<split>` and `wider_face_split`.
        split: `train` or `val`.
        missing: what to do when annotated images are not there: refuse, or leave them out.

    Raises:
        DataError: no such folder or annotation file, a malformed line, missing images, or no image at all.
    """
    if not Path(root).is_dir():
        raise DataError(f"{root}: is no folder; a data set in WIDER FACE layout is needed")
    if not annotation_path(root, split).exists():
        raise DataError(
            f"{root}: has no {annotation_path('', split)}; a data set in WIDER FACE layout is needed"
        )
    annotations = read_annotations(annotation_path(root, split))
    if not annotations:
        raise DataError(
            f"{annotation_path(root, split)}: names no photograph; put the whole file in its place"
        )
    folder = images_dir(root, split)
    paths = locate_images(folder, [annotation.image for annotation in annotations])
    absent = [annotation.image for annotation, path in zip(annotations, paths, strict=True) if path is None]
    if absent and (missing == "error" or len(absent) == len(annotations)):
        raise DataError(
            f"{folder}: {len(absent)} of {len(annotations)} annotated images are missing, the first is"
            f" {absent[0]}; `featherface data validate` lists them"
        )
    return tuple(
        Sample(path, annotation)
        for annotation, path in zip(annotations, paths, strict=True)
        if path is not None
    )


def locate_images(folder: Path, names: Iterable[str]) -> list[Path | None]:
    """The file of each name under `folder`, or None; the same stem with another image suffix will do."""
    listings: dict[Path, dict[str, Path]] = {}
    located: list[Path | None] = []
    for name in names:
        wanted = folder / name
        listing = listings.get(wanted.parent)
        if listing is None:
            listing = listings[wanted.parent] = _list_images(wanted.parent)
        located.append(listing.get(wanted.name) or listing.get(wanted.stem))
    return located


def list_images(folder: Path) -> list[Path]:
    """All image files `<event>/<image>` under a folder by suffix, sorted; linked folders are followed."""
    return [path for event in sorted(folder.glob("*")) for path in _image_files(event)]


def _list_images(folder: Path) -> dict[str, Path]:
    """File name -> path, and stem -> path for names that the annotations know by another suffix."""
    files = _image_files(folder)
    return {path.stem: path for path in files} | {path.name: path for path in files}


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in files if path.is_file())


class _Lines:
    """A cursor over the lines of a file that knows how to complain about them."""

    def __init__(self, path: Path, lines: Sequence[tuple[int, str]]) -> None:
        self._path, self._lines, self._next = path, lines, 0

    def at_end(self) -> bool:
        return self._next >= len(self._lines)

    def peek(self) -> str:
        return "" if self.at_end() else self._lines[self._next][1]

    def take(self, expected: str) -> tuple[int, str]:
        if self.at_end():
            last = self._lines[-1][0] if self._lines else 0
            raise self.error(last + 1, expected, "the end of the file")
        line = self._lines[self._next]
        self._next += 1
        return line

    def error(self, number: int, expected: str, got: str) -> DataError:
        shown = got if len(got) <= 80 else got[:77] + "..."
        return DataError(f"{self._path}:{number}: expected {expected}, got '{shown}'")


def _check_name(lines: _Lines, number: int, name: str) -> None:
    parts = PurePosixPath(name).parts
    # A name decides which file is opened, so it must stay below the folder of the images.
    if len(parts) != 2 or ".." in parts or name.startswith("/") or "\\" in name:
        raise lines.error(number, "an image name such as 0--Parade/0_Parade_1.jpg", name)


def _parse_faces(lines: _Lines, name: str) -> Annotation:
    number, count_text = lines.take(f"the number of faces of {name}")
    if not (count_text.isascii() and count_text.isdecimal() and len(count_text) <= _MAX_COUNT_DIGITS):
        raise lines.error(number, f"the number of faces of {name}", count_text)
    num_faces = int(count_text)
    rows = [_parse_face(lines, f"face {face + 1} of {num_faces} of {name}") for face in range(num_faces)]
    # The official files give an image without faces one line of zeros all the same.
    if num_faces == 0 and len(zeros := lines.peek().split()) >= _NUM_OFFICIAL and set(zeros) == {"0"}:
        lines.take("zeros")
    table = np.asarray(rows, dtype=np.float64).reshape(num_faces, _NUM_WITH_LANDMARKS)
    landmarks_xy = table[:, _NUM_OFFICIAL:].reshape(num_faces, 5, 2)  # (G, K, 2): x, y
    has_landmarks = ~(landmarks_xy == _UNKNOWN).all(axis=2).any(axis=1)
    return Annotation(
        image=name,
        boxes_xywh=table[:, :4].astype(np.float32),
        attributes=table[:, 4:_NUM_OFFICIAL].astype(np.int8),
        landmarks_xy=np.where(has_landmarks[:, None, None], landmarks_xy, 0).astype(np.float32),
        has_landmarks=has_landmarks,
    )


def _parse_face(lines: _Lines, what: str) -> list[float]:
    """The 20 numbers of a line, landmarks -1 where the line has only the official ten."""
    expected = f"{what}: x y w h {' '.join(ATTRIBUTES)}, and 10 landmark coordinates or nothing"
    number, line = lines.take(expected)
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        raise lines.error(number, expected, line) from None
    are_usable = all(abs(value) <= _MAX_COORDINATE for value in values)  # not where one is no number
    if len(values) not in (_NUM_OFFICIAL, _NUM_WITH_LANDMARKS) or not are_usable:
        raise lines.error(number, expected, line)
    if any(not flag.is_integer() or abs(flag) > 127 for flag in values[4:_NUM_OFFICIAL]):
        raise lines.error(number, f"{what}: whole numbers for {' '.join(ATTRIBUTES)}", line)
    return values + [_UNKNOWN] * (_NUM_WITH_LANDMARKS - len(values))
