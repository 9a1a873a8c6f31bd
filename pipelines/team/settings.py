"""Ports, passwords and addresses of the team set-up; they are chosen once and kept in its folder."""

from __future__ import annotations

import os
import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from featherface.config import Section, validated
from featherface.errors import ConfigError
from featherface.files import write_atomically
from featherface.yaml_files import read_yaml, to_yaml

SETTINGS_FILE = "team.yaml"
SECRETS_FILE = "secrets.yaml"
ENVIRONMENT_FILE = "env.sh"
RUN_FOLDER = "run"
REGION = "us-east-1"
MLFLOW_BUCKET = "mlflow"
DVC_BUCKET = "dvc"
MLFLOW_USER = "admin"

Port = Annotated[int, Field(ge=1, le=65535)]


class TeamSettings(Section):
    """What `team.yaml` holds; edit it while the services are down."""

    host: str = "127.0.0.1"
    """Address that the services listen on. Anything but loopback needs a firewall or a proxy with TLS."""
    allowed_hosts: tuple[str, ...] = ()
    """Names under which browsers reach MLflow from elsewhere, with their port."""
    postgres_port: Port = 55432
    s3_port: Port = 57480
    ceph_port: Port = 57481
    mlflow_port: Port = 5000
    prefect_port: Port = 4200
    worker_port: Port = 4201
    """Where the worker says that it is alive."""
    work_pool: str = "featherface"
    workspace: str = "workspace"
    """What the deployments retrain: a folder, relative to that of the team."""
    profile: str = "synthetic"
    timezone: str = "UTC"
    """Of the schedules, such as Europe/Berlin; they follow its daylight saving."""


class Passwords(Section):
    """What `secrets.yaml` holds; readable by its owner alone."""

    postgres: str
    mlflow: str
    mlflow_cookies: str
    s3_access_key: str
    s3_secret_key: str


@dataclass(frozen=True)
class Team:
    """A folder with the state of all services, and how to reach them."""

    folder: Path
    settings: TeamSettings
    passwords: Passwords

    def path(self, *parts: str) -> Path:
        """Somewhere inside the folder."""
        return self.folder.joinpath(*parts)

    def database(self, name: str, driver: str) -> str:
        """Address of a database, with the password."""
        user = f"featherface:{self.passwords.postgres}"
        return f"postgresql+{driver}://{user}@{self.settings.host}:{self.settings.postgres_port}/{name}"

    @property
    def workspace(self) -> Path:
        """What the deployments retrain."""
        return self.folder / self.settings.workspace

    @property
    def s3_url(self) -> str:
        """Endpoint of the store."""
        return f"http://{self.settings.host}:{self.settings.s3_port}"

    @property
    def mlflow_url(self) -> str:
        """Where the runs are shown."""
        return f"http://{self.settings.host}:{self.settings.mlflow_port}"

    @property
    def prefect_url(self) -> str:
        """Where the flows are shown; the API is below it at `/api`."""
        return f"http://{self.settings.host}:{self.settings.prefect_port}"

    @property
    def client_environment(self) -> dict[str, str]:
        """What a process needs to use the services; holds passwords."""
        return {
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "MLFLOW_TRACKING_USERNAME": MLFLOW_USER,
            "MLFLOW_TRACKING_PASSWORD": self.passwords.mlflow,
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "AWS_ACCESS_KEY_ID": self.passwords.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": self.passwords.s3_secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
        }


def open_team(folder: Path, changes: dict[str, object] | None = None) -> Team:
    """Read the settings of a team folder; a new one gets the defaults, the changes and fresh passwords.

    No other account can look into the folder afterwards.

    Args:
        folder: where all state is kept.
        changes: settings to use from now on.

    Raises:
        ConfigError: a setting cannot be used.
        ModelError: the folder cannot be written to.
    """
    folder = folder.resolve()
    path = folder / SETTINGS_FILE
    content = read_yaml(path) if path.exists() else {}
    settings = validated(TeamSettings, content | (changes or {}), str(path))
    folder.mkdir(parents=True, exist_ok=True)
    _close_to_others(folder)
    write_atomically(path, to_yaml(settings.model_dump(mode="json")).encode())
    team = Team(folder, settings, _passwords(folder / SECRETS_FILE))
    write_private(
        folder / ENVIRONMENT_FILE,
        "".join(f"export {name}={shlex.quote(value)}\n" for name, value in team.client_environment.items()),
    )
    return team


def _close_to_others(folder: Path) -> None:
    """Keep the other accounts of the machine out of all state, new or old."""
    # Where root runs PostgreSQL, its account has a folder of its own in there, and must get to it.
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    for name in (RUN_FOLDER, "s3", "prefect"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(0o700)


def _passwords(path: Path) -> Passwords:
    if path.exists():
        try:
            return Passwords.model_validate(read_yaml(path))
        except ValidationError as error:
            # Pydantic's own message would show the values.
            keys = ", ".join(str(problem["loc"][0]) for problem in error.errors())
            raise ConfigError(f"{path}: cannot be used, see {keys}") from None
    fresh = Passwords(**{name: secrets.token_urlsafe(24) for name in Passwords.model_fields})
    write_private(path, to_yaml(fresh.model_dump()))
    return fresh


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    partial = path.with_name(path.name + ".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    partial.replace(path)
