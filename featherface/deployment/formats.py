"""The formats by name: how each is made from the fp32 ONNX file or the network, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from featherface.config import EvaluateConfig
from featherface.errors import ModelError, OptionError
from featherface.export.openvino import OpenVinoBackend, convert_to_openvino, has_openvino, import_openvino
from featherface.export.suppression import SuppressingDetector, add_suppression
from featherface.files import write_atomically
from featherface.inference.backends import Backend, OnnxBackend
from featherface.inference.detector import FaceDetector

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from featherface.deployment.source import Source
    from featherface.imaging import RgbImage
    from featherface.structures import Detections

ONNX: Final = "onnx"
ONNX_NMS: Final = "onnx-nms"
INT8: Final = "int8"
OPENVINO: Final = "openvino"
TORCH: Final = "torch"
FORMATS: Final = (ONNX, ONNX_NMS, INT8, OPENVINO, TORCH)
FILES: Final = {
    ONNX: ("featherface.onnx",),
    ONNX_NMS: ("featherface-nms.onnx",),
    INT8: ("featherface-int8.onnx",),
    OPENVINO: ("featherface.xml", "featherface.bin"),
    TORCH: ("featherface.pt2",),
}
"""The files of each format; the first is the one that is opened."""


@dataclass(frozen=True)
class Needs:
    """What formats can be made from."""

    source: Source
    base: Path
    """The fp32 ONNX file."""
    calibration: Callable[[], Iterable[npt.NDArray[np.float32]]]
    """Network inputs of training images."""


def parse_formats(text: str) -> tuple[str, ...]:
    """The formats of a list with commas, each once, in the order of `FORMATS`.

    Raises:
        OptionError: one is unknown, or there is none.
    """
    wanted = {name.strip() for name in text.split(",") if name.strip()}
    unknown = sorted(wanted - set(FORMATS))
    if unknown or not wanted:
        raise OptionError(
            f"--formats {text}: there is no {', '.join(unknown) or 'format'}; known: {', '.join(FORMATS)}"
        )
    return tuple(name for name in FORMATS if name in wanted)


def possible_formats(source: Source, *, has_ground_truth: bool) -> tuple[str, ...]:
    """The formats that can be made here: int8 needs data, torch its weights, OpenVINO its package."""
    is_possible = {
        INT8: has_ground_truth,
        OPENVINO: has_openvino(),
        TORCH: source.network is not None,
    }
    return tuple(name for name in FORMATS if is_possible.get(name, True))


def check_possible(formats: Sequence[str], source: Source) -> None:
    """Refuse formats that cannot be made, before any work.

    Raises:
        ModelError: torch is wanted and there are no weights.
        OptionError: OpenVINO is wanted and not installed.
    """
    if TORCH in formats and source.network is None:
        raise ModelError(
            f"format 'torch' is made from weights: {source.name} is an ONNX file without the .safetensors "
            "file of its network beside it, or torch is not installed"
        )
    if OPENVINO in formats:
        import_openvino()


def make(name: str, needs: Needs, folder: Path) -> Path:
    """Write the files of a format into a folder; the path of the first.

    Raises:
        ModelError: it cannot be made from this network.
    """
    paths = [folder / file for file in FILES[name]]
    if name == ONNX_NMS:
        write_atomically(paths[0], add_suppression(needs.base))
    elif name == INT8:
        from featherface.export.quantize import quantize_onnx

        write_atomically(paths[0], quantize_onnx(needs.base, needs.calibration()))
    elif name == OPENVINO:
        contents = convert_to_openvino(needs.base)
        for path in paths:
            write_atomically(path, contents[path.suffix])
    elif name == TORCH:
        from featherface.export.program import export_program

        network = needs.source.network
        if network is None:
            raise AssertionError("check_possible was not asked")
        write_atomically(paths[0], export_program(network, info=needs.source.info))
    return paths[0]


def open_format(name: str, path: Path, source: Source, *, num_threads: int) -> Backend:
    """A backend that runs a file with raw outputs.

    Raises:
        ModelError: the file cannot be run.
    """
    if name == OPENVINO:
        return OpenVinoBackend(path, info=source.info, num_threads=num_threads)
    if name == TORCH:
        from featherface.export.program import ProgramBackend

        return ProgramBackend(path, num_threads=num_threads)
    return OnnxBackend(path, device="cpu", num_threads=num_threads)


def open_detect(
    name: str, path: Path, source: Source, settings: EvaluateConfig
) -> Callable[[RgbImage], Detections]:
    """What finds faces with a file, by the thresholds that models are judged by.

    Raises:
        ModelError: the file cannot be run.
    """
    size: Sequence[int] = () if settings.image_size == "original" else (settings.image_size,)
    if name == ONNX_NMS:
        return SuppressingDetector(
            path,
            image_size=size[0] if size else None,
            num_threads=settings.num_threads,
            score_threshold=settings.score_threshold,
            iou_threshold=settings.iou_threshold,
            max_faces=settings.max_faces,
        ).detect
    return FaceDetector(
        open_format(name, path, source, num_threads=settings.num_threads),
        score_threshold=settings.score_threshold,
        iou_threshold=settings.iou_threshold,
        max_faces=settings.max_faces,
        image_size=settings.image_size,
    ).detect
