"""What several test files start from."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, event

from featherface.tracking.connection import configure


@event.listens_for(Engine, "connect")
def wait_for_no_disk(connection: object, _record: object) -> None:
    """No test's database has to outlive a power cut: a tenth of the time went by in waiting for the disk."""
    if isinstance(connection, sqlite3.Connection):
        with contextlib.suppress(sqlite3.DatabaseError):  # damaged ones fail where they would without this
            connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without a row: laying them out takes a second, copying them nothing."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """A real MLflow in a workspace of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    before = mlflow.get_tracking_uri()
    yield MlflowClient(configure(tmp_path))
    mlflow.set_tracking_uri(before)
    # MLflow writes its address where child processes of other tests would see it.
    os.environ.pop("MLFLOW_TRACKING_URI", None)
