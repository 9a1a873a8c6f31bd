"""Where a batch's pictures are: files, folders, globs, or everything below an S3 prefix."""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from featherface.errors import DataError, FeatherFaceError
from featherface.imaging import IMAGE_SUFFIXES, MAX_FILE_BYTES
from featherface.inference.batch import expand_sources
from featherface.inference.folders import left_out_of, log_left_out

if TYPE_CHECKING:
    from botocore.client import BaseClient

_S3 = "s3://"
_NO_SUCH_KEY = "NoSuchKey"


class StoreError(FeatherFaceError):
    """A store that does not hand over an object that it may hand over later."""


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
    left_out = left_out_of(source, keys)
    if not images:
        but = f", but {left_out.what}" if left_out else ""
        raise DataError(f"{source}: there are no images below it, of {len(keys)} objects{but}")
    if left_out:
        log_left_out(left_out)
    return images


def open_image(image: str) -> str | bytes:
    """What `FaceDetector` takes: a path, or the bytes of an object.

    Raises:
        DataError: there is no such object, or it is too large: so it will be the next time too.
        StoreError: the store is away or refuses; it may answer the next time.
    """
    if not image.startswith(_S3):
        return image
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = image.removeprefix(_S3).partition("/")
    try:
        return _read_object(image, bucket, key)
    except (BotoCoreError, ClientError, OSError) as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] == _NO_SUCH_KEY:
            raise DataError(f"{image}: cannot be read ({error})") from error
        raise StoreError(
            f"{image}: the store did not hand it over ({error}); run the same batch again when it does: what "
            "is done stays done"
        ) from error


def _read_object(image: str, bucket: str, key: str) -> bytes:
    answer = _client().get_object(Bucket=bucket, Key=key)
    with closing(answer["Body"]) as body:
        num_bytes = answer["ContentLength"]
        if num_bytes > MAX_FILE_BYTES:
            raise DataError(
                f"{image}: cannot be read (it has {num_bytes // 10**6} MB, the limit is "
                f"{MAX_FILE_BYTES // 10**6} MB)"
            )
        return bytes(body.read())


def _suffix(key: str) -> str:
    return PurePosixPath(key).suffix.lower()


@lru_cache(maxsize=1)
def _client() -> BaseClient:
    """One a process."""
    import boto3

    return boto3.client("s3")
