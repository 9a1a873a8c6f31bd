"""Where a batch's pictures are: files, folders, globs, or everything below an S3 prefix."""

from __future__ import annotations

from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from featherface.errors import DataError
from featherface.imaging import IMAGE_SUFFIXES
from featherface.inference.batch import expand_sources

if TYPE_CHECKING:
    from botocore.client import BaseClient

_S3 = "s3://"


def list_images(source: str) -> list[str]:
    """Absolute paths, or addresses `s3://bucket/key`, in a fixed order.

    Args:
        source: a file, folder or glob, or `s3://bucket/prefix`; endpoint and keys come from the environment.

    Raises:
        DataError: there are no pictures, or the store does not answer.
    """
    if not source.startswith(_S3):
        return [str(path.absolute()) for path in expand_sources([source])]
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = source.removeprefix(_S3).partition("/")
    try:
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    except (BotoCoreError, ClientError) as error:
        raise DataError(
            f"{source}: cannot be listed ({error}); are AWS_ENDPOINT_URL_S3 and the keys set?"
        ) from error
    images = [f"{_S3}{bucket}/{key}" for key in sorted(keys) if _suffix(key) in IMAGE_SUFFIXES]
    if not images:
        raise DataError(f"{source}: there are no images below it, of {len(keys)} objects")
    return images


def open_image(image: str) -> str | bytes:
    """What `FaceDetector` takes: a path, or the bytes of an object.

    Raises:
        DataError: the object cannot be read.
    """
    if not image.startswith(_S3):
        return image
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = image.removeprefix(_S3).partition("/")
    try:
        return bytes(_client().get_object(Bucket=bucket, Key=key)["Body"].read())
    except (BotoCoreError, ClientError) as error:
        raise DataError(f"{image}: cannot be read ({error})") from error


def _suffix(key: str) -> str:
    return PurePosixPath(key).suffix.lower()


@lru_cache(maxsize=1)
def _client() -> BaseClient:
    """One a process."""
    import boto3

    return boto3.client("s3")
