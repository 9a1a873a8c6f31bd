"""A disk that is full whenever a file of some name is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest


def fill_disk(patch: pytest.MonkeyPatch, name: str) -> None:
    """From now on the system refuses to keep files with this in their names."""
    keep = os.fsync

    def refuse(descriptor: int) -> None:
        if name in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        keep(descriptor)

    patch.setattr(os, "fsync", refuse)
