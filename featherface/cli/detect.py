"""`featherface detect`: the faces of pictures and films, as text, tables and pictures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherface.cli.options import MODEL, chosen_model
from featherface.cli.printing import above_bars, printable
from featherface.cli.table import STANDARD_OUTPUT, FaceTable
from featherface.errors import DataError, OptionError
from featherface.stopping import stopped_in_order

if TYPE_CHECKING:
    from featherface.inference.folders import LeftOut
    from featherface.inference.results import Faces

_STANDARD_INPUT = "-"
_EXAMPLES = """\b
Examples:
  featherface detect photo.jpg --save out
  featherface detect photos/ --csv faces.csv
  featherface detect film.mp4 --every 5 --blurred out
  featherface detect crowd.jpg --image-size original
  curl -s https://example.org/photo.jpg | featherface detect - --json
"""


def add_commands(app: typer.Typer) -> None:
    """Hang the command on the application."""
    app.command(short_help="Find the faces in pictures and films.", epilog=_EXAMPLES)(detect)


def detect(
    source: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, films, folders of pictures, or globs; - reads a picture from standard input."
        ),
    ],
    model: MODEL = None,
    *,
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Faces below this score are dropped.")
    ] = 0.5,
    iou_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Of two boxes that overlap more only the surer stays.")
    ] = 0.4,
    max_faces: Annotated[int, typer.Option(min=1, help="Most faces of a picture.")] = 750,
    image_size: Annotated[str, typer.Option(help="Long side in pixels, or 'original'.")] = "640",
    close_ups: Annotated[
        bool, typer.Option("--close-ups", help="Look twice: also finds faces that fill a large picture.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Of a film only each so many-th frame.")] = 1,
    num_threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the network; default: one a core.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA where there is one.")] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON list instead of a line an image.")
    ] = False,
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="Print a JSON object a line, each as soon as it is found.")
    ] = False,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Write a table with a line a face into this file; - prints it."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write the pictures with their faces marked into this folder; films as MPEG-4 without sound."
        ),
    ] = None,
    crops: Annotated[Path | None, typer.Option(help="Write each face as a picture of its own.")] = None,
    blurred: Annotated[
        Path | None,
        typer.Option(
            help="Write the pictures with all faces made unrecognizable; films as MPEG-4 without sound."
        ),
    ] = None,
) -> int:
    """Find the faces in pictures and films; a broken one is named at the end and stops no other (exit 1)."""
    from featherface.cli.standard_input import read_standard_input
    from featherface.inference.batch import detect_files, expand_sources, parse_image_size
    from featherface.inference.detector import FaceDetector
    from featherface.inference.outputs import Outputs

    prints_table = csv_file == STANDARD_OUTPUT
    _refuse_to_print_several(as_json, json_lines, prints_table)
    # FFmpeg, inside OpenCV, would tell of broken films on its own, beside our line; it reads this once.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    outputs = Outputs(marked=save, crops=crops, blurred=blurred)
    left_out: list[LeftOut] = []
    paths = expand_sources(
        (each for each in source if each != _STANDARD_INPUT), tell_left_out=left_out.append
    )
    if csv_file is not None:
        _refuse_table(csv_file, paths)
    piped = [read_standard_input(_STANDARD_INPUT)] if _STANDARD_INPUT in source else []
    detector = FaceDetector(
        chosen_model(model),
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_faces=max_faces,
        image_size=parse_image_size(image_size),
        close_ups=close_ups,
        num_threads=num_threads,
        device=device,
    )
    listed: list[dict[str, Any]] = []
    failures, num_found, num_faces = [], 0, 0
    results = detect_files(detector, [*piped, *paths], outputs=outputs, every=every)
    with stopped_in_order(), _table(csv_file) as add_rows, closing(results):
        for name, result in results:
            if isinstance(result, DataError):
                failures.append(str(result))
                continue
            num_found, num_faces = num_found + 1, num_faces + len(result)
            with above_bars(sys.stdout):
                add_rows(name, result)
                if as_json:
                    listed.append(result.to_dict() | {"image": name})
                elif json_lines:
                    typer.echo(json.dumps(result.to_dict() | {"image": name}))
                elif not prints_table:
                    typer.echo(f"{printable(name)}: {len(result)} face{'' if len(result) == 1 else 's'}")
    if as_json:
        typer.echo(json.dumps(listed))
    if num_found:
        _say_where(
            {"marked": save, "cut out": crops if num_faces else None, "blurred": blurred}
            | ({} if prints_table else {"listed": csv_file})
        )
    for line in (*failures, *map(str, left_out)):
        typer.echo(f"featherface: {printable(line)}", err=True)
    is_whole = not failures and not any(each.foreign for each in left_out)
    return 0 if is_whole else 1 if num_found else 2


def _say_where(outputs: dict[str, Path | None]) -> None:
    for what, path in outputs.items():
        if path is not None:
            typer.echo(f"faces {what} are in {path}", err=True)


def _refuse_to_print_several(*what: bool) -> None:
    if sum(what) > 1:
        raise OptionError("only one of --json, --json-lines and --csv - can be printed; give one of them")


def _refuse_table(path: Path, sources: Sequence[Path]) -> None:
    # A shell makes `--csv one.jpg two.jpg` of `--csv *.jpg`.
    from featherface.imaging import IMAGE_SUFFIXES
    from featherface.inference.folders import FILM_SUFFIXES
    from featherface.inference.outputs import file_id

    if path.suffix.lower() in (*IMAGE_SUFFIXES, *FILM_SUFFIXES):
        raise OptionError(
            f"{path}: is the name of a picture or film; --csv takes a table's, such as faces.csv"
        )
    table = file_id(path)
    if table is not None and table in map(file_id, sources):
        raise OptionError(f"{path}: is one of the sources and would be replaced; give --csv another file")


@contextmanager
def _table(path: Path | None) -> Iterator[Callable[[str, Faces], None]]:
    """A function that writes the faces of a picture as lines of a CSV file, or nothing without one."""
    if path is None:
        yield lambda _name, _faces: None
        return
    table = FaceTable(path)
    try:
        yield table.add
    except BaseException:
        table.discard()
        raise
    table.close()
