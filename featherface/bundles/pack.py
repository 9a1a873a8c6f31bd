"""Everything that a distillation reads, in a few files that can be carried to another machine in parts."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from PIL import Image

from featherface.bundles import layout
from featherface.bundles.files import write_network
from featherface.config import Config
from featherface.data.widerface import Sample, annotation_path, open_widerface
from featherface.distillation.details import check_details_can_learn
from featherface.errors import ConfigError, DataError
from featherface.files import sha256_of, write_atomically
from featherface.imaging import read_image
from featherface.inference.weights import load_model_with_info
from featherface.models.build import build_model

if TYPE_CHECKING:
    from featherface.inference.model_info import ModelInfo

SECTIONS = ("data", "model", "distill")
"""Of params.yaml: what the stage `distill` reads."""


def pack(
    config: Config,
    *,
    data: Path,
    teacher: Path,
    initial: Path | None,
    data_version: str,
    target: Path,
    shard_mib: float = 48.0,
) -> list[Path]:
    """Write a bundle.

    Args:
        config: of the workspace.
        data: its data set.
        teacher: weights of the teacher, like `initial` a .safetensors file.
        initial: weights to go on from, or None.
        data_version: as `data.dvc` records it.
        target: folder of the bundle; must be empty or absent.
        shard_mib: about how large a file of photographs may get.

    Returns:
        The files, `bundle.json` last.

    Raises:
        ConfigError: there is nothing to train, or details are to learn where they cannot.
        DataError: the data set cannot be used, or the folder holds something.
        ModelError: the weights cannot be used.
    """
    if config.distill.keep_initial_weights:
        raise ConfigError(
            "distill.keep_initial_weights trains no student, so there is nothing to do elsewhere: run "
            "`featherface pipeline`, or set it to false"
        )
    if config.distill.learn == "details":
        network = build_model(config.model.architecture, innovations=config.model.innovations)
        check_details_can_learn(network, config.distill)
    if target.exists() and any(target.iterdir()):
        raise DataError(f"{target}: is not empty; give a new folder for the bundle")
    target.mkdir(parents=True, exist_ok=True)
    networks = {layout.TEACHER: teacher, **({layout.INITIAL: initial} if initial else {})}
    described: dict[str, Any] = {}
    for name, weights in networks.items():
        model, info = load_model_with_info(weights)
        write_network(target / name, model)
        described[name] = _describe(info, weights)
    write_atomically(target / layout.ANNOTATIONS, annotation_path(data, "train").read_bytes())
    shards = _write_shards(open_widerface(data, "train"), target, int(shard_mib * 2**20))
    files = (*networks, layout.ANNOTATIONS, *shards)
    content = {
        "schema": layout.SCHEMA,
        "settings": settings_of(config),
        "data_version": data_version,
        "networks": described,
        "shards": shards,
        "files": {name: sha256_of(target / name) for name in files},
    }
    write_atomically(target / layout.BUNDLE, json.dumps(content, indent=1).encode())
    return [target / name for name in (*files, layout.BUNDLE)]


def settings_of(config: Config) -> dict[str, Any]:
    """What a distillation depends on, as JSON."""
    return {name: getattr(config, name).model_dump(mode="json") for name in SECTIONS}


def _describe(info: ModelInfo, weights: Path) -> Mapping[str, Any]:
    return {
        "architecture": info.architecture,
        "innovations": list(info.innovations),
        "sha256": sha256_of(weights),
    }


def _write_shards(samples: Sequence[Sample], target: Path, max_bytes: int) -> list[str]:
    names = []
    for number, part in enumerate(_parts(samples, max_bytes)):
        name = layout.SHARD.format(number)
        with zipfile.ZipFile(target / name, "w", zipfile.ZIP_STORED) as shard:
            for sample in part:
                # Without the file's date: a ZIP knows none before 1980, and shards are told apart by digests.
                shard.writestr(zipfile.ZipInfo(sample.annotation.image), _encoded(sample.path))
        names.append(name)
    return names


def _encoded(photograph: Path) -> bytes:
    """What a shard keeps of it: the file, or one without transparency, which OpenCV alone lays on black."""
    # Of one that cannot be opened whoever trains with it says what is wrong.
    with suppress(OSError, Image.DecompressionBombError), Image.open(photograph) as opened:
        if opened.has_transparency_data:
            return cv2.imencode(".png", cv2.cvtColor(read_image(photograph), cv2.COLOR_RGB2BGR))[1].tobytes()
    return photograph.read_bytes()


def _parts(samples: Sequence[Sample], max_bytes: int) -> Iterator[list[Sample]]:
    part: list[Sample] = []
    size = 0
    for sample in samples:
        num_bytes = sample.path.stat().st_size
        if part and size + num_bytes > max_bytes:
            yield part
            part, size = [], 0
        part.append(sample)
        size += num_bytes
    if part:
        yield part
