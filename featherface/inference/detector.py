"""`FaceDetector`: an image in, its faces out; without torch where the model is ONNX."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np

from featherface.errors import DataError, ModelError
from featherface.headers import MAX_PIXELS
from featherface.imaging import (
    STRIDE_MULTIPLE,
    RgbImage,
    input_hw,
    letterbox,
    to_network_input,
    unletterbox_boxes,
    unletterbox_landmarks,
)
from featherface.inference.backends import Backend
from featherface.inference.loading import open_backend
from featherface.inference.model_info import ModelInfo
from featherface.inference.options import real_number, whole_number
from featherface.inference.postprocess import merge_close_ups, postprocess
from featherface.inference.results import Faces, Timing
from featherface.inference.sources import (
    ImageSource,
    SingleSource,
    check_rgb,
    describe_source,
    files_named_by,
    is_film,
)
from featherface.inference.video import read_frames
from featherface.models.priors import make_priors
from featherface.structures import Detections

if TYPE_CHECKING:
    from PIL import Image

SourceT = TypeVar("SourceT", bound=SingleSource)

_MIN_IMAGE_SIZE_PX = 32
_MAX_IMAGE_SIZE_PX = MAX_PIXELS // STRIDE_MULTIPLE
_MAX_THREADS = 1024
# Of the second look: at this size a face that fills the picture is one of the larger that the network learnt.
_CLOSE_UP_SIZE_PX = 320


class FaceDetector:
    """Finds the faces of images.

    Args:
        model: an .onnx or .safetensors file, an address such as `models:/featherface@champion`, a backend
            that is already open, or None for the weights that ship with the package.
        score_threshold: faces with a probability above it are returned, in [0, 1].
        iou_threshold: of two boxes that overlap more only the surer stays, in [0, 1].
        max_faces: at most so many of the surest faces of an image are returned.
        image_size: longer side in pixels at which the network looks at an image; `"original"` leaves images
            as they are, which finds the smallest faces, takes time and memory with the area.
        device: `cpu`, `cuda`, or `auto`: CUDA where there is one.
        backend: `onnx`, `torch`, or `auto`: what the model file is made for.
        num_threads: threads of the network; None leaves it to the backend.
        close_ups: look a second time at a small copy, for faces that fill the picture: with large or original
            sizes they are larger than anything the network looks for.

    Raises:
        ModelError: the model cannot be used; the message says why and what to do.
        OptionError: an option outside its range.
    """

    def __init__(
        self,
        model: str | Path | Backend | None = None,
        *,
        score_threshold: float = 0.5,
        iou_threshold: float = 0.4,
        max_faces: int = 750,
        image_size: int | Literal["original"] = 640,
        device: str = "auto",
        backend: str = "auto",
        num_threads: int | None = None,
        close_ups: bool = False,
    ) -> None:
        self.score_threshold = real_number("score_threshold", score_threshold, 0, 1)
        self.iou_threshold = real_number("iou_threshold", iou_threshold, 0, 1)
        self.max_faces = whole_number("max_faces", max_faces, 1)
        self.image_size = _checked_size(image_size)
        if num_threads is not None:
            num_threads = whole_number(
                "num_threads", num_threads, 1, maximum=_MAX_THREADS, alternative="None"
            )
        self.close_ups = close_ups
        self._backend = (
            open_backend(model, backend=backend, device=device, num_threads=num_threads)
            if model is None or isinstance(model, str | Path)
            else _checked_backend(model)
        )

    @property
    def info(self) -> ModelInfo:
        """What the model says of itself: architecture, innovations, priors, and what was noted."""
        return self._backend.info

    @overload
    def __call__(self, source: bytes | Image.Image | RgbImage | ImageSource, *, bgr: bool = ...) -> Faces: ...
    # A path may be a folder, which only its file system knows: mypy is told to trust the caller.
    @overload
    def __call__(self, source: str | Path, *, bgr: bool = ...) -> Faces | Any: ...
    @overload
    def __call__(self, source: list[SourceT] | tuple[SourceT, ...], *, bgr: bool = ...) -> list[Faces]: ...
    def __call__(
        self, source: SingleSource | ImageSource | list[SourceT] | tuple[SourceT, ...], *, bgr: bool = False
    ) -> Faces | list[Faces]:
        """The faces of an image; a list of results for a list of images, a folder or a glob.

        The first image of them that is broken raises, and those before it are lost: `stream` gives results as
        they are found, and a loop of calls goes on past broken files (`docs/inputs.md` has one).

        Args:
            source: a path, encoded bytes, a Pillow image, an array of pixels (grey, RGB or RGBA, uint8 or
                uint16), a list of these, or a folder or glob: its images in the order of their paths.
            bgr: arrays have blue first, as `cv2.imread` gives them.

        Raises:
            DataError: something that is no image, a folder or glob without one, or too large a network input.
            ImageDecodeError: a file that cannot be read or is broken.
        """
        images = _images_of(source)
        if images is None:
            return self._detect_source(describe_source(source, bgr=bgr))
        # One by one: on a CPU a batch is no faster, and images of a folder rarely share a size.
        return [self._detect_source(describe_source(image, bgr=bgr)) for image in images]

    def stream(
        self,
        source: str | Path | int | list[SourceT] | tuple[SourceT, ...],
        *,
        every: int = 1,
        bgr: bool = False,
    ) -> Iterator[Faces]:
        """The faces of films or a camera frame by frame, or of many images one by one, as they are found.

        Each result of a film keeps its frame; memory does not grow with the length of a film unless they are
        collected, which is what `Faces.without_image` is for. A frame of a file is called `FILE#NUMBER`. An
        image or film that is broken raises when its turn comes, and ends the stream.

        Args:
            source: a film's file, the number of a camera (0 is the first), a folder of images as of a call,
                or a glob or list of images and films, which are known by their names.
            every: only each so many-th frame of a film, and each so many-th image, beginning with the first.
            bgr: as of a call.

        Raises:
            DataError: there is no such file or camera, it is no film, no frame of it can be read, or it ends
                before it should; of images as of a call.
            ImageDecodeError: as of a call.
            OptionError: `every` is no whole number, or below 1.
        """
        every, images = whole_number("every", every, 1), _images_of(source)
        if images is None:
            yield from self._detect_frames(source, every)  # type: ignore[arg-type]  # lists have images
            return
        num_images = 0
        for image in images:
            if is_film(image):
                yield from self._detect_frames(image, every)
                continue
            if num_images % every == 0:
                yield self._detect_source(describe_source(image, bgr=bgr))
            num_images += 1

    def _detect_frames(self, film: str | Path | int, every: int) -> Iterator[Faces]:
        for position, frame in enumerate(read_frames(film, every=every)):
            name = f"{film}#{position * every}" if isinstance(film, str | Path) else None
            yield self._detect_source(ImageSource(frame, name))

    def detect(self, image: RgbImage) -> Detections:
        """The faces of an (H, W, 3) uint8 RGB array as plain arrays, best first, in its pixels.

        Raises:
            DataError: an array of another shape or type, or one that becomes too large a network input.
            ModelError: the network cannot run an input of this size.
        """
        return self._detect_timed(image)[0]

    def _detect_timed(self, image: RgbImage) -> tuple[Detections, Timing]:
        found, timing = self._look(check_rgb(image), self.image_size)
        if not self.close_ups or (self.image_size != "original" and self.image_size <= _CLOSE_UP_SIZE_PX):
            return found, timing
        again, more = self._look(image, _CLOSE_UP_SIZE_PX)
        long_side_px = max(image.shape[:2])
        merged = merge_close_ups(found, again, long_side_px=long_side_px, max_faces=self.max_faces)
        return merged, timing + more

    def _look(self, image: RgbImage, image_size: int | Literal["original"]) -> tuple[Detections, Timing]:
        started_s = time.perf_counter()
        _refuse_too_large_input(image, image_size)
        letterboxed = letterbox(image, None if image_size == "original" else image_size)
        network_input = to_network_input(letterboxed.image)[None]
        prepared_s = time.perf_counter()
        outputs = self._backend(network_input)
        answered_s = time.perf_counter()
        info = self._backend.info
        priors_cxcywh = make_priors(
            letterboxed.image.shape[:2], strides=info.strides, min_sizes_px=info.min_sizes_px
        )
        if outputs.cls_logits.shape[1] != len(priors_cxcywh):
            raise ModelError(
                f"the network answers for {outputs.cls_logits.shape[1]} priors where its file promises "
                f"{len(priors_cxcywh)}; export it again"
            )
        if any(np.isnan(output.max()) for output in outputs):  # 0.1 % of the time of the network
            raise ModelError("the network answers with what is no number (NaN): its weights are damaged")
        found = postprocess(
            outputs.cls_logits[0],
            outputs.box_deltas[0],
            outputs.landmark_deltas[0],
            priors_cxcywh,
            score_threshold=self.score_threshold,
            iou_threshold=self.iou_threshold,
            max_faces=self.max_faces,
        )
        boxes_xyxy = unletterbox_boxes(found.boxes_xyxy, letterboxed)
        landmarks_xy = unletterbox_landmarks(found.landmarks_xy, letterboxed)
        is_inside = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(
            axis=1
        )  # a box on the padding is cut to nothing
        kept = Detections(boxes_xyxy[is_inside], found.scores[is_inside], landmarks_xy[is_inside])
        return kept, Timing(
            read_ms=0.0,
            prepare_ms=1000 * (prepared_s - started_s),
            network_ms=1000 * (answered_s - prepared_s),
            postprocess_ms=1000 * (time.perf_counter() - answered_s),
        )

    def _detect_source(self, source: ImageSource) -> Faces:
        started_s = time.perf_counter()
        image = source.read()
        reading = Timing(read_ms=1000 * (time.perf_counter() - started_s))
        found, timing = self._detect_timed(image)
        return Faces(found, image_hw=(image.shape[0], image.shape[1]), source=source, timing=reading + timing)


def _images_of(source: object) -> Sequence[object] | None:
    """The images of a list, a folder or a glob; None for anything else."""
    if isinstance(source, list | tuple):
        return source
    return files_named_by(source) if isinstance(source, str | Path) else None


def _refuse_too_large_input(image: RgbImage, image_size: int | Literal["original"]) -> None:
    # A line of one pixel is padded to 32: an image inside the limit can become an input far beyond it.
    height, width = input_hw(image.shape[:2], None if image_size == "original" else image_size)
    if height * width > MAX_PIXELS:
        advice = "a number instead" if image_size == "original" else "a smaller number"
        raise DataError(
            f"an image of {image.shape[1]}x{image.shape[0]} with image_size={image_size!r} is a network "
            f"input of {width}x{height} pixels, the limit is {MAX_PIXELS // 10**6} megapixels; give {advice}"
        )


def _checked_size(image_size: int | Literal["original"]) -> int | Literal["original"]:
    if image_size == "original":
        return "original"
    return whole_number(
        "image_size", image_size, _MIN_IMAGE_SIZE_PX, maximum=_MAX_IMAGE_SIZE_PX, alternative="'original'"
    )


def _checked_backend(backend: Backend) -> Backend:
    if not callable(backend) or not hasattr(backend, "info"):
        raise ModelError(
            "a model is a file, an address or a backend that is open, got "
            f"{type(backend).__module__}.{type(backend).__qualname__}"
        )
    return backend
