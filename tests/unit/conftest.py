"""What several test files start from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from featherface.tracking.connection import configure


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
