"""`featherface detect`: the faces of pictures and films, as text, tables and pictures."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherface.cli.options import MODEL, default_model
from featherface.cli.printing import printable
from featherface.errors import DataError

if TYPE_CHECKING:
    from featherface.inference.results import Faces

_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
COLUMNS = (
    "image", "left", "top", "right", "bottom", "score",
    *(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
)  # fmt: skip
"""Of `--csv`: one line a face, pixels of the picture."""
_EXAMPLES = """\b
Examples:
  featherface detect photo.jpg --save out
  featherface detect photos/ --csv faces.csv
  featherface detect film.mp4 --every 5 --blurred out
  featherface detect crowd.jpg --image-size original
"""


def add_commands(app: typer.Typer) -> None:
    """Hang the command on the application."""
    app.command(short_help="Find the faces in pictures and films.", epilog=_EXAMPLES)(detect)


def detect(
    source: Annotated[list[str], typer.Argument(help="Pictures, films, folders of pictures, or globs.")],
    model: MODEL = None,
    *,
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Faces below this score are dropped.")
    ] = 0.5,
    image_size: Annotated[str, typer.Option(help="Long side in pixels, or 'original'.")] = "640",
    close_ups: Annotated[
        bool, typer.Option("--close-ups", help="Look twice: also finds faces that fill a large picture.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Of a film only each so many-th frame.")] = 1,
    num_threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the network; default: one a core.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON list instead of a line an image.")
    ] = False,
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="Print a JSON object a line, each as soon as it is found.")
    ] = False,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write a table with a line a face into this file.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the pictures with their faces marked into this folder.")
    ] = None,
    crops: Annotated[Path | None, typer.Option(help="Write each face as a picture of its own.")] = None,
    blurred: Annotated[
        Path | None, typer.Option(help="Write the pictures with all faces made unrecognizable.")
    ] = None,
) -> int:
    """Find the faces in pictures and films; a broken one is named at the end and stops no other (exit 1)."""
    from featherface.inference.batch import detect_files, expand_sources, parse_image_size
    from featherface.inference.detector import FaceDetector
    from featherface.inference.outputs import Outputs

    # FFmpeg, inside OpenCV, would tell of broken films on its own, beside our line; it reads this once.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    paths = expand_sources(source)
    detector = FaceDetector(
        model or default_model(),
        score_threshold=score_threshold,
        image_size=parse_image_size(image_size),
        close_ups=close_ups,
        num_threads=num_threads,
    )
    listed: list[dict[str, Any]] = []
    failures, num_found = [], 0
    outputs = Outputs(marked=save, crops=crops, blurred=blurred)
    with _table(csv_file) as add_rows:
        for name, result in detect_files(detector, paths, outputs=outputs, every=every):
            if isinstance(result, DataError):
                failures.append(str(result))
                continue
            num_found += 1
            add_rows(name, result)
            if as_json:
                listed.append(result.to_dict() | {"image": name})
            elif json_lines:
                typer.echo(json.dumps(result.to_dict() | {"image": name}))
            else:
                typer.echo(f"{printable(name)}: {len(result)} face{'' if len(result) == 1 else 's'}")
    if as_json:
        typer.echo(json.dumps(listed))
    if num_found:
        _say_where({"marked": save, "cut out": crops, "blurred": blurred, "listed": csv_file})
    for failure in failures:
        typer.echo(f"featherface: {printable(failure)}", err=True)
    return 0 if not failures else 1 if num_found else 2


def _say_where(outputs: dict[str, Path | None]) -> None:
    for what, path in outputs.items():
        if path is not None:
            typer.echo(f"faces {what} are in {path}", err=True)


@contextmanager
def _table(path: Path | None) -> Iterator[Callable[[str, Faces], None]]:
    """A function that writes the faces of a picture as lines of a CSV file, or nothing without one."""
    if path is None:
        yield lambda _name, _faces: None
        return
    try:
        stream = path.open("w", newline="", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
    with stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        yield lambda name, faces: writer.writerows(_rows(name, faces))


def _rows(name: str, faces: Faces) -> Iterator[Sequence[object]]:
    for face in faces.to_dict()["faces"]:
        points = [value for point in face["landmarks"] for value in point]
        yield [name, *face["box_xyxy"], face["score"], *points]
