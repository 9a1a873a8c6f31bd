"""`featherface bundle`: pack a distillation for another machine, and collect what it made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featherface.cli.flows import find_flow

app = typer.Typer(
    help="Distill on a machine that has torch, numpy and OpenCV and nothing else.",
    no_args_is_help=True,
    rich_markup_mode=None,
    short_help="Distill on a bare GPU machine, and take the student home.",
)
ROOT = Annotated[Path, typer.Option(help="The workspace.")]


@app.command(short_help="Pack settings, teacher and photographs.")
def pack(
    out: Annotated[Path, typer.Argument(help="A new folder for the bundle.")], root: ROOT = Path()
) -> None:
    """Pack settings, teacher and photographs, in parts of at most about 48 MiB.

    On the other machine, with this package's source: python -m featherface.bundles.train BUNDLE OUT.
    """
    for path in find_flow("pack_bundle")(root=root, target=out):
        typer.echo(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")


@app.command(short_help="Take home what another machine trained.")
def collect(
    result: Annotated[Path, typer.Argument(help="The folder OUT that came back.")], root: ROOT = Path()
) -> None:
    """Take the student and its history into the workspace; `featherface pipeline` then judges it."""
    collected = find_flow("collect_bundle")(root=root, result=result)
    typer.echo(f"distill: {collected.summary}")
