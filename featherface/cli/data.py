"""`featherface data`: make, import and check a data set in WIDER FACE layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from featherface.cli.flows import find_flow
from featherface.config import SynthesizeConfig
from featherface.stopping import stopped_in_order

app = typer.Typer(
    help="Make, import and check a data set in WIDER FACE layout.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DEFAULTS = SynthesizeConfig()


@app.command(short_help="Draw scenes with faces; nothing is downloaded.")
def synthesize(
    destination: Annotated[Path, typer.Argument(help="New or empty folder.")],
    train: Annotated[int, typer.Option(min=1, help="Training images.")] = DEFAULTS.num_train,
    val: Annotated[int, typer.Option(min=1, help="Validation images.")] = DEFAULTS.num_val,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = DEFAULTS.seed,
) -> None:
    """Draw scenes with faces, distractors and clutter: no photographs, no download."""
    from featherface.data.synthetic import synthesize_dataset

    with stopped_in_order():
        synthesize_dataset(destination, num_train=train, num_val=val, image_hw=DEFAULTS.image_hw, seed=seed)
    typer.echo(f"{destination}: {train} training and {val} validation images")


@app.command("import-widerface", short_help="Bring WIDER FACE folders or zips into a folder.")
def import_widerface(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder with WIDER_train, WIDER_val, wider_face_split, ground_truth, or their zips "
            "(the ground truth is in eval_tools.zip)."
        ),
    ],
    destination: Annotated[Path, typer.Argument(help="New or empty folder.")] = Path("data"),
) -> None:
    """Bring the official WIDER FACE folders or zips into a data folder."""
    from featherface.data import importing

    with stopped_in_order():
        importing.import_widerface(source, destination)
    typer.echo(f"{destination}: imported from {source}")
    _tell_lacking(destination)


@app.command(short_help="Look for broken, missing and duplicate images.")
def validate(
    directory: Annotated[Path, typer.Argument(help="A data set in WIDER FACE layout.")] = Path("data"),
    plot: Annotated[Path | None, typer.Option(help="Also draw sizes and counts into this PNG.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Look for unreadable, missing and duplicate images and for boxes that cannot be right."""
    from featherface.data.validation import validate_dataset
    from featherface.files import check_writable

    if plot is not None:
        check_writable(plot)
    report = validate_dataset(directory)
    typer.echo(json.dumps(report.to_dict(), indent=2, sort_keys=True) if as_json else report.table())
    if plot is not None:
        from featherface.data.validation_plot import plot_validation

        plot_validation(report, plot)
    from featherface.stages.validate import refuse_unusable

    refuse_unusable(report)
    _tell_lacking(directory)


def _tell_lacking(folder: Path) -> None:
    from featherface.data.widerface import lacking

    if missing := lacking(lambda part: (folder / part).exists()):
        typer.echo(
            f"{folder}: lacks {missing}; `featherface pipeline` needs it, `featherface trials` only "
            "WIDER_train and its annotations",
            err=True,
        )


@app.command(short_help="Record the data as a new version, and push it.")
def push(
    root: Annotated[Path, typer.Option(help="The workspace.")] = Path(),
    remote: Annotated[
        str | None,
        typer.Option(help="DVC's remote from now on, e.g. s3://dvc/featherface; default: the one it has."),
    ] = None,
) -> None:
    """Record the data folder as a new version, push it, and tell the schedules."""
    version = find_flow("push_data")(root, remote=remote)
    typer.echo(f"{root}: data version {version}")
