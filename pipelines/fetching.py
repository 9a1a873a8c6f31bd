"""The recorded version of the data from DVC's cache or its remote: it appears whole, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from featherface.files import write_atomically
from featherface.yaml_files import to_yaml
from pipelines import dvc_commands


def fetch_data(root: Path, version: str, folder: Path, *, from_remote: bool) -> None:
    """Fetch a version of the data into a folder that is not there yet.

    DVC fills a folder file by file: killed meanwhile, it leaves some of the photographs under the name of all
    of them. So it fills another one, which gets the name at the end.

    Args:
        root: the DVC project.
        version: as DVC records it.
        folder: where the data are to be, in the project.
        from_remote: what is not in the cache comes from the default remote.

    Raises:
        DvcError: it cannot be had, or not all of it.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    record = partial.with_name(f"{partial.name}.dvc")
    shutil.rmtree(partial, ignore_errors=True)  # of a fetch that was killed
    out = {"md5": version, "hash": "md5", "path": partial.name}
    write_atomically(record, to_yaml({"outs": [out]}).encode())
    try:
        dvc_commands.run_dvc(root, "pull" if from_remote else "checkout", str(record.relative_to(root)))
        record.unlink()  # first: when the data are there, nobody comes here again to remove it
        partial.replace(folder)
    finally:
        record.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
