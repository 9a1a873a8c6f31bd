"""Films frame by frame."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from featherface import FaceDetector
from featherface.errors import DataError, OptionError
from featherface.imaging import write_image
from featherface.inference.batch import Outputs, detect_files
from featherface.inference.isomedia import IsoFilm, inspect_boxes
from featherface.inference.matroska import missing_bytes
from featherface.inference.video import FilmWriter, frames_per_second, read_frames

NUM_FRAMES = 9


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Nine grey frames, each lighter than the one before."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    assert writer.isOpened()
    for number in range(NUM_FRAMES):
        writer.write(np.full((64, 96, 3), 20 * number, dtype=np.uint8))
    writer.release()
    return path


def noisy_film(path: Path, codec: str) -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (96, 64))
    noise = np.random.default_rng(0)
    for _ in range(NUM_FRAMES):
        writer.write(noise.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    writer.release()
    return path.read_bytes()


def test_every_frame_comes_once_in_order(film: Path) -> None:
    frames = list(read_frames(film))
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * NUM_FRAMES
    assert [frame.mean() for frame in frames] == pytest.approx(
        [20 * number for number in range(NUM_FRAMES)], abs=3
    )


def test_frames_can_be_passed_over(film: Path) -> None:
    assert [frame.mean() for frame in read_frames(film, every=4)] == pytest.approx([0, 80, 160], abs=3)


def test_colors_are_red_first(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    writer.write(np.full((64, 64, 3), (0, 0, 255), dtype=np.uint8))  # OpenCV's order
    writer.release()
    (frame,) = read_frames(path)
    assert frame[32, 32].tolist() == pytest.approx([254, 0, 0], abs=6)


def test_a_detector_gives_a_result_for_each_frame(film: Path) -> None:
    results = list(FaceDetector(num_threads=1).stream(film, every=3))
    assert len(results) == 3
    assert {(faces.width, faces.height) for faces in results} == {(96, 64)}
    assert [faces.name for faces in results] == [f"{film}#{number}" for number in (0, 3, 6)]


@pytest.mark.parametrize("as_list", [False, True])
def test_films_of_a_glob_or_a_list_are_streamed_frame_by_frame(film: Path, *, as_list: bool) -> None:
    folder = film.parent
    for name in ("a.png", "b.png", "c.png"):
        write_image(folder / name, np.full((40, 60, 3), 99, dtype=np.uint8))
    film.rename(folder / "b.AVI")
    (folder / "c.png").rename(folder / "c.mp4")  # a picture all the same
    source = [folder / "a.png", str(folder / "b.AVI"), folder / "b.png", folder / "c.mp4"]
    results = FaceDetector(num_threads=1, image_size=32).stream(
        source if as_list else str(folder / "*"), every=2
    )
    names = [(faces.name or "").removeprefix(f"{folder}/") for faces in results]
    assert names == ["a.png", *(f"b.AVI#{number}" for number in range(0, NUM_FRAMES, 2)), "c.mp4"]


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nosuch\.mp4: there is no such file; a camera is given by its number"
    ):
        next(read_frames(tmp_path / "nosuch.mp4"))
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(DataError, match="cannot be opened as a film"):
        next(read_frames(tmp_path / "text.mp4"))
    with pytest.raises(OptionError, match="every must be a whole number of at least 1, got 0"):
        next(read_frames(tmp_path / "text.mp4", every=0))


@pytest.mark.parametrize("every", [2.5, "2", None, True])
def test_only_whole_numbers_of_frames_are_passed_over(every: object, film: Path) -> None:
    with pytest.raises(OptionError, match="every must be a whole number of at least 1, got"):
        next(read_frames(film, every=every))
    assert len(list(read_frames(film, every=np.int64(4)))) == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (-1, "camera -1: cameras are counted from 0 on"),
        (np.int64(-2), "camera -2: cameras are"),
        (2**31, "camera 2147483648: cameras are"),
        (True, "a film is a path, and a camera is a number, got True"),
        (None, "a camera is a number, got None"),
        (b"film.mp4", "a camera is a number, got b'film.mp4'"),
        (1.5, "got 1.5"),
        ("", "a file's name is needed, got an empty one"),
        ("rtsp://camera/1", "rtsp://camera/1: addresses are not fetched"),
    ],
)
def test_what_is_neither_film_nor_camera_is_refused(source: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        next(FaceDetector(num_threads=1).stream(source))


@pytest.mark.parametrize(
    "source", [np.arange(7500).reshape(50, 50, 3), bytes(10**6), Image.new("RGB", (9, 9)), iter("ab")]
)
def test_a_single_image_is_no_film_and_named_in_a_short_line(source: object) -> None:
    with pytest.raises(DataError, match="a film is a path, and a camera is a number, got ") as refusal:
        next(FaceDetector(num_threads=1).stream(source))
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 120


def test_a_film_without_a_frame_that_can_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    pages = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    pages[0].save(tmp_path / "moving.webp", save_all=True, append_images=pages[1:], duration=40)
    detector = FaceDetector(num_threads=1)
    for name in ("text.jpg", "moving.webp"):
        with pytest.raises(DataError, match=f"{name}: has no frame that can be read"):
            list(detector.stream(tmp_path / name))


def test_a_document_with_a_picture_in_it_is_no_film(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "page.pdf")
    with pytest.raises(DataError, match=r"page\.pdf: is no film \(it is a PDF document: save its pages as"):
        next(read_frames(tmp_path / "page.pdf"))


def test_a_film_with_a_time_in_its_name_is_read_and_written(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    film.rename("2024-01-01T12:30:00.avi")
    writer = FilmWriter(Path("12:30.mp4"), frames_per_second(Path("2024-01-01T12:30:00.avi")))
    for frame in read_frames("2024-01-01T12:30:00.avi"):
        writer.write(frame)
    writer.close()
    assert len(list(read_frames("12:30.mp4"))) == NUM_FRAMES


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "featherface", "detect", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_the_command_line_takes_films_and_pictures(film: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "grey.png", np.full((40, 60, 3), 99, dtype=np.uint8))
    done = run(
        film, "grey.png", "--every", 4, "--num-threads", 1, "--json-lines", "--save", "s", "--blurred", "b",
        "--csv", "t.csv",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["image"] for record in records] == [f"{film}#0", f"{film}#4", f"{film}#8", "grey.png"]
    for folder in ("s", "b"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == ["film.mp4", "grey.png"]
        frames = list(read_frames(tmp_path / folder / "film.mp4"))
        assert [frame.shape for frame in frames] == [(64, 96, 3)] * 3
    assert frames_per_second(tmp_path / "s" / "film.mp4") == pytest.approx(10 / 4)
    assert (tmp_path / "t.csv").read_text().startswith("image,left,top,right,bottom,score,left_eye_x")


@pytest.mark.parametrize("name", ["film.ts", "film.M2TS", "film.wmv", "film.flv", "film.3gp"])
def test_films_are_known_by_the_names_of_their_formats(name: str, tmp_path: Path) -> None:
    suffix = Path(name).suffix.lower()
    made = tmp_path / f"made{'.ts' if suffix == '.m2ts' else suffix}"
    noisy_film(made, {".wmv": "WMV2", ".flv": "FLV1"}.get(suffix, "mp4v"))
    made.rename(tmp_path / name)
    detector = FaceDetector(num_threads=1, image_size=32)
    results = list(detect_files(detector, [tmp_path / name], outputs=Outputs(marked=tmp_path / "s")))
    assert [result for _, result in results if isinstance(result, DataError)] == []
    assert len(results) == NUM_FRAMES
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["film.mp4"]


def test_a_film_that_is_none_stops_no_other(film: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    done = run("broken.mp4", film, "--save", "s", cwd=tmp_path)
    assert done.returncode == 1
    assert "broken.mp4: cannot be opened as a film" in done.stderr
    assert done.stdout.count("film.avi#") == NUM_FRAMES
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("size_wh", [(96, 64), (97, 65), (2, 2)])
def test_a_film_appears_whole_or_not_at_all(tmp_path: Path, size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    for name in ("kept", "dropped"):
        writer = FilmWriter(tmp_path / f"{name}.mp4", 10)
        writer.write(np.full((height, width, 3), 128, dtype=np.uint8))
        assert not (tmp_path / f"{name}.mp4").exists()
        (writer.close if name == "kept" else writer.discard)()
    assert [path.name for path in tmp_path.iterdir()] == ["kept.mp4"]
    (frame,) = read_frames(tmp_path / "kept.mp4")
    assert frame.mean() == pytest.approx(128, abs=4)


@pytest.mark.parametrize(
    ("rate", "written"),
    [
        (29.97, 29.97),
        (24_000 / 1001, 23.976),
        (59.94, 59.94),
        (66.789, 66.79),
        (119.881, 119.88),
        (239.867, 239.87),
        (65.535, 65.535),
        (65.5354, 65.535),
        (655.354, 655.35),
        (999.99, 1000),
        (25 / 3, 8.333),
        (0.0003, 0.01),
    ],
)
def test_a_film_of_any_rate_can_be_written(rate: float, written: float, tmp_path: Path) -> None:
    writer = FilmWriter(tmp_path / "film.mp4", rate)
    for _ in range(3):
        writer.write(np.zeros((64, 96, 3), dtype=np.uint8))
    writer.close()
    assert frames_per_second(tmp_path / "film.mp4") == pytest.approx(written, abs=1e-4)
    assert len(list(read_frames(tmp_path / "film.mp4"))) == 3


@contextmanager
def room_for(num_bytes: int) -> Iterator[None]:
    """As on a disk that is full: no file may become longer."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("num_bytes", [1000, 20_000, 45_000])
def test_a_film_for_which_there_is_no_room_is_none_and_an_older_one_stays(
    num_bytes: int, tmp_path: Path
) -> None:
    (tmp_path / "film.mp4").write_bytes(b"the older one")
    writer, noise = FilmWriter(tmp_path / "film.mp4", 10), np.random.default_rng(0)
    with room_for(num_bytes):
        for _ in range(12):
            writer.write(noise.integers(0, 255, (64, 96, 3), dtype=np.uint8))
        with pytest.raises(
            DataError, match=r"film\.mp4: not all 12 frames could be written; make room on the disk"
        ):
            writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    assert (tmp_path / "film.mp4").read_bytes() == b"the older one"


def test_a_film_of_odd_sides_loses_its_last_column_and_row(tmp_path: Path) -> None:
    frame = np.zeros((63, 97, 3), dtype=np.uint8)
    frame[:, 48:] = 255
    writer = FilmWriter(tmp_path / "film.mp4", 10)
    writer.write(frame)
    writer.close()
    (written,) = read_frames(tmp_path / "film.mp4")
    assert written.shape == (62, 96, 3)
    assert np.abs(written.astype(int) - frame[:62, :96]).mean() < 3, "cut, not scaled"


def test_a_film_that_cannot_have_its_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").mkdir()
    writer = FilmWriter(tmp_path / "film.mp4", 10)
    writer.write(np.zeros((64, 96, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"film\.mp4: cannot be written \(Is a directory\)"):
        writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_film_that_was_cut_gives_its_frames_and_then_says_so(film: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.avi"
    whole = film.read_bytes()
    cut.write_bytes(whole[: [found.start() for found in re.finditer(b"00dc", whole)][5]])
    frames = []
    with pytest.raises(DataError, match=rf"cut\.avi: ends after \d of {NUM_FRAMES} frames: it was cut"):  # noqa: PT012
        for frame in read_frames(cut):
            frames.append(frame)  # noqa: PERF402 - those before the error count
    assert 2 <= len(frames) < NUM_FRAMES
    done = run(cut, "--save", "s", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("cut.avi#") == len(frames)
    assert done.stderr.splitlines()[-1].startswith(f"featherface: {cut}: ends after {len(frames)} of")
    assert len(list(read_frames(tmp_path / "s" / "cut.mp4"))) == len(frames)


@pytest.mark.parametrize("name", ["film.mkv", "film.webm"])
def test_a_matroska_film_that_was_cut_gives_its_frames_and_then_says_so(name: str, tmp_path: Path) -> None:
    path, cut = tmp_path / name, tmp_path / f"cut-{name}"
    whole = noisy_film(path, "MJPG" if name.endswith("mkv") else "VP80")
    assert len(list(read_frames(path))) == NUM_FRAMES
    cut.write_bytes(whole[: len(whole) // 2])
    frames, lost = [], len(whole) - len(whole) // 2
    with pytest.raises(DataError, match=rf"ends after \d frames, {lost} bytes too early"):  # noqa: PT012
        for frame in read_frames(cut):
            frames.append(frame)  # noqa: PERF402 - those before the error count
    assert 2 <= len(frames) < NUM_FRAMES


def as_stream(film: bytes) -> bytes:
    """A Matroska film as a browser records it: neither segment nor the last cluster says how long it is."""
    edited = bytearray(film)
    for kind in (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"):
        start = film.rindex(kind) + len(kind)
        width = 9 - film[start].bit_length()
        edited[start : start + width] = ((2 << (7 * width)) - 1).to_bytes(width)
    return bytes(edited)


@pytest.mark.parametrize("name", ["film.mkv", "film.webm"])
def test_a_matroska_stream_that_ends_within_a_frame_was_cut(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    whole = as_stream(noisy_film(path, "MJPG" if name.endswith("mkv") else "VP80"))
    path.write_bytes(whole)
    assert len(list(read_frames(path))) == NUM_FRAMES
    path.write_bytes(whole[: len(whole) // 2])
    frames = []
    with pytest.raises(DataError, match=r"ends after \d frames, \d+ bytes too early"):  # noqa: PT012
        for frame in read_frames(path):
            frames.append(frame)  # noqa: PERF402 - those before the error count
    assert 2 <= len(frames) < NUM_FRAMES


def trimmed(film: bytes) -> bytearray:
    """The first half of an MP4 film, as its edit list says; the frames are all there."""
    edited, edits = bytearray(film), film.index(b"elst") + 12
    (duration,) = struct.unpack_from(">I", edited, edits)
    struct.pack_into(">I", edited, edits, duration // 2)
    return edited


def index_first(film: bytes) -> bytes:
    """An MP4 film as the web has it: it plays from its beginning on."""
    index = film.index(b"moov") - 4
    data, moved = film.index(b"mdat") - 4, bytearray(film[index:])
    table = moved.index(b"stco") + 8
    (count,) = struct.unpack_from(">I", moved, table)
    offsets = struct.unpack_from(f">{count}I", moved, table + 4)
    struct.pack_into(f">{count}I", moved, table + 4, *(offset + len(moved) for offset in offsets))
    return film[:data] + moved + film[data:index]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_film_that_was_trimmed_without_coding_it_again_is_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"film{suffix}"
    whole = noisy_film(path, "mp4v")
    path.write_bytes(trimmed(whole))
    assert NUM_FRAMES // 2 <= len(list(read_frames(path))) < 0.7 * NUM_FRAMES
    path.write_bytes(index_first(whole))
    assert len(list(read_frames(path))) == NUM_FRAMES


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (bytes, rf"ends after \d of {NUM_FRAMES} frames: it was cut"),
        (trimmed, r"\d bytes too early: it was cut"),
    ],
)
def test_an_mp4_film_that_was_cut_gives_its_frames_and_then_says_so(
    edit: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.mp4"
    whole = index_first(edit(noisy_film(tmp_path / "film.mp4", "mp4v")))
    cut.write_bytes(whole[: len(whole) // 3])
    frames = []
    with pytest.raises(DataError, match=words):  # noqa: PT012
        for frame in read_frames(cut):
            frames.append(frame)  # noqa: PERF402 - those before the error count
    assert 2 <= len(frames) < NUM_FRAMES


def box(kind: str, *content: bytes, size: int | None = None) -> bytes:
    inside = b"".join(content)
    return struct.pack(">I4s", 8 + len(inside) if size is None else size, kind.encode()) + inside


def track(duration: int, *edits: bytes, kind: str = "vide", scale: int = 1000) -> bytes:
    handler = box("hdlr", bytes(8), kind.encode(), bytes(13))
    times = box("mdhd", struct.pack(">4xIIIII", 0, 0, scale, duration, 0))
    return box("trak", box("tkhd"), box("edts", *edits), box("mdia", times, handler))


def edits(*entries: tuple[int, int], version: int = 0) -> bytes:
    entry = ">Qqi" if version else ">Iii"
    packed = [struct.pack(entry, duration, start, 1 << 16) for duration, start in entries]
    return box("elst", bytes([version, 0, 0, 0]), struct.pack(">I", len(packed)), *packed)


HEADER = box("mvhd", struct.pack(">4xIIII80x", 0, 0, 100, 900))
LONG_HEADER = box("mvhd", b"\1\0\0\0", struct.pack(">QQIQ", 0, 0, 100, 900))
WHOLE, PART, NO_INDEX = IsoFilm(0, True, True), IsoFilm(0, True, False), IsoFilm(0, False, False)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", NO_INDEX),
        (box("ftyp") + box("mdat", size=0), NO_INDEX),  # to the end of the file
        (box("mdat", size=20), NO_INDEX._replace(missing_bytes=12)),
        (box("mdat", (30).to_bytes(8, "big"), size=1), NO_INDEX._replace(missing_bytes=14)),
        (box("moov", HEADER) + box("moof", size=9), WHOLE._replace(missing_bytes=1)),
        (box("moov", HEADER) + box("uuid", size=20), WHOLE),  # appended
        (box("moov", HEADER) + bytes(9), WHOLE),
        (box("moov"), WHOLE),
        (box("moov", HEADER, box("mvex")), PART),
        (box("moov", HEADER, track(9000)), WHOLE),
        (box("moov", HEADER, track(9000, edits((899, 5)))), WHOLE),
        (box("moov", HEADER, track(9000, edits((450, 0)))), PART),
        (box("moov", LONG_HEADER, track(9000, edits((450, 9), version=1))), PART),
        (box("moov", HEADER, track(9000, edits((450, 0), (450, 4500)))), WHOLE),
        (box("moov", HEADER, track(9000, edits((450, -1), (450, 0)))), PART),  # begins with a pause
        (box("moov", HEADER, track(9000, edits((0, 0)))), WHOLE),
        (box("moov", HEADER, track(9000), track(9000, edits((450, 0)))), PART),
        (box("moov", HEADER, track(9000, edits((450, 0)), kind="soun")), WHOLE),
        (box("moov", HEADER, track(9000, box("elst", bytes(9)))), WHOLE),
    ],
)
def test_what_the_boxes_of_an_mp4_file_say(content: bytes, expected: IsoFilm) -> None:
    assert inspect_boxes(io.BytesIO(content)) == expected


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ("", 0),
        ("1a45dfa3", 0),  # cut within the header
        ("1a45dfa3 82", 0),
        ("1a45dfa3 82 0000 18538067", 0),
        ("1a45dfa3 82 0000 18538067 84", 4),
        ("1a45dfa3 82 0000 18538067 84 01020304", 0),
        ("1a45dfa3 82 0000 18538067 4010 01", 15),  # a length of two bytes
        ("1a45dfa3 82 0000 18538067 ff", 0),  # a stream: the length is not known
        ("1a45dfa3 82 0000 18538067 01ffffffffffffff ec 82 0000", 0),
        ("1a45dfa3 82 0000 18538067 01ffffffffffffff ec 84 0000", 2),
        ("1a45dfa3 82 0000 18538067 ff 1f43b675 ff a3 82 0000 a3 85 00", 4),  # in a cluster without a length
        ("1a45dfa3 82 0000 18538067 ff 1f43b675 83 a3 81 00 1f43b675 83 a3", 2),  # and in one with
        ("1a45dfa3 82 0000 18538067 ff 1f43b675 ff a3 82 0000 a3", 1),  # before the length of a part
        ("1a45dfa3 82 0000 18538067 ff 1f43b6", 1),
        ("1a45dfa3 82 0000 18538067 ff a3 ff 0000", 0),  # only a cluster may be without
        ("1a45dfa3 82 0000 18538067 ff 00 85 00", 0),  # no part
        ("1a45dfa3 82 0000 18538067 ff a3 00" + 12 * "00", 0),
        ("1a45dfa3 82 0000 18538067 ff a3 85 0102030405 1f43b675 10ffffff", 16777215),
        ("1a45dfa3 82 0000 18538067 00", 0),  # no length at all
        ("1a45dfa3 82 0000 1f43b675 84", 0),  # no segment
        ("52494646 84 0000 18538067 84", 0),  # no Matroska
    ],
)
def test_what_a_matroska_file_lacks(content: str, missing: int) -> None:
    assert missing_bytes(io.BytesIO(bytes.fromhex(content))) == missing


def test_a_film_that_is_gone_by_its_end_is_named(film: Path) -> None:
    frames = read_frames(film)
    next(frames)
    film.unlink()
    with pytest.raises(DataError, match=r"film\.avi: cannot be read"):
        list(frames)


def test_a_name_that_opencv_would_die_of_is_refused(film: Path, tmp_path: Path) -> None:
    named = tmp_path / os.fsdecode(b"caf\xe9.avi")
    named.symlink_to(film)
    done = run(named, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "caf\\udce9.avi: OpenCV needs names of films in UTF-8; rename it" in done.stderr
    with pytest.raises(DataError, match="in UTF-8"):
        FilmWriter(tmp_path / os.fsdecode(b"caf\xe9.mp4"), 10)


@pytest.mark.timeout(30)
def test_what_is_no_film_neither_hangs_nor_opens_other_files(film: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {film.name}\n")
    for name, words in {"pipe.mp4": "is no file; a film is one", "list.mp4": "is a list of films"}.items():
        with pytest.raises(DataError, match=words):
            next(read_frames(tmp_path / name))
        with pytest.raises(DataError, match=words):
            frames_per_second(tmp_path / name)


def test_a_picture_with_the_name_of_a_film_is_a_picture(tmp_path: Path) -> None:
    write_image(tmp_path / "grey.png", np.full((40, 60, 3), 99, dtype=np.uint8))
    (tmp_path / "grey.png").rename(tmp_path / "grey.mp4")
    detector = FaceDetector(num_threads=1)
    ((name, faces),) = detect_files(detector, [tmp_path / "grey.mp4"])
    assert name == str(tmp_path / "grey.mp4")
    assert (faces.width, faces.height) == (60, 40)
