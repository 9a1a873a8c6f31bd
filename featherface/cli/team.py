"""`featherface team`: the services of a team on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featherface.cli.flows import find_flow
from featherface.cli.options import read_settings

app = typer.Typer(
    help="PostgreSQL, S3 store, MLflow, Prefect and a worker on this machine.",
    short_help="Start and stop the services of a team on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
FOLDER = Annotated[Path, typer.Option(help="Where all their state is kept.")]


@app.command(short_help="Start what does not run yet, and the schedules.")
def up(
    folder: FOLDER = Path("team"),
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of team.yaml, e.g. mlflow_port=5001."),
    ] = None,
) -> None:
    """Start what does not run yet and deploy prefect.yaml; harmless when repeated."""
    settings = read_settings(changes, example="mlflow_port=5001")
    team = find_flow("team_up")(folder, settings)
    typer.echo(f"runs and models    {team.mlflow_url}  (user admin, password in {team.path('secrets.yaml')})")
    typer.echo(f"flows, schedules   {team.prefect_url}")
    typer.echo(f"S3 store           {team.s3_url}")
    typer.echo(f"use them           source {team.path('env.sh')}")


@app.command(short_help="Stop the services; their state stays.")
def down(folder: FOLDER = Path("team")) -> None:
    """Stop the services, the worker first; their state stays."""
    stopped = find_flow("team_down")(folder)
    typer.echo(f"stopped: {', '.join(stopped) or 'nothing ran'}")


@app.command(short_help="Show which services run.")
def status(folder: FOLDER = Path("team")) -> int:
    """Show which services run; ends with 1 if one does not."""
    services = list(find_flow("team_status")(folder))
    for name, pid in services:
        typer.echo(f"{name:<12} {'not running' if pid is None else f'process {pid}'}")
    return int(any(pid is None for _, pid in services))
