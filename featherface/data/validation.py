"""Checking a data set before anything is learnt from it: files, annotations, and both against each other.

`validate_dataset` decodes every photograph once, in threads; what it finds is a value that prints as text
(`ValidationReport.table`), as JSON (`to_dict`) and as a picture (`validation_plot.plot_validation`).
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from featherface.data.widerface import (
    ATTRIBUTE_MAXIMA,
    Annotation,
    Split,
    annotation_path,
    images_dir,
    list_images,
    locate_images,
    read_annotations,
)
from featherface.errors import DataError, ImageDecodeError
from featherface.imaging import decode_image

FACE_HEIGHT_EDGES_PX = (0, 8, 16, 32, 64, 128, 256)
"""Lower ends of the classes of face heights; the last one is open."""


@dataclass(frozen=True, eq=False)
class SplitReport:
    """What is in one split, and what is wrong with it."""

    missing: tuple[str, ...]
    """Annotated photographs that are not there."""
    unreadable: tuple[tuple[str, str], ...]
    """Photographs that cannot be decoded, each with the reason."""
    damaged: tuple[tuple[str, str], ...]
    """Photographs that lost data and can be decoded for the rest, each with what was lost."""
    unannotated: tuple[str, ...]
    """Photographs that no annotation names."""
    image_wh: npt.NDArray[np.int64]
    """(I, 2) of the photographs that are annotated and readable."""
    faces_per_image: npt.NDArray[np.int64]
    """(A,) of all annotations."""
    face_heights_px: npt.NDArray[np.float32]
    """(F,) of all annotated faces, zeros included."""
    num_invalid_faces: int
    """Faces flagged as not usable; they are ignored in training."""
    num_zero_area_faces: int
    """Boxes without width or height; they are left out in training."""
    num_outside_faces: int
    """Boxes with an area that do not touch their image."""
    num_partly_outside_faces: int
    """Boxes of which more than a pixel lies outside their image, but not all."""
    num_bad_attributes: int
    """Flags with a value that the benchmark does not have."""
    num_faces_with_landmarks: int
    """Faces of which all five points are known."""

    @property
    def num_images(self) -> int:
        """Annotated photographs, there or not."""
        return len(self.faces_per_image)

    @property
    def num_faces(self) -> int:
        """Annotated faces of any size."""
        return len(self.face_heights_px)

    def faces_by_height(self) -> dict[str, int]:
        """Faces in each class of heights, such as `16-32`."""
        edges = np.asarray([*FACE_HEIGHT_EDGES_PX, np.inf])
        counts, _ = np.histogram(self.face_heights_px, bins=edges)
        pairs = itertools.pairwise(FACE_HEIGHT_EDGES_PX)
        labels = [f"{low}-{high}" for low, high in pairs] + [f"{FACE_HEIGHT_EDGES_PX[-1]}+"]
        return dict(zip(labels, counts.tolist(), strict=True))

    def counts(self) -> dict[str, int]:
        """The numbers of the report, in the order of the table."""
        return {
            "images": self.num_images,
            "missing images": len(self.missing),
            "unreadable images": len(self.unreadable),
            "damaged images": len(self.damaged),
            "images without annotation": len(self.unannotated),
            "images without faces": int((self.faces_per_image == 0).sum()),
            "faces": self.num_faces,
            "faces with landmarks": self.num_faces_with_landmarks,
            "faces flagged invalid": self.num_invalid_faces,
            "boxes without area": self.num_zero_area_faces,
            "boxes outside the image": self.num_outside_faces,
            "boxes partly outside": self.num_partly_outside_faces,
            "unknown flag values": self.num_bad_attributes,
            "most faces in an image": int(self.faces_per_image.max(initial=0)),
        }

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        sizes, counts = np.unique(self.image_wh.reshape(-1, 2), axis=0, return_counts=True)
        return {
            **{name.replace(" ", "_"): count for name, count in self.counts().items()},
            "faces_by_height_px": self.faces_by_height(),
            "image_sizes": {f"{w}x{h}": n for (w, h), n in zip(sizes.tolist(), counts.tolist(), strict=True)},
            "files": {
                "missing": list(self.missing),
                "unreadable": [{"image": name, "reason": reason} for name, reason in self.unreadable],
                "damaged": [{"image": name, "reason": reason} for name, reason in self.damaged],
                "without_annotation": list(self.unannotated),
            },
        }


@dataclass(frozen=True, eq=False)
class ValidationReport:
    """What is in a data set, and what is wrong with it."""

    root: str
    splits: dict[str, SplitReport]
    """By split, in the order train, val."""
    duplicates: tuple[tuple[str, ...], ...]
    """Groups of `<split>/<event>/<image>` with the same bytes; in two splits they spoil the evaluation."""

    @property
    def leaks(self) -> tuple[tuple[str, ...], ...]:
        """The duplicates that lie in more than one split."""
        return tuple(group for group in self.duplicates if len({name.split("/")[0] for name in group}) > 1)

    @property
    def is_usable(self) -> bool:
        """Whether one can train and trust the evaluation: nothing empty, missing, unreadable or in both."""
        return not self.leaks and not any(
            split.missing or split.unreadable or not split.num_images for split in self.splits.values()
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "root": self.root,
            "is_usable": self.is_usable,
            "splits": {name: split.to_dict() for name, split in self.splits.items()},
            "duplicates": [list(group) for group in self.duplicates],
            "duplicates_across_splits": len(self.leaks),
        }

    def table(self) -> str:
        """The numbers as text, one column a split, and the first few files behind each problem."""
        columns = {name: split.counts() | _height_rows(split) for name, split in self.splits.items()}
        rows = list(next(iter(columns.values())))
        lines = [" " * 26 + "".join(f"{name:>10}" for name in columns)]
        lines += [f"{row:<26}" + "".join(f"{col[row]:>10,}" for col in columns.values()) for row in rows]
        lines.append(f"{'duplicate files':<26}{len(self.duplicates):>10,}")
        lines.append(f"{'  of these in two splits':<26}{len(self.leaks):>10,}")
        lines += self._examples()
        verdict = "usable" if self.is_usable else "NOT usable (empty, missing, unreadable or in two splits)"
        return "\n".join([*lines, f"{self.root}: {verdict}"])

    def _examples(self, *, most: int = 5) -> list[str]:
        leaks = [" = ".join(group) for group in self.leaks]
        problems: list[tuple[str, Sequence[str]]] = [("in two splits", leaks)]
        for name, split in self.splits.items():
            problems.append((f"{name}: missing", split.missing))
            problems.append((f"{name}: unreadable", [reason for _, reason in split.unreadable]))
            problems.append((f"{name}: damaged", [reason for _, reason in split.damaged]))
            problems.append((f"{name}: without annotation", split.unannotated))
        lines = []
        for title, files in problems:
            lines += [f"  {title}: {file}" for file in files[:most]]
            if len(files) > most:
                lines.append(f"  {title}: and {len(files) - most:,} more")
        return lines


@dataclass(frozen=True)
class _ImageFacts:
    """What decoding a file tells."""

    digest: bytes
    wh: tuple[int, int] | None
    reason: str
    """Why it cannot be decoded, or what was lost; empty if all is well."""


def validate_dataset(root: Path | str, *, num_threads: int | None = None) -> ValidationReport:
    """Check a data set in WIDER FACE layout, every photograph decoded; a progress bar shows on a terminal.

    Args:
        root: the folder of the data set; splits without an annotation file are left out.
        num_threads: that decode; None takes one per processor.

    Raises:
        DataError: no folder, no annotation file at all, or one with a malformed line.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: is no folder; a data set in WIDER FACE layout is needed")
    splits = [split for split in get_args(Split) if annotation_path(root, split).is_file()]
    if not splits:
        raise DataError(f"{root}: has no {annotation_path('', 'train')} nor {annotation_path('', 'val')}")
    annotations = {split: read_annotations(annotation_path(root, split)) for split in splits}
    files = {split: list_images(images_dir(root, split)) for split in splits}
    everything = [path for split in splits for path in files[split]]
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        facts_in_order = tqdm(
            pool.map(_examine, everything), total=len(everything), desc="validate", unit="image", disable=None
        )
        facts = dict(zip(everything, facts_in_order, strict=True))
    names = {
        path: path.relative_to(images_dir(root, split)).as_posix()
        for split in splits
        for path in files[split]
    }
    same: dict[bytes, list[str]] = defaultdict(list)
    for split in splits:
        for path in files[split]:
            if facts[path].digest:
                same[facts[path].digest].append(f"{split}/{names[path]}")
    return ValidationReport(
        root=str(root),
        splits={
            split: _judge_split(annotations[split], images_dir(root, split), facts, names) for split in splits
        },
        duplicates=tuple(tuple(group) for group in same.values() if len(group) > 1),
    )


def _examine(path: Path) -> _ImageFacts:
    try:
        data = path.read_bytes()
    except OSError as error:
        return _ImageFacts(b"", None, f"{path}: cannot be read ({error.strerror or error})")
    digest = hashlib.blake2b(data, digest_size=16).digest()
    damage: list[str] = []
    try:
        height, width = decode_image(data, str(path), tell_damage=damage.append).shape[:2]
    except ImageDecodeError as error:
        return _ImageFacts(digest, None, str(error))
    return _ImageFacts(digest, (width, height), "".join(damage))


def _judge_split(
    annotations: Sequence[Annotation], folder: Path, facts: dict[Path, _ImageFacts], names: dict[Path, str]
) -> SplitReport:
    paths = locate_images(folder, [annotation.image for annotation in annotations])
    used = {path for path in paths if path is not None}
    mine = [path for path in facts if path.is_relative_to(folder)]
    sized = [
        (wh, annotation)
        for path, annotation in zip(paths, annotations, strict=True)
        if path is not None and (wh := facts[path].wh) is not None
    ]
    boxes_xywh = np.concatenate([np.zeros((0, 4), np.float32), *(a.boxes_xywh for a in annotations)])
    attributes = np.concatenate([np.zeros((0, 6), np.int8), *(a.attributes for a in annotations)])
    outside = [_count_outside(annotation, wh) for wh, annotation in sized]
    return SplitReport(
        missing=tuple(a.image for path, a in zip(paths, annotations, strict=True) if path is None),
        unreadable=tuple((names[path], facts[path].reason) for path in mine if facts[path].wh is None),
        damaged=tuple(
            (names[path], facts[path].reason) for path in mine if facts[path].wh and facts[path].reason
        ),
        unannotated=tuple(names[path] for path in mine if path not in used),
        image_wh=np.asarray([wh for wh, _ in sized], dtype=np.int64).reshape(-1, 2),
        faces_per_image=np.asarray([len(annotation) for annotation in annotations], dtype=np.int64),
        face_heights_px=boxes_xywh[:, 3],
        num_invalid_faces=int(sum(annotation.is_invalid.sum() for annotation in annotations)),
        num_zero_area_faces=int((boxes_xywh[:, 2:] <= 0).any(axis=1).sum()),
        num_outside_faces=sum(wholly for wholly, _ in outside),
        num_partly_outside_faces=sum(partly for _, partly in outside),
        num_bad_attributes=int(((attributes < 0) | (attributes > np.asarray(ATTRIBUTE_MAXIMA))).sum()),
        num_faces_with_landmarks=int(sum(annotation.has_landmarks.sum() for annotation in annotations)),
    )


def _count_outside(annotation: Annotation, wh: tuple[int, int]) -> tuple[int, int]:
    """Boxes with an area wholly outside, and partly: by more than a pixel, which is rounding."""
    boxes_xyxy = annotation.boxes_xyxy[(annotation.boxes_xywh[:, 2:] > 0).all(axis=1)]
    limit = np.asarray(wh, dtype=np.float32)
    is_outside = ((boxes_xyxy[:, 2:] <= 0) | (boxes_xyxy[:, :2] >= limit)).any(axis=1)
    is_crossing = ((boxes_xyxy[:, :2] < -1) | (boxes_xyxy[:, 2:] > limit + 1)).any(axis=1)
    return int(is_outside.sum()), int((is_crossing & ~is_outside).sum())


def _height_rows(split: SplitReport) -> dict[str, int]:
    return {f"faces {label} px high": count for label, count in split.faces_by_height().items()}
