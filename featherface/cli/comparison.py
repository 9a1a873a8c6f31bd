"""`featherface bench`: our detector beside others."""

from __future__ import annotations

import json
from contextlib import ExitStack
from importlib.resources import as_file
from pathlib import Path
from typing import Annotated

import typer

from featherface.cli.options import chosen_model


def add_commands(app: typer.Typer) -> None:
    """Hang the command on the application."""
    app.command(short_help="Compare AP, size and speed with other detectors.")(bench)


def bench(
    data: Annotated[Path, typer.Option(help="A data set in WIDER FACE layout with its ground truth.")],
    model: Annotated[
        str | None,
        typer.Option(help="An .onnx file or models:/featherface@champion. Default: the weights that ship."),
    ] = None,
    peers: Annotated[
        Path | None, typer.Option(help="A folder with .onnx files of other detectors (YuNet, Ultra-Light).")
    ] = None,
    *,
    size: Annotated[
        int, typer.Option(min=32, help="Side for multiply-adds and latency, a multiple of 32 px.")
    ] = 640,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads while timing.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of each network, taking turns.")] = 50,
    out: Annotated[
        Path | None, typer.Option(help="Write comparison.md, comparison.json and comparison.png here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Compare AP, size, multiply-adds and latency with other detectors: same images, same judge, one run."""
    from featherface.comparison.plot import plot_comparison
    from featherface.comparison.run import compare, table, to_dict
    from featherface.config import EvaluateConfig
    from featherface.errors import DataError, OptionError
    from featherface.files import check_writable, write_atomically
    from featherface.inference.loading import resolve_model, shipped_weights

    if size % 32:
        raise OptionError(
            f"--size {size} is no multiple of 32; take {size // 32 * 32} or {-(-size // 32) * 32}"
        )
    if out is not None:
        check_writable(out / "comparison.json")
    model = chosen_model(model)
    others = {} if peers is None else {file.stem: file for file in sorted(peers.glob("*.onnx"))}
    if peers is not None and not others:
        raise DataError(f"{peers}: holds no .onnx file")
    with ExitStack() as stack:
        own = resolve_model(model) if model is not None else stack.enter_context(as_file(shipped_weights()))
        rows = compare(
            {"featherface": own, **others},
            data,
            settings=EvaluateConfig(),
            input_hw=(size, size),
            rounds=rounds,
            num_threads=threads,
        )
    typer.echo(json.dumps(to_dict(rows)) if as_json else table(rows), nl=as_json)
    if out is not None:
        write_atomically(out / "comparison.md", table(rows).encode())
        write_atomically(out / "comparison.json", json.dumps(to_dict(rows), indent=1).encode())
        plot_comparison(rows, out / "comparison.png")
        typer.echo(f"table, numbers and picture are in {out}", err=True)
    return 0
