"""Batches in shards, and how far two sets of pictures are apart."""

from __future__ import annotations

import io
import json
import logging
import math
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from botocore.config import Config as BotoConfig
from botocore.response import StreamingBody
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from featherface.errors import ConfigError, DataError
from featherface.imaging import write_image
from featherface.monitoring.shards import Settings, detect_shard, plan, read_batch, statistics_of
from featherface.monitoring.sources import StoreError, list_images
from featherface.monitoring.statistics import SHIFTED, compare, picture_statistics, population_stability

SAMPLES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


def test_stability_is_the_sum_over_bins() -> None:
    even, skewed = [0.0, 1.0] * 50, [0.0] * 90 + [1.0] * 10
    expected = 0.4 * math.log(0.9 / 0.5) - 0.4 * math.log(0.1 / 0.5)
    assert population_stability(even, skewed) == pytest.approx(expected)
    normal = np.random.default_rng(0).normal(size=(2, 5000))
    assert population_stability(normal[0].tolist(), normal[1].tolist()) < 0.02
    assert population_stability(normal[0].tolist(), (normal[1] + 1).tolist()) > SHIFTED


@given(SAMPLES, SAMPLES)
def test_stability_is_never_negative_and_zero_for_the_same(
    expected: list[float], actual: list[float]
) -> None:
    assert population_stability(expected, actual) >= 0
    assert population_stability(expected, [*expected, math.nan]) == 0


def test_nothing_to_compare_is_not_a_number() -> None:
    assert math.isnan(population_stability([], [1.0]))
    assert compare({"a": [1.0], "b": [1.0]}, {"b": [1.0], "c": [2.0]}) == {"b": 0}
    assert compare({"score": [], "b": [1.0]}, {"score": [0.9], "b": [1.0]}) == {"b": 0}, "JSON has no NaN"


def test_statistics_of_a_picture() -> None:
    grey = np.full((90, 120, 3), 100, np.uint8)
    assert picture_statistics(grey) == {"brightness": 100, "contrast": 0, "sharpness": 0, "short_side_px": 90}
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    assert picture_statistics(noise)["sharpness"] > 5


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    generator = np.random.default_rng(1)
    for number in range(5):
        write_image(tmp_path / f"{number}.png", generator.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return [str(path) for path in sorted(tmp_path.glob("*.png"))]


def test_shards_hold_every_picture_once_and_are_not_done_again(images: list[str], tmp_path: Path) -> None:
    out, settings = tmp_path / "out", Settings(model_version="3")
    shards = plan(images, out, settings, shard_size=4)
    assert [len(shard.images) for shard in shards] == [4, 2]
    first = detect_shard(shards[0], out, settings)
    with pytest.raises(DataError, match="1 of 2 shards are done"):
        list(read_batch(out))
    written = (out / shards[0].file_name).stat().st_mtime_ns
    again = plan(images, out, settings, shard_size=4)
    assert again == shards
    assert detect_shard(again[0], out, settings).seconds == 0
    assert (out / shards[0].file_name).stat().st_mtime_ns == written
    results = [first, detect_shard(again[1], out, settings)]
    records = list(read_batch(out))
    assert [record["image"] for record in records] == images
    assert [Path(record["image"]).name for record in records if "error" in record] == ["broken.png"]
    assert sum(result.failures for result in results) == 1
    assert len(statistics_of(records)["brightness"]) == 5


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """An S3 store that answers what it is told to."""
    client = boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b",
        endpoint_url="http://127.0.0.1:9", config=BotoConfig(retries={"max_attempts": 0}),
    )  # fmt: skip
    monkeypatch.setattr("featherface.monitoring.sources._client", lambda: client)
    with Stubber(client) as stubber:
        yield stubber


def body(content: bytes) -> StreamingBody:
    return StreamingBody(io.BytesIO(content), len(content))


def test_below_a_prefix_too_it_is_said_what_is_left_out(
    store: Stubber, caplog: pytest.LogCaptureFixture
) -> None:
    for keys in (["b/a.jpg", "b/c.jxl", "b/d.mp4", "b/e.txt"], ["b/c.jxl"]):
        store.add_response("list_objects_v2", {"Contents": [{"Key": key} for key in keys]})
    with caplog.at_level(logging.WARNING, logger="featherface"):
        assert list_images("s3://bucket/b") == ["s3://bucket/b/a.jpg"]
    assert [record.getMessage() for record in caplog.records] == [
        "s3://bucket/b: left out 1 film (b/d.mp4: give featherface detect films by name), "
        "1 picture of a format that is not read (.jxl: convert it)"
    ]
    with pytest.raises(DataError, match=r"no images below it, of 1 objects, but 1 picture of a format"):
        list_images("s3://bucket/b")


@pytest.mark.parametrize("status", [None, 403, 500, 503])
def test_a_store_that_is_away_is_no_result(store: Stubber, status: int | None, tmp_path: Path) -> None:
    if status is None:
        store.deactivate()  # nothing listens there
    else:
        store.add_client_error("get_object", "Odd", http_status_code=status)
    settings = Settings()
    [shard] = plan(["s3://bucket/a.jpg"], tmp_path, settings)
    with pytest.raises(
        StoreError, match=r"s3://bucket/a\.jpg: the store did not hand it over .*run the same"
    ):
        detect_shard(shard, tmp_path, settings)
    assert not (tmp_path / shard.file_name).exists(), "the next run would take it for done"


def test_objects_that_no_store_can_help_with_are_results(store: Stubber, tmp_path: Path) -> None:
    store.add_client_error("get_object", "NoSuchKey", http_status_code=404)
    store.add_response("get_object", {"Body": body(b"no picture"), "ContentLength": 10})
    store.add_response("get_object", {"Body": body(b""), "ContentLength": 2_000_000_000})
    settings = Settings()
    [shard] = plan([f"s3://bucket/{name}.jpg" for name in ("gone", "odd", "huge")], tmp_path, settings)
    assert detect_shard(shard, tmp_path, settings).failures == 3
    gone, odd, huge = read_batch(tmp_path)
    assert "NoSuchKey" in gone["error"]
    assert "is no JPEG" in odd["error"]
    assert "it has 2000 MB, the limit is 1000 MB" in huge["error"]


def test_a_folder_keeps_one_batch(images: list[str], tmp_path: Path) -> None:
    plan(images, tmp_path / "out", Settings(model_sha256="a"))
    with pytest.raises(ConfigError, match="holds another batch \\(model_sha256 differ\\)"):
        plan(images, tmp_path / "out", Settings(model_sha256="b"))
    with pytest.raises(ConfigError, match="images_sha256"):
        plan(images[1:], tmp_path / "out", Settings(model_sha256="a"))
    with pytest.raises(DataError, match="no pictures"):
        plan([], tmp_path / "other", Settings())


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.2, 0.6, 1.0])
def test_a_killed_worker_leaves_nothing_half_written(
    images: list[str], tmp_path: Path, after_s: float
) -> None:
    out, settings = tmp_path / "out", Settings()
    [shard] = plan(images * 200, out, settings, shard_size=10_000)
    worker = multiprocessing.get_context("spawn").Process(target=detect_shard, args=(shard, out, settings))
    worker.start()
    time.sleep(after_s)
    worker.kill()
    worker.join()
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) in (
        ["batch.json"],
        ["batch.json", shard.file_name],
    )
    detect_shard(shard, out, settings)
    lines = (out / shard.file_name).read_text().splitlines()
    assert [json.loads(line)["image"] for line in lines] == list(shard.images)
