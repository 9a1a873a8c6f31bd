"""`featherface demo`: the detector as a web page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featherface.cli.options import chosen_model


def add_commands(app: typer.Typer) -> None:
    """Hang the command on the application."""
    app.command(short_help="Write a web page that finds faces in the browser.")(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the page: a new one, or an older demo.")],
    model: Annotated[
        str | None,
        typer.Option(help="An .onnx file, or models:/featherface@champion. Default: the weights that ship."),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(help="onnxruntime-web as a folder or .tgz. Default: npm fetches it, once."),
    ] = None,
    *,
    serve: Annotated[bool, typer.Option("--serve", help="Show it on this machine until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve; 0 takes a free one.")] = 8765,
) -> None:
    """Write a web page that finds faces in the browser: pictures and camera never leave the machine."""
    from featherface.demo.folder import write_demo
    from featherface.demo.server import open_server

    write_demo(out, model=chosen_model(model), runtime=runtime)
    if not serve:
        typer.echo(f"the page is in {out}; any static file server shows it, or --serve")
        return
    with open_server(out, port) as server:
        typer.echo(f"http://127.0.0.1:{server.server_port}/ shows {out}; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("stopped")
