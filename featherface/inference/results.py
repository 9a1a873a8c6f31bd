"""What a detector returns: the faces of one image, in the image's own pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, overload

import numpy as np

from featherface.imaging import RgbImage, write_image
from featherface.inference.color_profile import read_rgb_profile
from featherface.inference.drawing import draw_faces
from featherface.inference.pieces import (
    TEMPLATE_SIDE_PX,
    align_face,
    blur_faces,
    check_margin,
    check_side,
    crop_face,
)
from featherface.inference.sources import ImageSource
from featherface.structures import Detections

if TYPE_CHECKING:
    import numpy.typing as npt

    _Picks = npt.NDArray[np.bool_ | np.integer]

# A hundredth of a pixel and a millionth of probability: beyond what a detector knows.
_DECIMALS_PX = 2
_DECIMALS_SCORE = 6


@dataclass(frozen=True, eq=False)
class Face:
    """One face, in source pixels; equal to one of the same numbers, of whatever image."""

    box: npt.NDArray[np.float32]
    """(4,) left, top, right, bottom."""
    score: float
    """Probability in [0, 1]."""
    landmarks: npt.NDArray[np.float32]
    """(5, 2) x, y of left eye, right eye, nose, left and right corner of the mouth, as seen in the image."""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Face)
            and self.score == other.score
            and np.array_equal(self.box, other.box)
            and np.array_equal(self.landmarks, other.landmarks)
        )

    def __hash__(self) -> int:
        return hash((self.score, *self.box.tolist()))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "box_xyxy": [round(float(value), _DECIMALS_PX) for value in self.box],
            "score": round(self.score, _DECIMALS_SCORE),
            "landmarks": [
                [round(float(x), _DECIMALS_PX), round(float(y), _DECIMALS_PX)] for x, y in self.landmarks
            ],
        }


@dataclass(frozen=True)
class Timing:
    """Where the time of one image went, in milliseconds."""

    read_ms: float = 0.0
    """Reading and decoding; 0 for an array."""
    prepare_ms: float = 0.0
    """Scaling and the network's number format."""
    network_ms: float = 0.0
    postprocess_ms: float = 0.0
    """Decoding boxes and dropping those that overlap."""

    @property
    def total_ms(self) -> float:
        """All of it."""
        return self.read_ms + self.prepare_ms + self.network_ms + self.postprocess_ms

    def __add__(self, other: Timing) -> Timing:
        return Timing(
            self.read_ms + other.read_ms,
            self.prepare_ms + other.prepare_ms,
            self.network_ms + other.network_ms,
            self.postprocess_ms + other.postprocess_ms,
        )


class Faces(Sequence[Face]):
    """The faces of one image, best first; an image without a face is a result of length 0.

    The pixels of a file are not kept: `plot` and `save` read them again, so a result of a large folder is
    small. A file that has changed since is refused: boxes of one picture would blur or cut out nobody of
    another. What has no file (an array, bytes, a Pillow image, a frame of a film) is kept as it came, until
    `without_image`; one of an array draws on what the array holds by then.
    """

    def __init__(
        self,
        detections: Detections,
        *,
        image_hw: tuple[int, int],
        source: ImageSource,
        timing: Timing | None = None,
    ) -> None:
        self._detections = detections
        self._source = source
        self.timing = timing or Timing()
        self.height, self.width = image_hw

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """(N, 4) left, top, right, bottom in source pixels, inside the image."""
        return self._detections.boxes_xyxy

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """(N,) probabilities in [0, 1], falling."""
        return self._detections.scores

    @property
    def landmarks(self) -> npt.NDArray[np.float32]:
        """(N, 5, 2) points in source pixels; those of a face at the border may lie outside the image."""
        return self._detections.landmarks_xy

    @property
    def name(self) -> str | None:
        """The path of the image, or `FILE#NUMBER` of a film's frame; None where there is no file."""
        return self._source.name

    @property
    def image(self) -> RgbImage:
        """The pixels (H, W, 3), uint8 RGB, read again from the source.

        Those of an array or of a frame of a film are read-only, as they may be your own: `faces.image.copy()`
        can be drawn on.

        Raises:
            ImageDecodeError: the source cannot be read any more, has changed, or was left out.
        """
        return self._source.read_again((self.height, self.width))

    @property
    def icc_profile(self) -> bytes | None:
        """The color profile of a source with RGB pixels, for copies of them; None: it has none."""
        return read_rgb_profile(self._source.source)

    def __len__(self) -> int:
        return len(self._detections)

    @overload
    def __getitem__(self, index: int) -> Face: ...
    @overload
    def __getitem__(self, index: slice | list[int] | list[bool] | _Picks) -> Faces: ...
    def __getitem__(self, index: int | slice | list[int] | list[bool] | _Picks) -> Face | Faces:
        """A face by its number; some by a slice, a mask such as `faces.scores > 0.9`, or their numbers.

        Several numbers pick in their order: `faces[np.argsort(faces.boxes[:, 0])]` goes from left to right.

        Raises:
            IndexError: there is no such face, or the mask has another length.
            TypeError: anything else.
        """
        if isinstance(index, list) and all(isinstance(item, Integral | np.bool_) for item in index):
            index = np.asarray(index) if index else np.empty(0, dtype=np.intp)
        if isinstance(index, slice) or _are_picks(index):
            part = Detections(self.boxes[index], self.scores[index], self.landmarks[index])
            return Faces(part, image_hw=(self.height, self.width), source=self._source, timing=self.timing)
        if not isinstance(index, Integral) or isinstance(index, bool):
            raise TypeError(
                "faces are picked by a whole number, a slice, or a list or array of numbers or of as many "
                f"booleans, got {type(index).__qualname__}"
            )
        number = int(index)
        return Face(self.boxes[number], float(self.scores[number]), self.landmarks[number])

    def __repr__(self) -> str:
        count = f"{len(self)} face{'' if len(self) == 1 else 's'}"
        return f"Faces({count} in {self.name or 'an image'} of {self.width}x{self.height})"

    def without_image(self) -> Faces:
        """The same faces without the picture: those of a film can be collected, and sent to other processes.

        Whatever needs pixels is refused from then on, of a file too.
        """
        source = ImageSource(None, self.name)
        return Faces(self._detections, image_hw=(self.height, self.width), source=source, timing=self.timing)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as `featherface detect --json` prints them."""
        return {
            "image": self.name,
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict() for face in self],
        }

    def to_json(self) -> str:
        """`to_dict()` as one line of JSON."""
        return json.dumps(self.to_dict())

    def crop(self, *, margin: float = 0.0) -> list[RgbImage]:
        """Each face cut out of the image, best first.

        Args:
            margin: added on each side, in parts of the box's side.

        Raises:
            ImageDecodeError: the source cannot be read any more, has changed, or was left out.
            OptionError: the margin is no number, below 0, or without end.
        """
        margin = check_margin(margin)
        image = self.image if len(self) else None
        return [crop_face(image, box, margin=margin) for box in self.boxes] if image is not None else []

    def align(self, size_px: int = TEMPLATE_SIDE_PX) -> npt.NDArray[np.uint8]:
        """Each face upright in a square of its own, as networks that compare faces expect.

        Returns:
            (N, size_px, size_px, 3) uint8 RGB, best first.

        Raises:
            ImageDecodeError: the source cannot be read any more, has changed, or was left out.
            OptionError: the size is no whole number, or below 1.
        """
        size_px = check_side(size_px)
        aligned = np.zeros((len(self), size_px, size_px, 3), dtype=np.uint8)
        image = self.image if len(self) else None
        for index, points in enumerate(self.landmarks):
            if image is not None:
                aligned[index] = align_face(image, points, size_px=size_px)
        return aligned

    def blur(self) -> RgbImage:
        """A copy of the image in which none of these faces can be recognized.

        Raises:
            ImageDecodeError: the source cannot be read any more, has changed, or was left out.
        """
        return blur_faces(self.image, self.boxes)

    def plot(self) -> RgbImage:
        """A copy of the image with boxes, landmarks and scores drawn on it.

        Raises:
            ImageDecodeError: the source cannot be read any more, has changed, or was left out.
        """
        return draw_faces(self.image, self._detections)

    def save(self, path: Path | str) -> None:
        """Write `plot()` as JPEG, WebP or PNG, by the suffix.

        Raises:
            DataError: another suffix, no name that a file can have, or a folder that cannot be written to.
        """
        write_image(path, self.plot(), icc_profile=self.icc_profile)


def _are_picks(index: object) -> TypeGuard[_Picks]:
    return isinstance(index, np.ndarray) and index.dtype.kind in "biu" and index.ndim == 1
