"""`featherface registry`: versions of the model, and which of them is the champion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featherface.cli.flows import find_flow
from featherface.cli.printing import printable

if TYPE_CHECKING:
    from featherface.tracking.registry import ModelRegistry

app = typer.Typer(help="Versions of the model in the registry.", no_args_is_help=True, rich_markup_mode=None)
ROOT = Annotated[
    Path, typer.Option(help="The workspace whose registry is meant, unless MLFLOW_TRACKING_URI is set.")
]
VERSION = Annotated[str, typer.Argument(help="Version number.")]
REASON = Annotated[str, typer.Option(help="Why, for the history.")]


@app.command("list", short_help="List the versions with AP, decisions and aliases.")
def list_versions(root: ROOT = Path()) -> None:
    """List the versions, newest first, with mean AP, the gate's decision and aliases."""
    versions = _registry(root).list_versions()
    typer.echo(f"{'version':<9}{'mean AP':>8}  {'decision':<12}{'aliases'}")
    for each in versions:
        mean_ap = each.metrics.get("val/ap_mean")
        shown = "-" if mean_ap is None else f"{100 * mean_ap:.2f}"
        typer.echo(printable(f"{each.version:<9}{shown:>8}  {each.status:<12}{', '.join(each.aliases)}"))
    if not versions:
        typer.echo("no version yet: `featherface pipeline` registers one")


@app.command(short_help="Make a version the champion by hand.")
def promote(version: VERSION, reason: REASON = "promoted by hand", root: ROOT = Path()) -> None:
    """Make a version the champion by hand; the old one becomes previous_champion."""
    _registry(root).promote(version, (reason,))
    typer.echo(f"version {version} is the champion")


@app.command()
def rollback(reason: REASON = "rolled back by hand", root: ROOT = Path()) -> None:
    """Make the previous champion the champion again."""
    typer.echo(f"version {_registry(root).rollback((reason,))} is the champion")


@app.command(short_help="Delete a version that is not in use.")
def delete(version: VERSION, root: ROOT = Path()) -> None:
    """Delete a version that no alias names and nobody decided against; its run and files stay in MLflow."""
    _registry(root).delete_version(version)
    typer.echo(f"version {version} is deleted; its run and files stay in MLflow")


@app.command(short_help="Show every move of the champion, and whether it is intact.")
def history(root: ROOT = Path()) -> None:
    """Show every move of the champion, oldest first; ends with 1 if somebody changed the record."""
    registry = _registry(root)
    for entry in registry.history():
        reasons = "; ".join(entry.reasons)
        ap = "-" if entry.mean_ap is None else f"{100 * entry.mean_ap:.2f}"
        moved = f"{entry.previous or '-'} -> {entry.version or '-'}"
        line = f"{entry.at[:19]}Z  {entry.action:<9} {moved:<9} mean AP {ap:<6} {entry.actor}  {reasons}"
        typer.echo(printable(line))
    problems = registry.check_history()
    for problem in problems:
        typer.echo(printable(f"error: {problem}"), err=True)
    if problems:
        raise typer.Exit(1)


@app.command(short_help="Show what a version was made from.")
def lineage(version: VERSION, root: ROOT = Path()) -> None:
    """Show where a version comes from: data, code, parameters, runs, file."""
    from featherface.tracking.lineage import trace

    for label, value in trace(_registry(root).get(version)):
        typer.echo(printable(f"{label:<20} {value}"))


@app.command(short_help="Make a version again, and compare.")
def reproduce(
    version: VERSION,
    root: ROOT = Path(),
    target: Annotated[
        Path | None, typer.Option(help="New folder for code and workspace; default: reproductions/VERSION.")
    ] = None,
) -> int:
    """Make a version again from its own commit, and compare; ends with 1 if it came out different.

    The target stays, as a worktree of git: `git worktree remove --force TARGET` takes it away.
    """
    reproduction = find_flow("reproduce_version")(
        version, root=root, target=target or Path("reproductions") / version
    )
    typer.echo(str(reproduction))
    return int(not reproduction.is_same_file or bool(reproduction.differences))


@app.command(short_help="Mark runs as killed whose process is gone.")
def reap(root: ROOT = Path()) -> None:
    """Mark the runs as killed whose process on this machine is gone."""
    from featherface.tracking.runs import reap_runs

    _registry(root)
    gone = reap_runs()
    typer.echo(f"{len(gone)} run{'' if len(gone) == 1 else 's'} marked as killed")


def _registry(root: Path) -> ModelRegistry:
    from featherface.tracking.registry import open_registry

    return open_registry(root)
