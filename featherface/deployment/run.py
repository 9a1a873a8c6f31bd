"""Make, check, judge and time the files of a network, then put those that passed where they belong.

Everything is made in a folder of its own first: a file that does not answer like its network, or finds fewer
faces, never appears under its name.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from featherface.config import EvaluateConfig
from featherface.data.reading import read_photograph
from featherface.data.widerface import GROUND_TRUTH_DIR, open_widerface
from featherface.deployment.checks import check_answers, parity_images
from featherface.deployment.formats import (
    FILES,
    INT8,
    ONNX,
    OPENVINO,
    TORCH,
    Needs,
    check_possible,
    make,
    open_detect,
    open_format,
)
from featherface.deployment.report import SETTINGS, ExportReport, Parity, Row
from featherface.deployment.source import Source
from featherface.errors import DataError, ModelError
from featherface.evaluation.run import evaluate_dataset
from featherface.export.latency import LatencyReport, Runner, measure_latency
from featherface.files import check_writable, write_atomically
from featherface.imaging import letterbox, to_network_input

if TYPE_CHECKING:
    import numpy.typing as npt

    from featherface.data.widerface import Sample

logger = logging.getLogger(__name__)

CALIBRATION_SIZE_PX: Final = 640


def export_formats(
    source: Source,
    out: Path,
    formats: Sequence[str],
    *,
    data: Path | None = None,
    max_ap_drop: float = 0.01,
    num_calibration_images: int = 64,
    settings: EvaluateConfig | None = None,
    input_hw: tuple[int, int] = (640, 640),
    rounds: int = 20,
) -> ExportReport:
    """Write a network in several formats, with `exports.json` and `exports.md` beside.

    A format whose mean AP falls below that of the fp32 ONNX file by more than `max_ap_drop` is not written;
    the report says so.

    Args:
        source: from `open_source`.
        out: folder of the files; made if missing.
        formats: names of `formats.FORMATS`.
        data: a data set in WIDER FACE layout: photographs to compare, calibrate and, with its official ground
            truth, judge by. None: drawn scenes are compared, and nothing is judged.
        max_ap_drop: of the mean AP, in [0, 1].
        num_calibration_images: training photographs for int8, taken from all over the split.
        settings: how AP is measured; None: single scale, original size.
        input_hw: size for latency in pixels.
        rounds: timed runs of each file.

    Raises:
        ModelError: a file answers differently from its network, a format cannot be made from this network,
            or the folder cannot be written to.
        DataError: the data set cannot be used, or is missing where int8 needs it.
        OptionError: a package is missing.
    """
    settings = settings or EvaluateConfig()
    if out.exists() and not out.is_dir():
        raise ModelError(f"{out}: is no folder; give a folder for the files")
    check_writable(out / "exports.json")
    check_possible(formats, source)
    samples = () if data is None else open_widerface(data, "val", missing="skip")
    judged_root = data if data is not None and (data / GROUND_TRUTH_DIR).is_dir() else None
    training = _calibration_samples(data, judged_root, num_calibration_images) if INT8 in formats else ()
    with tempfile.TemporaryDirectory() as folder, _same_torch_threads():
        base = Path(folder) / FILES[ONNX][0]
        source.write_onnx(base)
        needs = Needs(source, base, calibration=lambda: _calibration_inputs(training))
        images = parity_images(samples)
        paths: dict[str, Path] = {}
        parities: dict[str, Parity | None] = {}
        for name in formats:
            logger.info("making %s", name)
            paths[name] = make(name, needs, Path(folder))
            parities[name] = check_answers(name, paths[name], source, base, images)
        judged = {ONNX: base, **paths}  # the first is what all are set against
        aps = {} if judged_root is None else _judge(judged, source, judged_root, settings)
        refused = _refusals(aps, max_ap_drop)
        latency = _measure(
            {name: path for name, path in judged.items() if name not in refused}, source, input_hw, rounds
        )
        rows = [
            Row(
                name=name,
                files=FILES[name],
                num_bytes=sum((Path(folder) / file).stat().st_size for file in FILES[name]),
                parity=parities[name],
                ap=aps.get(name),
                latency_ms=None if name in refused else latency.latencies[name].median_ms,
                latency_ratio=None if name in refused else latency.ratio(name, ONNX),
                refused=refused.get(name),
            )
            for name in formats
        ]
        report = ExportReport(
            model=source.name,
            rows=tuple(rows),
            images=len(samples) if aps else 0,
            calibration_images=len(training),
            latency_input_hw=input_hw,
        )
        _publish(Path(folder), out, report)
    return report


def _calibration_samples(data: Path | None, judged_root: Path | None, num_images: int) -> tuple[Sample, ...]:
    if data is None:
        raise DataError(
            "format 'int8' needs --data: training images to calibrate with, and ground truth to judge by"
        )
    if judged_root is None:
        raise DataError(
            f"{data}: has no {GROUND_TRUTH_DIR} folder with the easy, medium and hard lists, by which "
            "int8 is judged"
        )
    samples = open_widerface(data, "train", missing="skip")
    chosen = np.linspace(0, len(samples) - 1, min(num_images, len(samples))).astype(int)
    return tuple(samples[index] for index in chosen)


def _calibration_inputs(samples: Sequence[Sample]) -> Iterator[npt.NDArray[np.float32]]:
    for sample in samples:
        yield to_network_input(letterbox(read_photograph(sample), CALIBRATION_SIZE_PX).image)[None]


def _judge(
    paths: Mapping[str, Path], source: Source, root: Path, settings: EvaluateConfig
) -> dict[str, Mapping[str, float]]:
    """AP of each file by its format."""
    aps: dict[str, Mapping[str, float]] = {}
    for name, path in paths.items():
        logger.info("judging %s", name)
        wider = evaluate_dataset(open_detect(name, path, source, settings), root, coco=False).wider
        if wider is not None:
            aps[name] = {setting: getattr(wider, setting) for setting in (*SETTINGS, "mean")}
    return aps


def _refusals(aps: Mapping[str, Mapping[str, float]], max_ap_drop: float) -> dict[str, str]:
    """Why formats are refused, by name; those that are good enough are not in it."""
    refused = {}
    for name, ap in aps.items():
        drop = aps[ONNX]["mean"] - ap["mean"]
        if drop > max_ap_drop:
            refused[name] = (
                f"{name} loses too much: mean AP {100 * ap['mean']:.2f} against "
                f"{100 * aps[ONNX]['mean']:.2f} of fp32, {100 * drop:.2f} points where "
                f"--max-ap-drop allows {100 * max_ap_drop:g}"
            )
    return refused


def _measure(
    paths: Mapping[str, Path], source: Source, input_hw: tuple[int, int], rounds: int
) -> LatencyReport:
    runs: dict[str, Path | str | Runner] = {}
    for name, path in paths.items():
        is_onnx = name not in (OPENVINO, TORCH)
        runs[name] = path if is_onnx else open_format(name, path, source, num_threads=1)
    return measure_latency(runs, input_hw=input_hw, rounds=rounds)


def _publish(folder: Path, out: Path, report: ExportReport) -> None:
    for row in report.rows:
        # The file that is opened comes last: who sees it finds the others.
        for file in reversed(row.files if row.refused is None else ()):
            write_atomically(out / file, (folder / file).read_bytes())
    kept = {file for row in report.rows if row.refused is None for file in row.files}
    older = sorted({file for files in FILES.values() for file in files if (out / file).exists()} - kept)
    if older:
        logger.warning("%s: holds %s of an earlier export, not in this table", out, ", ".join(older))
    write_atomically(out / "exports.json", json.dumps(report.to_dict(), indent=1).encode())
    write_atomically(out / "exports.md", report.table().encode())


@contextmanager
def _same_torch_threads() -> Iterator[None]:
    """Torch has one number of threads for the whole process: whoever calls us gets it back as it was."""
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
