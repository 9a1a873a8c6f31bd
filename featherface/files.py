"""Files that appear whole or not at all, and what is in them."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from featherface.errors import ModelError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all, in folders that are made if missing.

    Raises:
        ModelError: the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a crash after the rename must not leave an empty file under the name
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ModelError(f"{path}: cannot be written ({error.strerror or error})") from error


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
