"""MLflow's and Prefect's servers on PostgreSQL, and the worker that runs flows."""

from __future__ import annotations

import platform
import sys
import urllib.error
import urllib.request
from pathlib import Path

from pipelines.team.services import Service
from pipelines.team.settings import MLFLOW_BUCKET, MLFLOW_USER, REGION, Team, write_private

HEARTBEAT_S = 30
"""How often a run says that it is alive; Prefect takes nothing less."""
# Where the worker finds the flows.
PROJECT = Path(__file__).resolve().parents[2]


def mlflow_server(team: Team) -> Service:
    """Runs and models in PostgreSQL, files in S3 behind the server, a password for everybody."""
    settings = team.settings
    users = team.path("mlflow-users.ini")
    write_private(
        users,
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = {team.database('mlflow_users', 'psycopg')}\n"
        f"admin_username = {MLFLOW_USER}\n"
        f"admin_password = {team.passwords.mlflow}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
    )
    here = f"{settings.host}:{settings.mlflow_port}"
    return Service(
        "mlflow",
        [_script("mlflow"), "server", "--host", settings.host, "--port", str(settings.mlflow_port),
         "--artifacts-destination", f"s3://{MLFLOW_BUCKET}", "--workers", "1", "--app-name", "basic-auth",
         "--allowed-hosts", ",".join((here, f"localhost:{settings.mlflow_port}", *settings.allowed_hosts))],
        is_ready=lambda: _answers(f"{team.mlflow_url}/health"),
        environment={
            # Not among the arguments: everybody on the machine can read those.
            "MLFLOW_BACKEND_STORE_URI": team.database("mlflow", "psycopg"),
            "MLFLOW_AUTH_CONFIG_PATH": str(users),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": team.passwords.mlflow_cookies,
            "MLFLOW_S3_ENDPOINT_URL": team.s3_url,
            "AWS_ACCESS_KEY_ID": team.passwords.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": team.passwords.s3_secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
    )  # fmt: skip


def prefect_server(team: Team) -> Service:
    """Schedules, flow runs and events."""
    settings = team.settings
    return Service(
        "prefect",
        [_script("prefect"), "server", "start", "--host", settings.host, "--port",
         str(settings.prefect_port)],
        is_ready=lambda: _answers(f"{team.prefect_url}/api/health"),
        environment={
            **prefect_home(team),
            "PREFECT_API_DATABASE_CONNECTION_URL": team.database("prefect", "asyncpg"),
            # On another port than 4200 the pages are empty without it.
            "PREFECT_SERVER_UI_API_URL": f"{team.prefect_url}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_METRICS_ENABLED": "true",  # for Prometheus, at /api/metrics
            # It asks for no password: a page of somebody else's in a browser here must not start code.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{team.prefect_url},http://localhost:{settings.prefect_port}",
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        },
    )  # fmt: skip


def prefect_worker(team: Team) -> Service:
    """Takes flow runs from the work pool and runs each in a process of its own."""
    name = f"worker-of-{platform.node()}"
    return Service(
        "worker",
        [_script("prefect"), "worker", "start", "--pool", team.settings.work_pool, "--type", "process",
         "--name", name, "--with-healthcheck"],
        is_ready=lambda: _answers(f"http://{team.settings.host}:{team.settings.worker_port}/health"),
        environment={
            **team.client_environment,
            **prefect_home(team),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
            "PREFECT_WORKER_WEBSERVER_HOST": team.settings.host,
            "PREFECT_WORKER_WEBSERVER_PORT": str(team.settings.worker_port),
            "PYTHONPATH": str(PROJECT),
        },
    )  # fmt: skip


def prefect_home(team: Team) -> dict[str, str]:
    """Where Prefect keeps what it keeps on the client's side."""
    return {"PREFECT_HOME": str(team.path("prefect")), "DO_NOT_TRACK": "1"}


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - http to our own server
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
