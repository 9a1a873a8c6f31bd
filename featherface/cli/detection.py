"""`featherface batch`, `evaluate` and `score`: faces in many pictures, and how good they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from featherface.cli.flows import find_flow
from featherface.cli.options import MODEL, RUNNER, Runner, chosen_model


def add_commands(app: typer.Typer) -> None:
    """Hang the commands on the application."""
    app.command(short_help="Measure AP: WIDER FACE easy, medium, hard, and COCO.")(evaluate)
    app.command(short_help="Score predictions on disk with the official protocol.")(score)
    app.command(short_help="Run the champion over very many pictures, in shards.")(batch)


def batch(
    source: Annotated[str, typer.Argument(help="A picture, folder, glob or s3://bucket/prefix.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; run again, it goes on.")],
    root: Annotated[
        Path, typer.Option(help="The workspace whose champion detects, unless MLFLOW_TRACKING_URI is set.")
    ] = Path(),
    *,
    reference: Annotated[
        Path | None, typer.Option(help="An earlier batch, of the training photographs say, to compare with.")
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Pictures in a file of results.")] = 256,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    runner: RUNNER = Runner.PROCESSES,
) -> None:
    """Find the faces in many pictures with the champion, in shards; and say how the pictures changed."""
    summary = find_flow("batch")(
        source=source,
        out=str(out),
        root=root,
        reference=reference and str(reference),
        shard_size=shard_size,
        workers=workers,
        runner=runner.value,
    )
    typer.echo(json.dumps(summary, indent=1))


def evaluate(
    data: Annotated[Path, typer.Option(help="A data set in WIDER FACE layout.")],
    model: MODEL = None,
    split: Annotated[str, typer.Option(help="val, or train (COCO AP only).")] = "val",
    save_predictions: Annotated[
        Path | None, typer.Option(help="Keep the predictions in the benchmark's text format.")
    ] = None,
    report_file: Annotated[
        Path | None,
        typer.Option(
            "--report", help="Write a page with curves, error types, thresholds, calibration, worst misses."
        ),
    ] = None,
    *,
    flip: Annotated[bool, typer.Option(help="Look at the mirror image too; named in every result.")] = False,
    scales: Annotated[
        str, typer.Option(help="Look at these scales, such as 0.5,1,2; named in every result.")
    ] = "1",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Measure average precision: WIDER FACE easy, medium, hard (single scale, original size) and COCO."""
    from featherface.evaluation.report_page import check_reportable, write_page
    from featherface.evaluation.run import evaluate_model_file
    from featherface.evaluation.views import parse_scales
    from featherface.files import check_writable

    if report_file is not None:
        check_reportable(data, split)
        check_writable(report_file)
    report = evaluate_model_file(
        chosen_model(model),
        data,
        split=split,
        flip=flip,
        scales=parse_scales(scales),
        save_predictions=save_predictions,
    )
    typer.echo(json.dumps(report.to_dict()) if as_json else report.table())
    if report_file is not None:
        write_page(report_file, report, data, model=model or "the weights that ship")
        typer.echo(f"the report is in {report_file}", err=True)
    return 0


def score(
    predictions: Annotated[
        Path, typer.Option(help="Folder of <event>/<image>.txt: name, count, x y w h score lines.")
    ],
    ground_truth: Annotated[Path, typer.Option(help="Folder of the official wider_*_val.mat files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Score predictions on disk with the official WIDER FACE protocol."""
    from featherface.evaluation.predictions import read_predictions, read_testing
    from featherface.evaluation.report import wider_table
    from featherface.evaluation.widerface import average_precision, load_ground_truth

    result = average_precision(read_predictions(predictions), load_ground_truth(ground_truth))
    testing = read_testing(predictions)
    named = {} if testing is None else {"testing": testing}
    if as_json:
        typer.echo(json.dumps({**result.to_dict(), **named}))
    else:
        typer.echo("\n".join([*(f"testing: {each}" for each in named.values()), wider_table(result)]))
    return 0
