"""A batch of any size as shards: each is detected and written once, whole, whoever dies in between.

A shard's file is written beside its place and then renamed; a shard whose file is there is done. So any
number of workers may be killed at any time, and two of them that do the same shard write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from featherface.errors import ConfigError, DataError
from featherface.files import write_atomically
from featherface.inference.detector import FaceDetector
from featherface.monitoring.sources import open_image
from featherface.monitoring.statistics import face_statistics, picture_statistics

PLAN_FILE = "batch.json"
SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class Settings:
    """What decides a shard's content, besides its pictures."""

    model: str | None = None
    """File of the detector; None: the weights that ship."""
    model_sha256: str | None = None
    model_version: str | None = None
    """In the registry, if it came from there."""
    score_threshold: float = 0.5
    image_size: int = 640


@dataclass(frozen=True)
class Shard:
    """Some pictures of a batch."""

    number: int
    images: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """Of its results."""
        return f"part-{self.number:06d}.jsonl"


@dataclass(frozen=True)
class ShardResult:
    """What a shard came to."""

    number: int
    images: int
    faces: int
    failures: int
    seconds: float
    """Of one core; 0 for a shard that was done before."""


def plan(images: Sequence[str], out: Path, settings: Settings, *, shard_size: int = 256) -> list[Shard]:
    """Cut a batch into shards, and note in the output folder what it is.

    Raises:
        DataError: there are no pictures.
        ConfigError: the folder holds another batch: other pictures, model or settings.
    """
    if not images:
        raise DataError("the batch has no pictures")
    content = {
        **asdict(settings),
        "model": None,  # where the file lies does not matter; its digest does
        "num_images": len(images),
        "images_sha256": hashlib.sha256("\n".join(images).encode()).hexdigest(),
        "shard_size": shard_size,
    }
    path = out / PLAN_FILE
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [key for key in content if before.get(key) != content[key]]
        if different:
            raise ConfigError(
                f"{out}: holds another batch ({', '.join(different)} differ); give a new folder to --out"
            )
    else:
        write_atomically(path, json.dumps(content, indent=1).encode())
    return [
        Shard(number, tuple(images[first : first + shard_size]))
        for number, first in enumerate(range(0, len(images), shard_size))
    ]


def detect_shard(shard: Shard, out: Path, settings: Settings) -> ShardResult:
    """Detect the faces of a shard's pictures, and write a line of JSON each; nothing if that was done before.

    A picture that cannot be read is a line with its error.

    Raises:
        StoreError: the pictures' store is away; nothing is written.
    """
    path = out / shard.file_name
    if path.exists():
        records = list(_read_lines(path))
        return _result(shard, records, 0.0)
    started = time.thread_time()
    detector = _detector(settings)
    records = [_record(detector, image) for image in shard.images]
    write_atomically(path, "".join(f"{json.dumps(record)}\n" for record in records).encode())
    return _result(shard, records, time.thread_time() - started)


def read_batch(out: Path) -> Iterator[dict[str, Any]]:
    """The records of a finished batch, in the order of its pictures.

    Raises:
        DataError: there is none, or it is not finished.
    """
    if not (out / PLAN_FILE).is_file():
        raise DataError(f"{out}: holds no batch; `featherface batch SOURCE --out {out}` makes one")
    content = json.loads((out / PLAN_FILE).read_text(encoding="utf-8"))
    parts = sorted(out.glob("part-*.jsonl"))
    wanted = -(-content["num_images"] // content["shard_size"])
    if len(parts) != wanted:
        raise DataError(f"{out}: {len(parts)} of {wanted} shards are done; run the same batch again")
    for path in parts:
        yield from _read_lines(path)


def statistics_of(records: Iterable[dict[str, Any]]) -> dict[str, list[float]]:
    """The samples that `statistics.compare` compares."""
    samples: dict[str, list[float]] = {}
    for record in records:
        for name, values in record.get("statistics", {}).items():
            samples.setdefault(name, []).extend(values)
    return samples


def _record(detector: FaceDetector, image: str) -> dict[str, Any]:
    try:
        faces = detector(open_image(image))
        pixels = faces.image
    except (DataError, OSError) as error:
        return {"image": image, "error": str(error)}
    pictures = {name: [value] for name, value in picture_statistics(pixels).items()}
    return {**faces.to_dict(), "image": image, "statistics": pictures | face_statistics(faces)}


def _result(shard: Shard, records: Sequence[dict[str, Any]], seconds: float) -> ShardResult:
    return ShardResult(
        number=shard.number,
        images=len(records),
        faces=sum(len(record.get("faces", ())) for record in records),
        failures=sum("error" in record for record in records),
        seconds=seconds,
    )


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


@lru_cache(maxsize=1)
def _detector(settings: Settings) -> FaceDetector:
    """One a process; one thread, as there is a process for each core."""
    return FaceDetector(
        settings.model,
        score_threshold=settings.score_threshold,
        image_size=settings.image_size,
        num_threads=1,
    )
