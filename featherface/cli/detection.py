"""`featherface detect`, `evaluate` and `score`: faces in pictures, and how good they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from featherface.cli.flows import find_flow
from featherface.cli.options import RUNNER, Runner

CHAMPION = "models:/featherface@champion"
MODEL_HELP = "An .onnx or .safetensors file, or models:/featherface@champion."


def add_commands(app: typer.Typer) -> None:
    """Hang the commands on the application."""
    app.command()(detect)
    app.command()(evaluate)
    app.command()(score)
    app.command()(batch)


def detect(
    source: Annotated[list[str], typer.Argument(help="Images, folders or globs.")],
    model: Annotated[
        str | None, typer.Option(help=f"{MODEL_HELP} Default: the weights that ship, else the champion.")
    ] = None,
    *,
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Faces below this score are dropped.")
    ] = 0.5,
    image_size: Annotated[str, typer.Option(help="Long side in pixels, or 'original'.")] = "640",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON list instead of a line an image.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(help="Write the pictures with their faces marked into this folder.")
    ] = None,
    crops: Annotated[Path | None, typer.Option(help="Write each face as a picture of its own.")] = None,
    blurred: Annotated[
        Path | None, typer.Option(help="Write the pictures with all faces made unrecognizable.")
    ] = None,
) -> int:
    """Find the faces in pictures; a broken one is named at the end and stops no other (exit code 1)."""
    from featherface.inference.batch import detect_files, expand_sources, parse_image_size
    from featherface.inference.detector import FaceDetector
    from featherface.inference.results import Faces

    paths = expand_sources(source)
    detector = FaceDetector(
        model or default_model(), score_threshold=score_threshold, image_size=parse_image_size(image_size)
    )
    found, failures = [], []
    for path, result in detect_files(detector, paths, save_dir=save, crops_dir=crops, blurred_dir=blurred):
        if not isinstance(result, Faces):
            failures.append(str(result))
            continue
        found.append(result.to_dict())
        if not as_json:
            typer.echo(f"{path}: {len(result)} face{'' if len(result) == 1 else 's'}")
    if as_json:
        typer.echo(json.dumps(found))
    for what, folder in (
        ("pictures with their faces marked", save),
        ("faces cut out", crops),
        ("pictures with blurred faces", blurred),
    ):
        if folder is not None and found:
            typer.echo(f"{what} are in {folder}", err=True)
    for failure in failures:
        typer.echo(f"featherface: {failure}", err=True)
    return 0 if not failures else 1 if found else 2


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


def default_model() -> str | None:
    """None where weights ship with the package, else the champion of this folder's registry."""
    from featherface.inference.loading import has_shipped_weights

    return None if has_shipped_weights() else CHAMPION


def evaluate(
    data: Annotated[Path, typer.Option(help="A data set in WIDER FACE layout.")],
    model: Annotated[
        str | None, typer.Option(help=f"{MODEL_HELP} Default: the weights that ship, else the champion.")
    ] = None,
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
    from featherface.evaluation.views import parse_scales
    from featherface.stages.evaluate import evaluate_model_file

    if report_file is not None:
        check_reportable(data, split)
    report = evaluate_model_file(
        model or default_model(),
        data,
        split=split,
        flip=flip,
        scales=parse_scales(scales),
        save_predictions=save_predictions,
    )
    if report_file is not None:
        write_page(report_file, report, data, model=model or "the weights that ship")
        typer.echo(f"the report is in {report_file}", err=True)
    typer.echo(json.dumps(report.to_dict()) if as_json else report.table())
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
