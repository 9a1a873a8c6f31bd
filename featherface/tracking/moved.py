"""A workspace that was moved or copied: what MLflow has on record of where its files lie goes along."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from featherface.errors import FeatherFaceError
from featherface.turn import workspace_turn

_LOGGER = logging.getLogger(__name__)


def follow(location: str, database: Path, folder: Path) -> None:
    """Have a workspace's database name the folder in which its artifacts are, if it names another one.

    MLflow puts the whole path into every experiment, run and model. Where a workspace is not at that place
    any more, it finds none of them, and makes the old folder anew for the next one. A copy takes those of its
    original. Nothing is changed under a run that is at work in the workspace: it may know it by its other
    place, as the host of a container that mounts it does.

    Args:
        location: where the experiment's artifacts are on record.
        database: of the workspace.
        folder: where they are if they came along.

    Raises:
        FeatherFaceError: they did not come along, a run is at work, or the database cannot be written.
    """
    address = urlsplit(location)
    recorded = Path(url2pathname(address.path))
    # Another name is none that we gave: somebody has put the artifacts of this store there.
    if address.scheme not in ("", "file") or recorded.name != folder.name or _is_same(recorded, folder):
        return
    if recorded.is_dir() and not folder.is_dir():
        raise FeatherFaceError(
            f"{database}: its runs and models are in {recorded}, which did not come with it; move or copy "
            f"that to {folder}"
        )
    try:
        with workspace_turn(folder.parent, is_part=True):
            _rename(database, location, folder.as_uri())
    except (sqlite3.Error, OSError) as error:
        raise FeatherFaceError(
            f"{database}: was in {recorded.parent} and names files there; see that it can be written "
            f"({error}), then run the same command again"
        ) from error
    _LOGGER.warning("%s: was in %s; its runs and models are on record here now", database, recorded.parent)


def _is_same(recorded: Path, folder: Path) -> bool:
    """Whether two paths lead to one folder: by links, or as it is mounted twice."""
    if recorded.resolve() == folder.resolve():
        return True
    try:
        return recorded.samefile(folder)
    except OSError:  # one of them does not exist
        return False


def _rename(database: Path, old: str, new: str) -> None:
    """Replace an address, and the beginning of those below it, wherever it stands; all of them or none."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in list(_columns(connection)):
            connection.execute(
                f'UPDATE "{table}" SET "{column}" = ?1 || substr("{column}", length(?2) + 1) '  # noqa: S608 - its own
                f'WHERE "{column}" = ?2 OR substr("{column}", 1, length(?2) + 1) = ?2 || \'/\'',
                (new, old),
            )


def _columns(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Tables and columns that hold text."""
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for _, column, kind, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
            if kind.upper().startswith(("VARCHAR", "TEXT")):
                yield table, column
