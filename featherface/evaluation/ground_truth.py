"""The official WIDER FACE validation ground truth: read from its four .mat files, restricted to some images.

`wider_face_val.mat` holds every annotated face, `wider_{easy,medium,hard}_val.mat` the faces that a setting
counts (one-based positions in the first file's list; all other faces are ignored, not absent). Nothing is
scored here.

Dimensions: `I` images, `G` faces of all images.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from featherface.errors import DataError
from featherface.evaluation.mat_file import check_mat
from featherface.imaging import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import numpy.typing as npt

SETTINGS = ("easy", "medium", "hard")
"""The official levels of difficulty; each counts the faces of the one before it and more."""


@dataclass(frozen=True, eq=False)
class WiderGroundTruth:
    """Faces of a set of images and which of them each setting counts."""

    names: tuple[str, ...]
    """I names `<event>/<image>` without suffix, in the order of the official list."""
    boxes_xywh: npt.NDArray[np.float64]
    """(G, 4) in pixels of the original image, grouped by image."""
    offsets: npt.NDArray[np.int64]
    """(I + 1,): the faces of image i are `boxes_xywh[offsets[i]:offsets[i + 1]]`."""
    is_counted: Mapping[str, npt.NDArray[np.bool_]]
    """For each of `SETTINGS` a (G,) mask of the faces that it counts."""
    total_images: int
    """Images of the complete set; more than `len(names)` once restricted."""


def image_key(path: str) -> str:
    """The name `<event>/<image>` under which the benchmark knows an image file.

    Only the last two parts count, and only a suffix of an image format is cut off: names may hold dots.
    """
    parts = PurePosixPath(path.replace("\\", "/")).parts[-2:]
    key = PurePosixPath(*parts)
    return str(key.with_suffix("")) if key.suffix.lower() in IMAGE_SUFFIXES else str(key)


def load_ground_truth(directory: Path | str) -> WiderGroundTruth:
    """Read the four official .mat files of a folder.

    Raises:
        DataError: a file is missing, cannot be read, lacks a list, or does not fit the others.
    """
    directory = Path(directory)
    faces = _load_mat(directory / "wider_face_val.mat", "face_bbx_list")
    names, face_cells = _flatten(faces, "face_bbx_list", directory / "wider_face_val.mat")
    if len(set(names)) != len(names):
        raise DataError(f"{directory / 'wider_face_val.mat'}: some images are listed twice")
    boxes = [_as_boxes(cell, name, directory) for cell, name in zip(face_cells, names, strict=True)]
    offsets = np.concatenate([[0], np.cumsum([len(b) for b in boxes])]).astype(np.int64)
    return WiderGroundTruth(
        names=names,
        boxes_xywh=np.concatenate([*boxes, np.empty((0, 4))]),
        offsets=offsets,
        is_counted={
            setting: _load_setting(directory / f"wider_{setting}_val.mat", names, offsets)
            for setting in SETTINGS
        },
        total_images=len(names),
    )


def restrict(ground_truth: WiderGroundTruth, image_names: Iterable[str]) -> WiderGroundTruth:
    """The part of the ground truth that is about the images named, in the official order.

    `total_images` stays that of the complete set, so that a result can say how many of how many it is about.

    Args:
        ground_truth: complete, or restricted before.
        image_names: image files or names, read by `image_key`; repeats count once.

    Raises:
        DataError: no image is named, or one that the ground truth does not know.
    """
    wanted = {image_key(name) for name in image_names}
    unknown = sorted(wanted.difference(ground_truth.names))
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(wanted)} images are not in the ground truth, the first is "
            f"'{unknown[0]}'; give the ground truth of these images or leave them out"
        )
    if not wanted:
        raise DataError("no image to restrict the ground truth to; at least one is needed")
    kept = np.array([name in wanted for name in ground_truth.names])
    counts = np.diff(ground_truth.offsets)
    is_face_kept = np.repeat(kept, counts)
    return WiderGroundTruth(
        names=tuple(name for name in ground_truth.names if name in wanted),
        boxes_xywh=ground_truth.boxes_xywh[is_face_kept],
        offsets=np.concatenate([[0], np.cumsum(counts[kept])]).astype(np.int64),
        is_counted={setting: mask[is_face_kept] for setting, mask in ground_truth.is_counted.items()},
        total_images=ground_truth.total_images,
    )


def _load_mat(path: Path, list_name: str) -> dict[str, Any]:
    from scipy.io import loadmat  # 0.1 s: only where ground truth is read
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise DataError(
            f"{path}: missing; the ground truth is four files, wider_face_val.mat and "
            "wider_{easy,medium,hard}_val.mat"
        )
    names = ["event_list", "file_list", list_name]
    try:
        check_mat(path.read_bytes(), names)
        contents: dict[str, Any] = loadmat(str(path), variable_names=names)
    except (
        MatReadError,
        LookupError,
        OSError,
        ValueError,
        TypeError,
        NotImplementedError,
        zlib.error,
        struct.error,
    ) as error:
        raise DataError(f"{path}: is no readable .mat file ({' '.join(str(error).split())})") from error
    missing = [name for name in names if name not in contents]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; give the file of the official evaluation tools")
    return contents


def _flatten(contents: dict[str, Any], list_name: str, path: Path) -> tuple[tuple[str, ...], list[Any]]:
    """Names and cells of all images, event after event."""
    names: list[str] = []
    cells: list[Any] = []
    try:
        for event_idx, event in enumerate(contents["event_list"][:, 0]):
            files = contents["file_list"][event_idx, 0][:, 0]
            values = contents[list_name][event_idx, 0][:, 0]
            if len(files) != len(values):
                raise DataError(
                    f"{path}: event '{event[0]}' has {len(files)} images, but {len(values)} entries "
                    f"in {list_name}"
                )
            names.extend(f"{event[0]}/{file[0]}" for file in files)
            cells.extend(values)
    except (IndexError, TypeError) as error:
        raise DataError(
            f"{path}: event_list, file_list and {list_name} are not nested as in the official files"
        ) from (error)
    return tuple(names), cells


def _as_boxes(cell: Any, name: str, directory: Path) -> npt.NDArray[np.float64]:
    path = directory / "wider_face_val.mat"
    try:
        boxes = np.asarray(cell, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: the boxes of '{name}' are no numbers") from error
    if boxes.size == 0:
        return np.empty((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise DataError(f"{path}: '{name}' needs (n, 4) finite boxes x y w h, got shape {boxes.shape}")
    return boxes


def _load_setting(
    path: Path, names: tuple[str, ...], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    own_names, cells = _flatten(_load_mat(path, "gt_list"), "gt_list", path)
    if own_names != names:
        raise DataError(
            f"{path}: lists other images than wider_face_val.mat; all four files must belong together"
        )
    is_counted = np.zeros(offsets[-1], dtype=np.bool_)
    for image_idx, cell in enumerate(cells):
        face_idx = np.asarray(cell).ravel()
        if face_idx.size == 0:
            continue
        num_faces = offsets[image_idx + 1] - offsets[image_idx]
        if face_idx.dtype.kind not in "uif" or face_idx.min() < 1 or face_idx.max() > num_faces:
            raise DataError(
                f"{path}: '{names[image_idx]}' must count faces within 1..{num_faces}, "
                f"got {face_idx.tolist()[:8]}"
            )
        is_counted[offsets[image_idx] + face_idx.astype(np.int64) - 1] = True
    return is_counted
