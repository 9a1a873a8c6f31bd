"""Writes annotations in the layout of WIDER FACE: text lists, and MATLAB files for easy, medium and hard.

The official text line is `x y w h blur expression illumination invalid occlusion pose`; ten more numbers
follow here, the landmarks, with -1 where a point is outside the image. The MATLAB files nest as the official
ones: a column of events (61 there), each a column of images, each an array with a row per face.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featherface.data.synthetic_scenes import SyntheticFace

Level = Literal["easy", "medium", "hard"]
LEVELS: tuple[Level, ...] = ("easy", "medium", "hard")
MIN_HEIGHT_PX: dict[Level, float] = {"easy": 50.0, "medium": 30.0, "hard": 10.0}

# scipy writes the date of today here; the format wants 116 bytes of any text.
_MAT_HEADER = b"MATLAB 5.0 MAT-file, FeatherFace procedural data set".ljust(116)


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and its faces."""

    event: str
    name: str
    """File name without folder, with extension."""
    image_hw: tuple[int, int]
    faces: tuple[SyntheticFace, ...]


def belongs(face: SyntheticFace, level: Level) -> bool:
    """Return whether a face is counted at this level; hard includes medium, medium includes easy.

    WIDER FACE grades by what a proposal method found, which mostly follows the height of the face: so height
    decides here, except that heavily occluded faces are never easy and unusable ones never count.
    """
    if face.invalid or (level == "easy" and face.occlusion == 2):
        return False
    return face.box_xywh[3] >= MIN_HEIGHT_PX[level]


def format_annotations(images: Iterable[AnnotatedImage]) -> str:
    """Return the text of a `wider_face_*_bbx_gt.txt`."""
    lines: list[str] = []
    for image in images:
        lines += [f"{image.event}/{image.name}", str(len(image.faces))]
        lines += [_format_face(face, image.image_hw) for face in image.faces]
        if not image.faces:
            lines.append("0 0 0 0 0 0 0 0 0 0")
    return "".join(line + "\n" for line in lines)


def _format_face(face: SyntheticFace, image_hw: tuple[int, int]) -> str:
    flags = (face.blur, face.expression, face.illumination, face.invalid, face.occlusion, face.pose)
    fields = [f"{number:.2f}" for number in face.box_xywh] + [str(flag) for flag in flags]
    for x, y in face.landmarks_xy:
        is_inside = 0 <= x < image_hw[1] and 0 <= y < image_hw[0]
        fields += [f"{x:.2f}", f"{y:.2f}"] if is_inside else ["-1", "-1"]
    return " ".join(fields)


def write_ground_truth(folder: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write `wider_{face,easy,medium,hard}_val.mat`; images of one event must follow each other."""
    events: dict[str, list[AnnotatedImage]] = {}
    for image in images:
        events.setdefault(image.event, []).append(image)
    common: dict[str, Any] = {
        "event_list": _cells(events),
        "file_list": _nested(events, lambda image: Path(image.name).stem),
        "face_bbx_list": _nested(events, lambda image: _boxes(image.faces)),
    }
    for flag in ("blur", "expression", "illumination", "invalid", "occlusion", "pose"):
        common[f"{flag}_label_list"] = _nested(events, lambda image, flag=flag: _flags(image.faces, flag))
    _save(folder / "wider_face_val.mat", common)
    for level in LEVELS:
        counted = _nested(events, lambda image, level=level: _counted(image.faces, level))
        _save(folder / f"wider_{level}_val.mat", {**common, "gt_list": counted})


def _boxes(faces: Sequence[SyntheticFace]) -> npt.NDArray[np.float64]:
    return np.array([face.box_xywh for face in faces], np.float64).reshape(-1, 4)


def _flags(faces: Sequence[SyntheticFace], flag: str) -> npt.NDArray[np.uint8]:
    return np.array([getattr(face, flag) for face in faces], np.uint8).reshape(-1, 1)


def _counted(faces: Sequence[SyntheticFace], level: Level) -> npt.NDArray[np.uint8]:
    # MATLAB counts from 1; no image here has more than 255 faces.
    return np.array([n for n, face in enumerate(faces, 1) if belongs(face, level)], np.uint8).reshape(-1, 1)


def _nested(events: dict[str, list[AnnotatedImage]], value: Any) -> npt.NDArray[np.object_]:
    return _cells([_cells([value(image) for image in images]) for images in events.values()])


def _cells(values: Iterable[Any]) -> npt.NDArray[np.object_]:
    """Return an (N, 1) column of MATLAB cells."""
    items = list(values)
    column = np.empty((len(items), 1), object)
    for row, item in enumerate(items):
        column[row, 0] = item
    return column


def _save(path: Path, content: dict[str, Any]) -> None:
    # Imported here: reading the module's names must not need the training extra.
    from scipy.io import savemat

    buffer = io.BytesIO()
    # Not compressed: the bytes must not depend on the version of zlib.
    savemat(buffer, content, do_compression=False, oned_as="column")
    path.write_bytes(_MAT_HEADER + buffer.getvalue()[len(_MAT_HEADER) :])
