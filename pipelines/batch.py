"""Batch inference: the champion over many pictures, and whether these are still what it was trained on."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.events import emit_event
from tqdm import tqdm

from featherface.errors import ConfigError
from featherface.files import sha256_of, write_atomically
from featherface.monitoring.shards import (
    SUMMARY_FILE,
    Settings,
    Shard,
    ShardResult,
    detect_shard,
    plan,
    read_batch,
    statistics_of,
)
from featherface.monitoring.sources import list_images
from featherface.monitoring.statistics import SHIFTED, compare
from featherface.tracking.download import download_model
from featherface.tracking.registry import open_registry
from featherface.tracking.versions import MODEL_NAME
from pipelines.runners import Runner, task_pool

logger = logging.getLogger(__name__)

DRIFTED = "featherface.data.drifted"


@task(name="detect-shard", retries=3, retry_delay_seconds=2)
def detect(shard: Shard, out: str, settings: Settings) -> ShardResult:
    """One shard; a worker that died leaves nothing half-written, so it is simply done again."""
    return detect_shard(shard, Path(out), settings)


@flow(name="detect-batch", persist_result=False, validate_parameters=False)
def detect_batch(
    *,
    source: str,
    out: str,
    root: str = ".",
    reference: str | None = None,
    shard_size: int = 256,
    workers: int | None = None,
    runner: Runner = "processes",
) -> dict[str, Any]:
    """Find the faces of a folder's pictures with the champion, and compare them with a reference batch.

    Args:
        source: a picture, folder, glob, or `s3://bucket/prefix`.
        out: folder of the results: a file of JSON lines a shard, and `summary.json`. Run again, it goes on.
        root: the workspace whose registry is meant, where `MLFLOW_TRACKING_URI` names none.
        reference: output folder of an earlier batch, of the training photographs say.
        shard_size: pictures of a shard.
        workers: processes; default: one a core.
        runner: `processes` of this machine, or a `dask` or `ray` cluster.

    Raises:
        FeatherFaceError: no pictures, no champion, no reference, or a folder that holds another batch.
    """
    folder, settings = Path(out).resolve(), _champion(Path(root).resolve())
    # First of all: a mistyped reference is not to be found out after hours.
    before = None if reference is None else statistics_of(read_batch(Path(reference)))
    shards = plan(list_images(source), folder, settings, shard_size=shard_size)
    results = _detect_all(shards, folder, settings, workers, runner)
    summary = _summary(results, settings)
    if before is not None:
        summary["population_stability"] = stability = compare(before, statistics_of(read_batch(folder)))
        summary["shifted"] = [name for name, index in stability.items() if index >= SHIFTED]
        _tell_of_drift(folder, summary)
    write_atomically(folder / SUMMARY_FILE, json.dumps(summary, indent=1).encode())
    return summary


def _champion(root: Path) -> Settings:
    champion = open_registry(root).current_champion()
    if champion is None:
        raise ConfigError(f"{root}: its registry has no champion; `featherface pipeline` makes one")
    model = download_model(f"models:/{MODEL_NAME}/{champion.version}", root=root)
    return Settings(model=str(model), model_sha256=sha256_of(model), model_version=champion.version)


def _detect_all(
    shards: list[Shard], out: Path, settings: Settings, workers: int | None, runner: Runner
) -> list[ShardResult]:
    with task_pool(runner, workers) as pool:
        common = {"out": str(out), "settings": settings}
        futures = [pool.submit(detect, {"shard": shard, **common}) for shard in shards]
        bar = tqdm(futures, desc="detect", unit="shard", disable=None)
        return [future.result() for future in bar]


def _summary(results: list[ShardResult], settings: Settings) -> dict[str, Any]:
    images, seconds = sum(result.images for result in results), sum(result.seconds for result in results)
    fresh = sum(result.images for result in results if result.seconds)
    return {
        "model_version": settings.model_version,
        "model_sha256": settings.model_sha256,
        "images": images,
        "faces": sum(result.faces for result in results),
        "failures": sum(result.failures for result in results),
        "shards": len(results),
        "core_seconds": round(seconds, 3),
        "images_per_core_second": round(fresh / seconds, 3) if seconds else None,
    }


def _tell_of_drift(out: Path, summary: dict[str, Any]) -> None:
    if not summary["shifted"]:
        return
    logger.warning("the pictures are not what they were: %s", ", ".join(summary["shifted"]))
    emit_event(
        DRIFTED,
        resource={"prefect.resource.id": f"featherface.batch.{out.name}"},
        payload={"population_stability": summary["population_stability"], "shifted": summary["shifted"]},
    )
