"""`featherface export`: files for deployment, each checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from featherface.cli.options import MODEL, chosen_model


def add_commands(app: typer.Typer) -> None:
    """Hang the command on the application."""
    app.command(short_help="Write ONNX, int8, OpenVINO and torch files, each checked.")(export)


def export(
    out: Annotated[Path, typer.Option(help="Folder of the files, of exports.json and exports.md.")],
    model: MODEL = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Of onnx,onnx-nms,int8,openvino,torch; default: all that can be made here, int8 with --data."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A data set in WIDER FACE layout with its ground truth, for AP and int8."),
    ] = None,
    *,
    max_ap_drop: Annotated[
        float, typer.Option(min=0, max=1, help="What loses more mean AP than this is not written.")
    ] = 0.01,
    calibration_images: Annotated[int, typer.Option(min=1, help="Training images that int8 sees.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of each file, taking turns.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Write a network as ONNX, with suppression inside, int8, OpenVINO, torch; each checked and timed."""
    from featherface.data.widerface import GROUND_TRUTH_DIR
    from featherface.deployment.formats import FORMATS, parse_formats, possible_formats
    from featherface.deployment.run import export_formats
    from featherface.deployment.source import open_source
    from featherface.errors import ModelError

    wanted = None if formats is None else parse_formats(formats)
    source = open_source(chosen_model(model))
    if wanted is None:
        has_ground_truth = data is not None and (data / GROUND_TRUTH_DIR).is_dir()
        wanted = possible_formats(source, has_ground_truth=has_ground_truth)
        left_out = ", ".join(name for name in FORMATS if name not in wanted)
        if left_out:
            typer.echo(f"left out, as what they need is not here: {left_out}", err=True)
    report = export_formats(
        source,
        out,
        wanted,
        data=data,
        max_ap_drop=max_ap_drop,
        num_calibration_images=calibration_images,
        rounds=rounds,
    )
    typer.echo(json.dumps(report.to_dict()) if as_json else report.table(), nl=as_json)
    if report.refusals:
        raise ModelError("; ".join(report.refusals))
    typer.echo(f"files, numbers and table are in {out}", err=True)
    return 0
