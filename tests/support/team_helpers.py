"""How the tests talk to a team's services."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
from tiny_workspace import FEATHERFACE, environment

from pipelines.team.s3 import PROGRAMS
from pipelines.team.settings import Team

RUN_S = 400.0
# Once in ten seconds by itself: half of that would pass before each of the runs that the tests start.
_EAGER_WORKER = {"PREFECT_WORKER_QUERY_SECONDS": "1"}
_ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def featherface(team: Team, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command line as a person uses it after `source team/env.sh`."""
    return subprocess.run(
        [*FEATHERFACE, *arguments],
        cwd=cwd or team.folder,
        env=environment() | _EAGER_WORKER | team.client_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
    )


def csrf_headers(api_url: str) -> dict[str, str]:
    """What Prefect wants to see before it changes something: that we can read its answers."""
    answer = httpx.get(f"{api_url.rstrip('/')}/csrf-token", params={"client": "tests"}, timeout=20)
    token = answer.raise_for_status().json()["token"]
    return {"Prefect-Csrf-Client": "tests", "Prefect-Csrf-Token": token}


class Prefect:
    """The parts of the server's interface that the tests ask."""

    def __init__(self, team: Team) -> None:
        self._client = httpx.Client(base_url=f"{team.prefect_url}/api", timeout=20)

    def close(self) -> None:
        self._client.close()

    def post(self, path: str, **content: Any) -> Any:
        answer = self._client.post(path, json=content, headers=csrf_headers(str(self._client.base_url)))
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> dict[str, Any]:
        found = self.post("/deployments/filter", deployments={"name": {"any_": [name]}})
        assert len(found) == 1, found
        return dict(found[0])

    def start(self, name: str, **parameters: Any) -> str:
        created = self.post(
            f"/deployments/{self.deployment(name)['id']}/create_flow_run", parameters=parameters
        )
        return str(created["id"])

    def runs_of(self, name: str) -> list[dict[str, Any]]:
        """Newest first, those that are still to come left out."""
        runs = self.post(
            "/flow_runs/filter",
            flow_runs={"deployment_id": {"any_": [self.deployment(name)["id"]]}},
            sort="EXPECTED_START_TIME_DESC",
        )
        return [run for run in runs if run["state_type"] != "SCHEDULED"]

    def run(self, run_id: str) -> dict[str, Any]:
        answer = self._client.get(f"/flow_runs/{run_id}")
        answer.raise_for_status()
        return dict(answer.json())

    def tasks(self, run_id: str) -> dict[str, str]:
        """State of each task of a run and of the runs below it, by name."""
        below = self.post("/flow_runs/filter", flow_runs={"parent_flow_run_id": {"any_": [run_id]}})
        tasks = self.post(
            "/task_runs/filter", flow_runs={"id": {"any_": [run_id, *(r["id"] for r in below)]}}
        )
        return {task["name"]: task["state_type"] for task in tasks}

    def wait(self, run_id: str, seconds: float = RUN_S) -> dict[str, Any]:
        return until(lambda: (run := self.run(run_id))["state_type"] in _ENDED and run, seconds)


def until(ask: Any, seconds: float) -> Any:
    """What `ask` says once it is true; a server that is away counts as not yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if said := ask():
                return said
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"nothing came of it in {seconds:.0f} s")


def missing_programs() -> list[str]:
    postgres = [] if list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) else ["initdb"]
    return [*postgres, *(name for name in PROGRAMS if shutil.which(name) is None)]
