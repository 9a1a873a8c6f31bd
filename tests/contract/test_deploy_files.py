"""The compose file in docs/deploy sets what the services need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featherface.config import read_yaml

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"


@pytest.fixture(scope="module")
def containers() -> dict[str, Any]:
    return dict(read_yaml(DEPLOY / "compose.yaml")["services"])


@pytest.mark.parametrize("name", ["mlflow", "prefect", "worker"])
def test_somebody_buries_the_dead_children_of_a_container(containers: dict[str, Any], name: str) -> None:
    """A zombie keeps its number, and whoever asks whether it is alive is told yes."""
    assert containers[name]["init"] is True
