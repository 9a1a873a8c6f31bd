"""ONNX Runtime for browsers: from npm, checked against the digests written here, kept in the user's cache.

Twelve megabytes of other people's machine code do not belong into our repository. What npm hands out is used
only if it is, byte for byte, what the page was tested with.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from featherface.errors import DownloadError
from featherface.files import write_atomically

logger = logging.getLogger(__name__)

PACKAGE: Final = "onnxruntime-web"
VERSION: Final = "1.30.0"
SHA256: Final = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""The smallest build that runs our networks: WebAssembly only, no WebGPU. It computes on one thread where the
server sends no headers for cross-origin isolation, and a static server sends none."""

_TIMEOUT_S = 600
_BY_HAND = f"`--runtime` takes the folder or .tgz of {PACKAGE} {VERSION} that you have from elsewhere"


def find_runtime(given: Path | None = None) -> dict[str, bytes]:
    """The files of the runtime, by name: from what is given, else from the cache, else from npm.

    Args:
        given: the package as a .tgz, as the folder it was unpacked to, or as that folder's `dist`.

    Raises:
        DownloadError: they cannot be had, or are not the ones that are pinned.
    """
    if given is not None:
        return _checked(_read_given(given), str(given))
    cache = cache_folder()
    try:
        return _checked(_read_folder(cache), str(cache))
    except DownloadError:  # not there yet, or damaged
        files = _checked(_fetch(), f"`npm pack {PACKAGE}@{VERSION}`")
    for name, content in files.items():
        write_atomically(cache / name, content)
    return files


def cache_folder() -> Path:
    """Where the user's system keeps what can be fetched again."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "featherface" / f"{PACKAGE}-{VERSION}"


def _read_given(given: Path) -> dict[str, bytes]:
    if given.is_file():
        return _read_archive(given)
    is_package = (given / "dist").is_dir()
    return _read_folder(given / "dist" if is_package else given)


def _read_folder(folder: Path) -> dict[str, bytes]:
    try:
        return {name: (folder / name).read_bytes() for name in SHA256}
    except OSError as error:
        raise DownloadError(
            f"{error.filename or folder}: cannot be read ({error.strerror}); {_BY_HAND}"
        ) from error


def _read_archive(archive: Path) -> dict[str, bytes]:
    files = {}
    try:
        with tarfile.open(archive) as tar:
            for name in SHA256:
                member = tar.extractfile(f"package/dist/{name}")
                files[name] = member.read() if member is not None else b""
    except (OSError, KeyError, tarfile.TarError) as error:
        raise DownloadError(
            f"{archive}: is not the package as npm hands it out ({error}); {_BY_HAND}"
        ) from error
    return files


def _fetch() -> dict[str, bytes]:
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError(
            f"the page needs {PACKAGE} {VERSION}, which comes through npm, and there is no npm here: install "
            f"Node.js, which brings it, and try again; or {_BY_HAND}"
        )
    logger.info("fetching %s %s (33 MB, once) ...", PACKAGE, VERSION)
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", scratch]
        try:
            done = subprocess.run(  # noqa: S603 - npm itself, with arguments of ours
                command, cwd=scratch, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DownloadError(f"`npm pack {PACKAGE}@{VERSION}` failed ({error}); {_BY_HAND}") from error
        archive = next(Path(scratch).glob("*.tgz"), None)
        if done.returncode != 0 or archive is None:
            reason = done.stderr.strip() or f"it ended with {done.returncode} and said nothing"
            raise DownloadError(
                f"`npm pack {PACKAGE}@{VERSION}` failed ({reason}); is there a network? Without, {_BY_HAND}"
            )
        return _read_archive(archive)


def _checked(files: dict[str, bytes], origin: str) -> dict[str, bytes]:
    for name, content in files.items():
        if (found := hashlib.sha256(content).hexdigest()) != SHA256[name]:
            raise DownloadError(
                f"{origin}: {name} is not that of {PACKAGE} {VERSION} (sha256 {found[:12]}... instead of "
                f"{SHA256[name][:12]}...); nothing of it is used; {_BY_HAND}"
            )
    return files
