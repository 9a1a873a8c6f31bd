"""Train what a bundle holds: `python -m featherface.bundles.train BUNDLE OUT`.

Needs torch, numpy and OpenCV and nothing else: no pydantic, Pillow, safetensors, MLflow, DVC, Prefect, no
network. Killed at any moment and started again with the same OUT, it goes on from its checkpoint. On several
GPUs: `torchrun --nproc-per-node N -m featherface.bundles.train BUNDLE OUT`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import platform
import sys
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from featherface.bundles import layout
from featherface.bundles.files import check_files, read_json, read_network, write_network
from featherface.data.widerface import Sample, read_annotations
from featherface.distillation.student import StudentTraining
from featherface.errors import DataError, EndedEarlyError, FeatherFaceError, ImageDecodeError
from featherface.files import write_atomically
from featherface.imaging import RgbImage
from featherface.launching import launched_rank
from featherface.models.build import build_model
from featherface.models.detector import FeatherFace
from featherface.parallel import training_device
from featherface.training.detector import first_batches, fit_detector
from featherface.training.loop import EpochReport, StepReport
from featherface.training.notes import epoch_metrics, step_metrics
from featherface.training.state import Checkpointing

_LOGGER = logging.getLogger(__name__)


class ShardedPhotographs:
    """Photographs in a few archives, decoded when they are asked for; safe for several threads."""

    def __init__(self, shards: Sequence[Path]) -> None:
        """Open the archives.

        Raises:
            DataError: one is missing or broken.
        """
        self._lock = threading.Lock()
        self._archives: dict[str, zipfile.ZipFile] = {}
        for path in shards:
            try:
                archive = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile) as error:
                raise DataError(f"{path}: is no complete shard ({error}); carry the bundle again") from error
            self._archives.update(dict.fromkeys(archive.namelist(), archive))

    def __contains__(self, image: str) -> bool:
        return image in self._archives

    def read(self, sample: Sample) -> RgbImage:
        """The pixels of a photograph, (H, W, 3) uint8 RGB.

        Raises:
            ImageDecodeError: they cannot be decoded.
        """
        name = sample.annotation.image
        with self._lock:
            data = self._archives[name].read(name)
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ImageDecodeError(f"{name}: cannot be decoded by OpenCV; convert it to JPEG, PNG or WebP")
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def train_bundle(bundle: Path, out: Path) -> None:
    """Distill as the bundle says; a finished result is not made again.

    Args:
        bundle: folder that `pack` wrote.
        out: gets the checkpoint, the notes and, at the end, the student and `result.json`.

    Raises:
        ConfigError: the bundle asks for no training.
        DataError: a file of the bundle is missing or broken, or `out` holds the training of another one.
        FeatherFaceError: the training broke down.
    """
    content = read_json(bundle / layout.BUNDLE, "give a folder that `featherface bundle pack` wrote")
    fingerprint = hashlib.sha256((bundle / layout.BUNDLE).read_bytes()).hexdigest()
    _take_folder(out, fingerprint)
    if (out / layout.RESULT).is_file():
        _LOGGER.info("%s is there: nothing to train", out / layout.RESULT)
        return
    check_files(bundle, content.get("files", {}))  # bundles of before have no digests
    settings = _as_namespace(content["settings"])
    train = settings.distill.train
    photographs = ShardedPhotographs([bundle / name for name in content["shards"]])
    samples = [
        Sample(Path(annotation.image), annotation)
        for annotation in read_annotations(bundle / layout.ANNOTATIONS)
        if annotation.image in photographs
    ]
    teacher = _load(bundle, layout.TEACHER, content["networks"])
    initial = _load(bundle, layout.INITIAL, content["networks"]) if settings.distill.initial_weights else None
    torch.manual_seed(train.seed)
    device = training_device()
    training = StudentTraining(
        settings.model,
        settings.distill,
        teacher,
        initial=initial,
        batches=partial(
            first_batches,
            samples,
            train=train,
            min_face_px=settings.data.min_face_px,
            read=photographs.read,
        ),
        device=device,
    )
    notes = out / layout.NOTES

    def note(metrics: Mapping[str, float], step: int) -> None:
        line = json.dumps({"step": step, "time": round(time.time(), 3), "metrics": metrics})
        with notes.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def note_step(report: StepReport) -> None:
        metrics = step_metrics(report)
        if metrics:
            note(metrics, report.step)

    def note_epoch(report: EpochReport) -> None:
        note(epoch_metrics(report.losses) | {"train/images_per_s": report.images_per_s}, report.epoch + 1)

    fitted = fit_detector(
        training.student,
        training.losses,
        samples,
        train=train,
        min_face_px=settings.data.min_face_px,
        read=photographs.read,
        auxiliary=training.adapters,
        checkpointing=Checkpointing(path=out / layout.CHECKPOINT, fingerprint=fingerprint, every_s=30),
        on_step=note_step,
        on_epoch_end=note_epoch,
        description="distill",
    )
    if launched_rank() > 0:
        return
    write_network(out / layout.STUDENT, fitted.averaged)
    result = {
        "schema": layout.SCHEMA,
        "bundle": content,
        "history": fitted.history,
        "num_copied": training.num_copied,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
    }
    write_atomically(out / layout.RESULT, json.dumps(result, indent=1).encode())


def _as_namespace(value: Any) -> Any:
    """Mappings as objects with attributes, lists as tuples; the values were checked when they were packed."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: _as_namespace(item) for name, item in value.items()})
    return tuple(map(_as_namespace, value)) if isinstance(value, list) else value


def _load(bundle: Path, name: str, networks: Mapping[str, Any]) -> FeatherFace:
    model = build_model(networks[name]["architecture"], innovations=networks[name]["innovations"])
    read_network(bundle / name, model)
    return model.eval()


def _take_folder(out: Path, fingerprint: str) -> None:
    """Make the folder this bundle's; the notes of two trainings in one file would be told as one."""
    origin = out / layout.ORIGIN
    if origin.is_file() and origin.read_text(encoding="utf-8") == fingerprint:
        return
    if launched_rank() > 0:
        return  # the first process looks after the folder
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"{out}: holds something else than the training of this bundle; give a new folder, or the one "
            "that this bundle was trained in before"
        )
    write_atomically(origin, fingerprint.encode())


def main() -> None:
    """Train the bundle that the command line names; bad input is told in a line, exit code 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder that `featherface bundle pack` wrote")
    parser.add_argument("out", type=Path, help="folder of the result; the same one to go on")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        train_bundle(arguments.bundle, arguments.out)
    except FeatherFaceError as error:
        _LOGGER.error("featherface: %s", error)
        sys.exit(2)
    except (EndedEarlyError, OSError) as error:
        _LOGGER.error("featherface: %s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
