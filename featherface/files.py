"""Files that appear whole or not at all, and what is in them."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

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


def check_writable(path: Path) -> None:
    """Refuse at once, before long work, a file that could not be written at its end; leaves nothing behind.

    Raises:
        ModelError: it is a folder, or lies in one that cannot be made or written to.
    """
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; give the name of a file")
    reason = why_unwritable(path.parent)
    if reason is not None:
        raise ModelError(f"{path}: cannot be written ({reason})")


def why_unwritable(folder: Path) -> str | None:
    """What keeps files from being written to a folder, which need not be there yet; None: nothing."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with TemporaryFile(dir=there):
            return None
    except OSError as error:
        return error.strerror or str(error)


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_regular_file(path: Path, *, max_bytes: int, hint: str = "") -> bytes:
    """What a file holds; never waits for anybody and never reads without end.

    Args:
        path: of the file.
        max_bytes: larger ones are refused.
        hint: what to do with what is no file.

    Raises:
        OSError: it cannot be read, is larger than `max_bytes`, or is no file: a named pipe, a device.
        ValueError: no file can have such a name.
    """
    about = path.stat()
    # Opening a pipe waits for its writer, and /dev/zero has no end. A folder's own error says what it is.
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
        raise OSError(f"it is {_kind(about.st_mode)}, not a file{hint}")
    if about.st_size > max_bytes:
        raise OSError(f"it has {about.st_size // 10**6} MB, the limit is {max_bytes // 10**6} MB")
    with path.open("rb") as file:
        return file.read(max_bytes)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
