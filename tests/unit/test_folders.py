"""What a folder gives: its images by name, and one line on the pictures and films that are left out."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from heic_files import FOUR_CORNERS
from PIL import Image

from featherface import FaceDetector
from featherface.cli import main
from featherface.errors import DataError
from featherface.evaluation.ground_truth import image_key
from featherface.imaging import IMAGE_SUFFIXES, write_image
from featherface.inference.batch import detect_files, expand_sources
from featherface.inference.folders import LeftOut, left_out_of
from featherface.inference.outputs import Outputs


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(*names: str) -> None:
    """Gray pictures where we can write such; else files of that name, which nobody reads."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        if Path(name).suffix in (".png", ".PNG"):
            write_image(name, np.full((64, 64, 3), 99, np.uint8))
        else:
            Path(name).write_bytes(b"of no kind")


def run_detect(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["detect", *arguments])
    captured = capsys.readouterr()
    return int(left.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JFIF"])
def test_other_names_of_jpegs_are_read_as_jpegs(suffix: str) -> None:
    assert suffix.lower() in IMAGE_SUFFIXES
    Path("mix").mkdir()
    Image.new("RGB", (64, 64)).save(f"mix/a{suffix}", "JPEG")
    assert image_key(f"0--Parade/a{suffix}") == "0--Parade/a"
    outputs = Outputs(marked=Path("out"))
    ((name, faces),) = detect_files(FaceDetector(num_threads=1), expand_sources(["mix"]), outputs=outputs)
    assert (name, len(faces)) == (f"mix/a{suffix}", 0)
    assert [path.name for path in Path("out").iterdir()] == ["a.jpg"], "JPEGs stay JPEGs"


def test_what_a_folder_leaves_out_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    fill("mix/a.png", "mix/film.mp4", "mix/in/b.jxl", "mix/c.CR2", "mix/notes.txt", "mix/.hidden.jxl")
    code, out, err = run_detect(capsys, "mix")
    assert (code, out) == (1, "mix/a.png: 0 faces\n")
    assert err == (
        "featherface: mix: left out 1 film (film.mp4: give featherface detect films by name), "
        "2 pictures of formats that are not read (.cr2, .jxl: convert them)\n"
    )


def test_a_raw_file_beside_its_picture_is_not_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Cameras write pairs; whoever converted what we do not read has pairs, too."""
    fill("mix/IMG_1.CR2", "mix/IMG_1.png", "mix/b.jp2", "mix/b.PNG", "mix/IMG_2.CR2", "mix/IMG_1.mp4")
    fill("mix/in/IMG_2.png", "mix/in/IMG_3.pef", "mix/.IMG_2.png")
    code, _, err = run_detect(capsys, "mix")
    assert code == 1
    assert err == (
        "featherface: mix: left out 1 film (IMG_1.mp4: give featherface detect films by name), "
        "2 pictures of formats that are not read (.cr2, .pef: convert them)\n"
    )
    assert run_detect(capsys, "mix", "mix/IMG_2.CR2")[2].count("of a format that is not read (.pef") == 1
    for name in ("mix/IMG_2.CR2", "mix/in/IMG_3.pef", "mix/IMG_1.mp4"):
        Path(name).unlink()
    assert run_detect(capsys, "mix") == (
        0,
        "mix/IMG_1.png: 0 faces\nmix/b.PNG: 0 faces\nmix/in/IMG_2.png: 0 faces\n",
        "",
    )


def test_films_that_are_left_out_are_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    fill("one/a.png", "one/x.mov", "many/a.png", *(f"many/in/{number}.mp4" for number in range(5)))
    code, _, err = run_detect(capsys, "one", "many", "./one/")
    assert (code, err.splitlines()) == (
        0,
        [
            "featherface: one: left out 1 film (x.mov: give featherface detect films by name)",
            "featherface: many: left out 5 films (in/0.mp4, in/1.mp4, in/2.mp4, ...: "
            "give featherface detect films by name)",
        ],
    )


def test_what_is_given_by_name_is_not_left_out() -> None:
    fill("mix/a.png", "mix/b.jxl", "mix/c.jxl", "mix/d.mp4")
    told: list[LeftOut] = []
    found = expand_sources(["mix", "mix/b.jxl", "mix/d.mp4"], tell_left_out=told.append)
    assert found == [Path("mix/a.png"), Path("mix/b.jxl"), Path("mix/d.mp4")]
    assert told == [LeftOut("mix", foreign=("c.jxl",))]
    told.clear()
    expand_sources(["mix", "mix/*"], tell_left_out=told.append)
    assert told == []


def test_photographs_of_phones_are_images_of_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("phone").mkdir()
    Path("phone/a.HEIC").write_bytes(FOUR_CORNERS)
    Image.new("RGB", (64, 64)).save("phone/b.avif")
    code, out, err = run_detect(capsys, "phone", "--save", "out")
    assert (code, out) == (0, "phone/a.HEIC: 0 faces\nphone/b.avif: 0 faces\n"), err
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.jpg", "b.jpg"]


def test_where_they_are_not_read_it_is_said_what_reads_them() -> None:
    left_out = LeftOut("phone", foreign=("a.heic", "b.jxl"))
    assert str(left_out).endswith("(.heic, .jxl: convert them; pi-heif reads HEIC)")


def test_a_folder_of_nothing_else_says_so() -> None:
    fill("phone/b.jxl", "films/a.mp4", "films/b.mp4")
    for name, words in {
        "phone": r"1 picture of a format that is not read \(\.jxl: convert it\)$",
        "films": r"2 films \(a\.mp4, b\.mp4: give featherface detect films by name\)$",
    }.items():
        with pytest.raises(DataError, match=rf"^{name}: has no images in it \(.*\), but {words}"):
            expand_sources([name])


def test_python_is_warned_once(caplog: pytest.LogCaptureFixture) -> None:
    fill("mix/a.png", "mix/b.png", "mix/film.mp4", "mix/c.jxl")
    with caplog.at_level(logging.WARNING, logger="featherface"):
        assert len(FaceDetector(num_threads=1)("mix")) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "mix: left out 1 film (film.mp4: give featherface detect films by name), "
        "1 picture of a format that is not read (.jxl: convert it)"
    ]


def test_nothing_left_out_is_nothing_to_tell() -> None:
    assert left_out_of("mix", ["a.png", "a.txt", "README"]) is None
