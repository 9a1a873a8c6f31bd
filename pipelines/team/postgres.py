"""PostgreSQL as Debian and others package it: its own data folder, its own port, passwords required."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
from psycopg import sql

from pipelines.team.services import Service, ServiceError
from pipelines.team.settings import Team

DATABASES = ("mlflow", "mlflow_users", "prefect")
_OWNER = "featherface"


def postgres(team: Team) -> Service:
    """The server; makes its data folder if there is none.

    Raises:
        ServiceError: PostgreSQL is not installed, or cannot be set up here.
    """
    data, user = team.path("postgres"), _account()
    if not (data / "PG_VERSION").exists():
        _initialize(team, data, user)
    return Service(
        "postgres",
        # Sockets in the state folder: the usual place may belong to another server, or be closed to us.
        [_program("postgres"), "-D", str(data), "-h", team.settings.host,
         "-p", str(team.settings.postgres_port), "-k", ""],
        is_ready=lambda: _answers(team),
        user=user,
    )  # fmt: skip


def make_databases(team: Team) -> None:
    """Have one database a service; harmless when repeated."""
    with psycopg.connect(_dsn(team), autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in there:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _initialize(team: Team, data: Path, user: str | None) -> None:
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".pw") as password:
        password.write(team.passwords.postgres)
        password.flush()
        if user is not None:
            shutil.chown(data, user)
            shutil.chown(password.name, user)
        done = subprocess.run(  # noqa: S603 - found program, our own arguments
            [_program("initdb"), "-D", str(data), "-U", _OWNER, "--auth=scram-sha-256",
             f"--pwfile={password.name}", "--encoding=UTF8", "--locale=C.UTF-8"],
            user=user, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        shutil.rmtree(data, ignore_errors=True)
        words = " ".join((done.stderr or done.stdout).split())[-400:]
        raise ServiceError(f"{data}: PostgreSQL cannot be set up: {words}")


def _account() -> str | None:
    """PostgreSQL refuses to run as root: then as its own account."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise ServiceError(
            "PostgreSQL does not run as root, and there is no account 'postgres'; install it from the "
            "system's packages, or run this as another user"
        ) from None


def _program(name: str) -> str:
    """On the path, or where Debian keeps one folder a version; the newest."""
    places = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]), reverse=True
    )
    found = next(iter(places), None) or shutil.which(name)
    if found is None:
        raise ServiceError(
            f"PostgreSQL is not installed ({name} was not found): `apt-get install postgresql`, or whatever "
            "your system calls it"
        )
    return str(found)


def _dsn(team: Team) -> str:
    return psycopg.conninfo.make_conninfo(
        host=team.settings.host, port=team.settings.postgres_port, user=_OWNER,
        password=team.passwords.postgres, dbname="postgres", connect_timeout=2,
    )  # fmt: skip


def _answers(team: Team) -> bool:
    try:
        with psycopg.connect(_dsn(team)):
            return True
    except psycopg.OperationalError:
        return False
