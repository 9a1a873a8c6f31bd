"""`featherface detect -`: one picture from standard input, as if it were a file."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile_files import black_png, encode
from PIL import Image

from featherface.cli import main, standard_input
from featherface.imaging import write_image


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """NASA's portrait of Eileen Collins, in the public domain: head and shoulders."""
    skimage = pytest.importorskip("skimage")
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as whole:
        return whole.convert("RGB").crop((90, 0, 370, 320))


class Detect:
    """The command, with bytes on standard input."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, data: bytes | None, *arguments: str) -> tuple[int, str, str]:
        given = None if data is None else io.TextIOWrapper(io.BytesIO(data))
        self._monkeypatch.setattr(sys, "stdin", given)
        with pytest.raises(SystemExit) as left:
            main(["detect", "--num-threads", "1", *arguments])
        captured = self._capsys.readouterr()
        return int(left.value.code or 0), captured.out, captured.err


@pytest.fixture
def detect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Detect:
    return Detect(monkeypatch, capsys)


def test_it_has_the_faces_of_the_file(detect: Detect, photograph: Image.Image) -> None:
    data = encode(photograph, "JPEG")
    Path("a.jpg").write_bytes(data)
    code, out, err = detect(data, "-", "a.jpg", "--json")
    piped, read = json.loads(out)
    assert (code, err, piped.pop("image"), read.pop("image")) == (0, "", "-", "a.jpg")
    assert piped == read
    assert len(piped["faces"]) == 1


@pytest.mark.parametrize(
    ("image_format", "suffix"),
    [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("GIF", ".png"), ("AVIF", ".jpg")],
)
def test_copies_are_named_after_it_and_its_format(
    detect: Detect, photograph: Image.Image, image_format: str, suffix: str
) -> None:
    write_image("stdin.webp", np.zeros((64, 64, 3), np.uint8))
    kinds = ("--save", "marked", "--crops", "faces", "--blurred", "blurred")
    assert detect(encode(photograph, image_format), "stdin.webp", "-", *kinds)[0] == 0
    other = "stdin-2.webp" if suffix == ".webp" else "stdin.webp"
    for name in ("marked", "blurred"):
        assert {path.name for path in Path(name).iterdir()} == {f"stdin{suffix}", other}
    assert [path.name for path in Path("faces").iterdir()] == [f"stdin-1{suffix}"]


def test_what_gives_no_picture_is_refused_before_anything_is_done(
    detect: Detect, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.png").write_bytes(black_png(8, 8))
    assert detect(b"", "-", "a.png") == (2, "", "featherface: -: nothing came on standard input\n")
    assert detect(None, "-") == (2, "", "featherface: -: standard input is closed\n")
    monkeypatch.setattr(standard_input, "MAX_FILE_BYTES", 1_000_000)
    code, out, err = detect(bytes(1_000_001), "-", "a.png")
    assert (code, out, err) == (2, "", "featherface: -: has more than 1 MB, the limit of a picture\n")
    assert detect(bytes(1_000_000), "-", "a.png")[0] == 1, "as much as the limit is read, and no picture"


def test_a_terminal_is_no_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with pytest.raises(SystemExit, match="2"):
            main(["detect", "-"])
    os.close(ours)
    assert capsys.readouterr().err == (
        "featherface: -: standard input is a terminal; give it a picture: featherface detect - < photo.jpg\n"
    )


def test_a_broken_picture_stops_no_other(detect: Detect, photograph: Image.Image) -> None:
    Path("a.png").write_bytes(black_png(8, 8))
    whole = encode(photograph, "JPEG")
    for data, words in ((b"%PDF-1.7", "(it is a PDF document"), (whole[:5000], "is a truncated JPEG")):
        code, out, err = detect(data, "-", "a.png")
        assert (code, out) == (1, "a.png: 0 faces\n")
        assert err.startswith("featherface: -: is ")
        assert words in err
    assert detect(b"%PDF-1.7", "-")[0] == 2


def test_of_a_pipe_it_is_said_how_to_hand_it_over(detect: Detect) -> None:
    os.mkfifo("pipe.jpg")
    code, _, err = detect(b"", "pipe.jpg")
    assert code == 2
    assert err == (
        "featherface: pipe.jpg: cannot be read (it is a named pipe, not a file; hand over the bytes instead, "
        "which featherface detect - reads from standard input)\n"
    )


def test_a_file_behind_standard_input_is_not_replaced(photograph: Image.Image) -> None:
    data = encode(photograph, "PNG")
    Path("stdin.png").write_bytes(data)
    with Path("stdin.png").open() as given:
        done = subprocess.run(
            [sys.executable, "-m", "featherface", "detect", "-", "--save", "."],
            stdin=given, capture_output=True, text=True, check=False,
        )  # fmt: skip
    line = "featherface: stdin.png: is one of the sources and would be replaced; give another folder\n"
    assert (done.returncode, done.stderr) == (2, line)
    assert Path("stdin.png").read_bytes() == data
