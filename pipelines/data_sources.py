"""Data by version: where a task finds the photographs, on this machine or on another one of a cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from featherface.errors import DataError
from featherface.files import write_atomically
from featherface.tracking.provenance import UNKNOWN, data_md5
from featherface.yaml_files import to_yaml
from pipelines import dvc_commands
from pipelines.fetching import fetch_data

CACHE_VARIABLE = "FEATHERFACE_DATA_CACHE"
_FOLDER = "data"


@dataclass(frozen=True)
class DataSource:
    """A data set that more than one machine can get."""

    path: Path
    """Where it lies on the machine that knows it."""
    version: str
    """As DVC records it beside the folder, or `unknown`."""
    remote: str | None
    """Address of DVC's remote that has this version."""


def describe_data(path: Path) -> DataSource:
    """What other machines must know of a data folder: its version and where that can be had.

    Raises:
        DataError: there is no such folder.
        DvcError: what DVC has written beside it is broken.
    """
    path = path.resolve()
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder; give one in WIDER FACE layout")
    return DataSource(path, data_md5(path.parent), dvc_commands.default_remote(path.parent))


def local_data(source: DataSource) -> Path:
    """The data set's folder on this machine, pulled once if it is not here.

    Pulled versions are kept in `$FEATHERFACE_DATA_CACHE`, else `~/.cache/featherface/data`.

    Raises:
        DataError: it is not here, and has no version or no remote.
        DvcError: the remote does not answer or does not have it.
    """
    if source.path.is_dir() and data_md5(source.path.parent) == source.version:
        return source.path
    if source.version == UNKNOWN or source.remote is None:
        lacks = "version" if source.version == UNKNOWN else "DVC remote"
        raise DataError(
            f"{source.path}: is not on this machine, and has no {lacks} to pull it by; publish it with "
            "`featherface data push --remote URL`"
        )
    root = _cache() / source.version
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "pull.lock"):
        if data_md5(root) == source.version and (root / _FOLDER).is_dir():
            return root / _FOLDER
        dvc_commands.initialize(root)
        dvc_commands.run_dvc(root, "remote", "add", "--force", "--default", "source", source.remote)
        recorded = {"outs": [{"md5": source.version, "hash": "md5", "path": _FOLDER}]}
        write_atomically(root / dvc_commands.DATA_FILE, to_yaml(recorded).encode())
        fetch_data(root, source.version, root / _FOLDER, from_remote=True)
    return root / _FOLDER


def _cache() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "featherface" / "data"
