"""At a terminal lines and bars live together: no line is glued to a bar, none is lost."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherface.imaging import write_image

pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
UP = "\x1b[A"
NAMES = ("0.png", "1.png", "2.png", "3.jpg", "film.mp4#0", "film.mp4#1", "4.png")


def shown(data: str) -> list[str]:
    """What stands on the screen at the end, as far as tqdm and we command it."""
    lines, row, column, position = [""], 0, 0, 0
    while position < len(data):
        if data.startswith(UP, position):
            row, position = row - 1, position + len(UP)
            continue
        char, position = data[position], position + 1
        if char == "\r":
            column = 0
        elif char == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] = f"{lines[row][:column]:<{column}}{char}{lines[row][column + 1 :]}"
            column += 1
    return [line.rstrip() for line in lines]


def run_at_terminal(*arguments: str) -> list[str]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 80))
    with subprocess.Popen(
        [sys.executable, "-m", "featherface", "detect", "--num-threads", "1", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        data = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux says so when nobody is at the other end
                break
            if not piece:
                break
            data += piece
    os.close(ours)
    assert process.returncode == 0, data
    return shown(data.decode())


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Enough for a bar; of a damaged picture a line is logged, and a film has a bar of its own."""
    monkeypatch.chdir(tmp_path)
    for number in (0, 1, 2, 4):
        write_image(f"{number}.png", np.zeros((64, 64, 3), np.uint8))
    write_image("3.jpg", np.zeros((640, 640, 3), np.uint8))
    data = bytearray(Path("3.jpg").read_bytes())
    data[-400:-300] = b"\xff\xd0" * 50
    Path("3.jpg").write_bytes(data)
    writer = cv2.VideoWriter("film.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for _ in range(2):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    return ["0.png", "1.png", "2.png", "3.jpg", "film.mp4", "4.png"]


@pytest.mark.parametrize(
    "printed", [[], ["--json-lines"], ["--csv", "-", "--score-threshold", "0", "--max-faces", "1"]]
)
def test_lines_stand_above_the_bars(sources: list[str], printed: list[str]) -> None:
    lines = run_at_terminal(*sources, *printed)
    [told] = [line for line in lines if "is a damaged JPEG" in line]
    assert told.startswith("3.jpg: ")
    assert [line[:7] for line in lines if "file/s" in line] == ["detect:"], "the bar itself is left, once"
    if not printed:
        assert [line for line in lines if " face" in line and line != told] == [
            f"{name}: 0 faces" for name in NAMES
        ]
    elif printed == ["--json-lines"]:
        assert [json.loads(line)["image"] for line in lines if "{" in line] == list(NAMES)
    else:
        rows = list(csv.reader(line for line in lines if line.count(",") == 15))
        assert list(dict.fromkeys(row[0] for row in rows)) == ["image", *NAMES]
