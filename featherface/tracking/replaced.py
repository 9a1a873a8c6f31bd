"""A SQLite file that was replaced since it was opened: it is opened anew.

MLflow keeps what it has opened by its path as long as the process lives. Where a workspace was deleted and
made anew, or its database brought back from a backup, a notebook would go on reading the file that is gone,
and every write would fail ("attempt to write a readonly database").
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, Pool

_OPENED = "featherface.opened"


def reopen_replaced_files() -> None:
    """Have all connections of this process looked at before they are used; once is enough."""
    if not event.contains(Pool, "checkout", _refuse_gone):
        event.listen(Pool, "connect", _note)
        event.listen(Pool, "checkout", _refuse_gone)


def _note(connection: object, entry: ConnectionPoolEntry) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    with suppress(sqlite3.DatabaseError, OSError):  # a damaged one says so to who reads it
        name = connection.execute("PRAGMA database_list").fetchone()[2]
        if name:  # one in memory has none
            entry.info[_OPENED] = (Path(name), _identity(Path(name)))


def _refuse_gone(_connection: object, entry: ConnectionPoolEntry, _proxy: object) -> None:
    path, opened = entry.info.get(_OPENED, (None, None))
    # Without a file there is nothing to open: SQLite would make an empty one.
    with suppress(FileNotFoundError):
        if path is not None and _identity(path) != opened:
            raise InvalidatePoolError


def _identity(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino
