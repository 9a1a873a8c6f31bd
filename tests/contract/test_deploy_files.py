"""The files in docs/deploy say the same as `team up`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featherface.yaml_files import read_yaml
from pipelines.team.servers import prefect_server
from pipelines.team.settings import Passwords, Team, TeamSettings

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"


@pytest.fixture(scope="module")
def containers() -> dict[str, Any]:
    return dict(read_yaml(DEPLOY / "compose.yaml")["services"])


@pytest.mark.parametrize("name", ["mlflow", "prefect", "worker"])
def test_somebody_buries_the_dead_children_of_a_container(containers: dict[str, Any], name: str) -> None:
    """A zombie keeps its number, and whoever asks whether it is alive is told yes."""
    assert containers[name]["init"] is True


@pytest.fixture(scope="module")
def server_settings() -> dict[str, str]:
    """Of Prefect's server, as `team up` starts it on the usual ports."""
    team = Team(Path("team"), TeamSettings(), Passwords(**dict.fromkeys(Passwords.model_fields, "")))
    environment = prefect_server(team).environment
    return {name: value for name, value in environment.items() if name.startswith("PREFECT_SERVER_")}


def test_prefect_is_set_up_alike_in_containers(
    containers: dict[str, Any], server_settings: dict[str, str]
) -> None:
    assert server_settings["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert server_settings.items() <= containers["prefect"]["environment"].items()


def test_prefect_is_set_up_alike_in_its_unit(server_settings: dict[str, str]) -> None:
    lines = (DEPLOY / "featherface-prefect.service").read_text().splitlines()
    pairs = [
        pair for line in lines if line.startswith("Environment=") for pair in line.split("=", 1)[1].split()
    ]
    assert {f"{name}={value}" for name, value in server_settings.items()} <= set(pairs)
