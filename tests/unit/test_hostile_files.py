"""Hostile and odd files: each gives the right faces, none, or one error that says what was got."""

from __future__ import annotations

import io
import json
import os
import random
import re
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heic_files import TURNED
from hostile_files import black_png, bombs, broken, encode, jpeg_that_says, png_chunk, rgb_big_tiff
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from featherface import FaceDetector
from featherface.cli import main
from featherface.errors import DataError, ImageDecodeError
from featherface.imaging import decode_image, read_image
from featherface.inference.batch import detect_files, expand_sources
from featherface.inference.results import Faces
from featherface.pillow_images import rgb_of_pillow

MIB = 2**20
# Of what an accepted file is compared with: other colors and codecs move a box a little.
LEAST_OVERLAP = 0.85
MAX_SECONDS, MAX_BOMB_MIB, MAX_HUGE_MIB = 5, 60, 900
ONE_BY_ONE = """
import json, resource, sys, time
from featherface import FaceDetector
from featherface.errors import DataError
detector = FaceDetector(num_threads=1)
detector(sys.argv[1])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for name in sys.argv[2:]:
    before, started = peak(), time.process_time()
    try:
        said = repr(detector(name))
    except DataError as error:
        said = str(error)
    print(json.dumps([name, said, time.process_time() - started, peak() - before]), flush=True)
"""


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(num_threads=1)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """NASA's portrait of Eileen Collins, in the public domain: head and shoulders."""
    skimage = pytest.importorskip("skimage")
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as whole:
        return whole.convert("RGB").crop((90, 0, 370, 320))


@pytest.fixture(scope="module")
def expected(detector: FaceDetector, photograph: Image.Image) -> Faces:
    faces = detector(photograph)
    assert len(faces) == 1
    return faces


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(sides.clip(0).prod())
    return shared / (float((a[2:] - a[:2]).prod()) + float((b[2:] - b[:2]).prod()) - shared)


def run_limited(arguments: list[str], *, address_space_mib: int) -> subprocess.CompletedProcess[str]:
    limited = [
        "sh",
        "-c",
        f'ulimit -v {address_space_mib * 1024}; exec "$@"',
        "sh",
        sys.executable,
        *arguments,
    ]
    return subprocess.run(limited, capture_output=True, text=True, check=False, timeout=280)


def test_bombs_are_refused_before_they_take_time_or_memory(tmp_path: Path) -> None:
    (tmp_path / "ok.png").write_bytes(black_png(64, 64))
    wanted = {}
    for name, (data, words) in bombs().items():
        path = tmp_path / name
        path.write_bytes(data)
        wanted[str(path)] = words
        assert len(data) < MIB
    sparse = tmp_path / "sparse.png"
    sparse.touch()
    os.truncate(sparse, 20 * 1024 * MIB)
    wanted[str(sparse)] = "it has 21474 MB, the limit is 1000 MB"
    done = run_limited(["-c", ONE_BY_ONE, str(tmp_path / "ok.png"), *wanted], address_space_mib=3000)
    assert done.returncode == 0, done.stderr
    told = {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}
    assert told.keys() == wanted.keys()
    for name, (said, seconds, grown_mib) in told.items():
        assert re.match(f"{re.escape(name)}: .*{re.escape(wanted[name])}", said), said
        assert seconds < MAX_SECONDS, name
        assert grown_mib < MAX_BOMB_MIB, name


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "color_type"), [(1, 0), (8, 6), (16, 0)])
def test_a_hundred_megapixels_are_read_without_copies_of_the_whole(
    tmp_path: Path, depth: int, color_type: int
) -> None:
    (tmp_path / "ok.png").write_bytes(black_png(64, 64))
    (tmp_path / "huge.png").write_bytes(black_png(10_000, 10_000, depth=depth, color_type=color_type))
    names = [str(tmp_path / name) for name in ("ok.png", "huge.png")]
    done = run_limited(["-c", ONE_BY_ONE, *names], address_space_mib=4000)
    assert done.returncode == 0, done.stderr
    _, said, _, grown_mib = json.loads(done.stdout)
    assert said == f"Faces(0 faces in {names[1]} of 10000x10000)"
    assert grown_mib < MAX_HUGE_MIB


def test_broken_files_are_refused_in_one_line(
    detector: FaceDetector, photograph: Image.Image, tmp_path: Path
) -> None:
    for name, (data, words) in broken(photograph).items():
        path = tmp_path / name
        path.write_bytes(data)
        for source, called in ((path, str(path)), (data, "<bytes>")):
            with pytest.raises(ImageDecodeError, match=f"^{re.escape(called)}: .*{words}") as refusal:
                detector(source)
            assert "\n" not in str(refusal.value)


def test_random_damage_gives_pixels_or_our_error(photograph: Image.Image) -> None:
    image = photograph.resize((56, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = [encode(image, name, exif=exif) for name in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")]
    encoded += [encode(image, name, save_all=True, append_images=[image]) for name in ("GIF", "WEBP", "PNG")]
    encoded += [encode(image, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate")]
    encoded += [encode(image.quantize(16), "PNG", transparency=3), encode(image, "BMP"), rgb_big_tiff(image)]
    encoded += [encode(image.convert("CMYK"), "JPEG"), encode(image, "JPEG", progressive=True), TURNED]
    rng = random.Random(0)
    num_read = num_refused = 0
    for data in encoded:
        for _ in range(30):
            damaged = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)
            for _ in range(rng.choice((1, 2, 5, 20))):
                if damaged:
                    place = rng.randrange(min(len(damaged), rng.choice((30, 100, 400, len(data)))))
                    damaged[place] = rng.choice((0, 255, rng.randrange(256)))
            try:
                pixels = decode_image(bytes(damaged), "damaged")
            except ImageDecodeError:
                num_refused += 1
            else:
                num_read += 1
                assert pixels.dtype == np.uint8
                assert pixels.shape[2:] == (3,)
    assert min(num_read, num_refused) > 50


def bad_apng(image: Image.Image) -> bytes:
    data = encode(image, "PNG")
    return data[:33] + png_chunk(b"acTL", bytes(8)) + data[33:]


def without_adobe_marker(image: Image.Image) -> bytes:
    """CMYK as the standard has it, where Adobe's programs, and Pillow with them, write it inverted."""
    data = encode(Image.fromarray(255 - np.asarray(image.convert("CMYK")), "CMYK"), "JPEG", quality=95)
    start = data.index(b"\xff\xee")
    assert data[start + 4 : start + 9] == b"Adobe"
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def animated(image: Image.Image, image_format: str) -> bytes:
    return encode(image, image_format, save_all=True, append_images=[image.rotate(180)], duration=40)


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(255)
    return image


ACCEPTED: dict[str, Callable[[Image.Image], bytes]] = {
    "png.jpg": lambda image: encode(image, "PNG"),
    "jpeg.png": lambda image: encode(image, "JPEG"),
    "webp.gif": lambda image: encode(image, "WEBP"),
    "no-suffix": lambda image: encode(image, "JPEG"),
    "adobe-cmyk.jpg": lambda image: encode(image.convert("CMYK"), "JPEG", quality=95),
    "plain-cmyk.jpg": without_adobe_marker,
    "progressive.jpg": lambda image: encode(image, "JPEG", progressive=True),
    "grey.jpg": lambda image: encode(image.convert("L"), "JPEG"),
    "deep-grey.png": lambda image: encode(
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG"
    ),
    "big-endian.tif": lambda image: encode(
        Image.fromarray(np.asarray(image.convert("L")).astype(">u2") * 257), "TIFF"
    ),
    "palette.png": lambda image: encode(image.quantize(256), "PNG", transparency=255),
    "bits.png": lambda image: encode(image.convert("1"), "PNG"),
    "grey-alpha.png": lambda image: encode(with_alpha(image.convert("L")), "PNG"),
    "alpha.webp": lambda image: encode(with_alpha(image), "WEBP"),
    "animated.gif": lambda image: animated(image, "GIF"),
    "avif.jpg": lambda image: encode(image, "AVIF"),
    "alpha.avif": lambda image: encode(with_alpha(image), "AVIF"),
    "animated.avif": lambda image: animated(image, "AVIF"),
    "animated.webp": lambda image: animated(image, "WEBP"),
    "animated.png": lambda image: animated(image, "PNG"),
    "bad-animation.png": bad_apng,
    "bad-exif.jpg": lambda image: encode(image, "JPEG", exif=b"Exif\0\0nonsense"),
    "bad-exif.png": lambda image: encode(image, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "bad-icc.jpg": lambda image: encode(image, "JPEG", icc_profile=b"nonsense" * 50),
    "bad-icc.png": lambda image: encode(image, "PNG", icc_profile=b"nonsense" * 50),
    "big.tif": lambda image: rgb_big_tiff(image, is_packed=False),
    "packed-big.tif": rgb_big_tiff,
    "pages.tif": lambda image: animated(image, "TIFF"),
    "phone-appends.jpg": lambda image: encode(image, "JPEG") + b"\0\0\0\x18ftypmp42" + b"\xff\xda" * 500,
}
COLORLESS = {"grey.jpg", "deep-grey.png", "big-endian.tif", "bits.png", "grey-alpha.png"}


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_files_give_the_faces_of_the_plain_one(
    detector: FaceDetector, photograph: Image.Image, expected: Faces, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(ACCEPTED[name](photograph))
    pixels = read_image(path)
    if name not in COLORLESS:  # of an inverted or a swapped one the face would still be found
        difference = np.abs(pixels.astype(int) - np.asarray(photograph)).mean()
        assert difference < 8, "mean difference of a color"
    faces = detector(path)
    assert (faces.width, faces.height) == photograph.size
    assert len(faces) == 1
    assert overlap(faces.boxes[0], expected.boxes[0]) > (0.6 if name == "bits.png" else LEAST_OVERLAP)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_file_opened_with_pillow_is_the_same_picture(
    detector: FaceDetector, photograph: Image.Image, name: str
) -> None:
    data = ACCEPTED[name](photograph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the broken metadata, by Pillow itself
        opened = Image.open(io.BytesIO(data))
    # Two decoders of JPEG round in their own ways.
    np.testing.assert_allclose(detector(opened).image.astype(int), detector(data).image.astype(int), atol=4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_gives_boxes_of_the_upright_one(
    detector: FaceDetector, photograph: Image.Image, expected: Faces, orientation: int
) -> None:
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    undo |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    how = undo.get(orientation)
    stored = photograph.transpose(Image.Transpose[how]) if how else photograph
    exif = Image.Exif()
    exif[0x0112] = orientation
    for image_format in ("JPEG", "PNG", "AVIF"):
        data = encode(stored, image_format, exif=exif.tobytes())
        for source in (data, Image.open(io.BytesIO(data))):
            faces = detector(source)
            assert (faces.width, faces.height) == photograph.size
            assert overlap(faces.boxes[0], expected.boxes[0]) > LEAST_OVERLAP


@pytest.mark.parametrize("exif_orientation", [None, 1, 3])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_orientation_is_read_from_exif_alone(image_format: str, exif_orientation: int | None) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    stored = np.zeros((40, 60, 3), dtype=np.uint8)
    stored[:20] = 255
    options: dict[str, Any] = {"xmp": xmp}
    if image_format == "PNG":
        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    if exif_orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = exif_orientation
    data = encode(Image.fromarray(stored), image_format, **options)
    upright = stored[::-1] if exif_orientation == 3 else stored
    for pixels in (decode_image(data, "x"), rgb_of_pillow(Image.open(io.BytesIO(data)), "x")):
        np.testing.assert_allclose(pixels.astype(int), upright, atol=9)


@pytest.mark.parametrize("size_wh", [(1, 1), (1, 5000), (5000, 1), (3, 40_000), (40_000, 3)])
def test_sizes_at_the_edge_have_no_faces(detector: FaceDetector, size_wh: tuple[int, int]) -> None:
    faces = detector(black_png(*size_wh))
    assert (len(faces), faces.width, faces.height) == (0, *size_wh)


def test_the_largest_network_input_is_stated_before_memory_is_asked_for() -> None:
    line = np.broadcast_to(np.zeros(3, np.uint8), (1, 20_000_000, 3))
    with pytest.raises(
        DataError, match=r"network input of 20000000x32 pixels, the limit is 200 megapixels; give"
    ):
        FaceDetector(num_threads=1, image_size="original")(line)


def test_many_scans_are_counted_inside_the_picture_only() -> None:
    picture = decode_image(jpeg_that_says(64, 64, num_scans=40) + b"\xff\xda" * 500, "x")
    assert picture.shape == (64, 64, 3)


@pytest.mark.timeout(30)
def test_what_is_no_file_is_refused_at_once(detector: FaceDetector, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "nowhere.jpg").symlink_to("gone.jpg")
    (tmp_path / "folder.jpg").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.relpath(tmp_path / "socket.jpg"))
    listener.close()
    for source, words in {
        tmp_path
        / "pipe.jpg": r"pipe\.jpg: cannot be read \(it is a named pipe, not a file; hand over the bytes",
        tmp_path / "socket.jpg": "it is a socket, not a file",
        Path("/dev/zero"): "/dev/zero: cannot be read .it is a device, not a file",
        tmp_path / "loop.jpg": "Too many levels of symbolic links",
        tmp_path / "nowhere.jpg": "No such file",
        tmp_path / "folder.jpg": "has no images in it",
        tmp_path / ("x" * 300 + ".jpg"): "File name too long",
        "a\0b.jpg": r"'a\\x00b\.jpg': cannot be read \(no name that a file can have",
        "\ud800.jpg": "no name that a file can have",
        "": "a file's name is needed, got an empty one",
        "https://example.org/a.jpg": "addresses are not fetched; download it",
        str(tmp_path / "*.tif"): "it matches nothing$",
        str(
            tmp_path / "[2024] a" / "*.jpg"
        ): r"it matches nothing; in a glob a \[ of a name is written \[\[\]",
        str(tmp_path / "fold*"): "it matches 1 folders and no file",
        tmp_path
        / "*.jpg": r"\*\.jpg: cannot be read \(No such file.*\); a glob is given alone, and as text$",
    }.items():
        with pytest.raises(DataError, match=words):
            detector(source)
    for item, words in {
        str(tmp_path / "folder.jpg"): r"Is a directory\); a folder is given alone, not in a list$",
        str(tmp_path / "*.jpg"): "a glob is given alone, and as text$",
        str(tmp_path / "gone.jpg"): r"\(No such file or directory\)$",
    }.items():
        with pytest.raises(DataError, match=words):
            detector([item])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_says_so(detector: FaceDetector, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").touch(mode=0)
    with pytest.raises(ImageDecodeError, match="Permission denied"):
        detector(tmp_path / "secret.jpg")


def test_a_glob_gives_a_result_for_each_file_and_a_name_with_brackets_is_a_name(
    detector: FaceDetector, tmp_path: Path
) -> None:
    for name in ("b.png", "a.png", "c[1].png"):
        (tmp_path / name).write_bytes(black_png(8, 8))
    (tmp_path / "d.png").mkdir()
    names = [Path(str(faces.name)).name for faces in detector(str(tmp_path / "*.png"))]
    assert names == ["a.png", "b.png", "c[1].png"]
    assert isinstance(detector(str(tmp_path / "c[1].png")), Faces)


def test_nothing_in_a_folder_is_passed_over_silently(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "nowhere.jpg").symlink_to("gone.jpg")
    (tmp_path / "ok.png").write_bytes(black_png(8, 8))
    expected = [tmp_path / name for name in ("nowhere.jpg", "ok.png", "pipe.jpg")]
    assert expand_sources([str(tmp_path)]) == expected
    assert expand_sources([str(tmp_path / "*")]) == expected
    assert expand_sources([str(tmp_path / "nowhere.jpg")]) == [tmp_path / "nowhere.jpg"]


def test_a_folder_that_cannot_be_looked_into_is_named_and_stops_no_other(
    detector: FaceDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("closed/a.png", "open/a.png", ".hidden/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(black_png(8, 8))
    look_into = os.scandir

    def refuse(folder: str) -> object:  # as the system does for everybody but root
        if Path(folder).name in {"closed", ".hidden"}:
            raise PermissionError(13, "Permission denied", folder)
        return look_into(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    closed, good = detect_files(detector, expand_sources([str(tmp_path)]))
    assert closed[0] == str(tmp_path / "closed")
    assert str(closed[1]) == f"{tmp_path / 'closed'}: cannot be looked into (Permission denied)"
    assert (good[0], len(good[1])) == (str(tmp_path / "open" / "a.png"), 0)
    with pytest.raises(DataError, match=r"closed: cannot be looked into \(Permission denied\)"):
        expand_sources([str(tmp_path / "open"), str(tmp_path / "closed")])


def test_links_between_folders_repeat_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/z.png", "top.png"):
        (tmp_path / name).write_bytes(black_png(8, 8))
    (tmp_path / "in" / "same.png").symlink_to("z.png")
    (tmp_path / "in" / "loop").symlink_to(".")
    (tmp_path / "again").symlink_to("in")
    names = ["again/same.png", "again/z.png", "top.png"]
    expected = [tmp_path / name for name in names]
    assert expand_sources([str(tmp_path / "**" / "*.png")]) == expected
    # A link to a picture is one more name; a folder's links to folders are not entered.
    assert expand_sources([str(tmp_path)]) == [
        tmp_path / name for name in ("in/same.png", "in/z.png", "top.png")
    ]


def test_broken_pillow_images_are_refused_as_files_are(
    detector: FaceDetector, photograph: Image.Image
) -> None:
    data = encode(photograph, "PNG")
    closed = Image.open(io.BytesIO(data))
    closed.close()
    for image, words in (
        (Image.open(io.BytesIO(data[: len(data) // 2])), "is a broken image .image file is truncated"),
        (closed, "is a broken image .Operation on closed image"),
        (Image.new("RGB", (0, 5)), "has no pixels .0x5."),
    ):
        with pytest.raises(ImageDecodeError, match=f"^the Pillow image: {words}"):
            detector(image)


def test_arrays_of_any_layout_give_what_their_copy_gives(
    detector: FaceDetector, photograph: Image.Image, expected: Faces
) -> None:
    pixels = np.asarray(photograph)
    read_only = pixels.copy()
    read_only.flags.writeable = False
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)
    mirrored_twice = np.ascontiguousarray(pixels[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    wide = np.zeros((320, 2 * 280, 3), np.uint8)
    wide[:, ::2] = pixels
    deep = pixels.astype(">u2") * 257
    masked = np.ma.masked_array(pixels, mask=False)
    for array in (read_only, planes, mirrored_twice, wide[:, ::2], np.asfortranarray(pixels), deep, masked):
        np.testing.assert_array_equal(detector(array).boxes, expected.boxes)


CONVERT = r"convert with \.round\(\)\.clip\(0, 255\)\.astype\('uint8'\)"


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 4, 3), np.nan, np.float32), f"of float32; multiply by 255 and {CONVERT}$"),
        (np.ones((4, 4, 3)), f"of float64; multiply by 255 and {CONVERT}$"),
        (np.full((4, 4), 200.5, np.float16), f"of float16; {CONVERT}$"),
        (np.array([[np.nan, 255.0]]), f"of float64; {CONVERT}$"),
        (np.array([[-1.0, 1.0]]), "of float64; bring it to 0 to 255 and convert to uint8$"),
        (np.zeros((0, 4, 3), np.float32), r"got shape \(0, 4, 3\) of float32; multiply by 255"),
        (np.ones((3, 40, 50), np.float32), rf"255 and {CONVERT}; put the channels last: array\.transpose"),
        (np.zeros((4, 3, 3), np.bool_), r"of bool; convert with \.astype\('uint8'\) \* 255$"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"of uint8; give a list of images: list\(array\)$"),
        (np.zeros((3, 40, 50), np.uint8), r"put the channels last: array\.transpose\(1, 2, 0\)"),
        (np.zeros((4, 4, 3), np.int64), "of int64; bring it to 0 to 255 and convert to uint8"),
        (np.full((4, 4), None), "of object"),
        (np.zeros((4, 0, 3), np.uint8), r"at least one pixel, got shape \(4, 0, 3\)"),
        ([[np.zeros((4, 4, 3), np.uint8)]], r"got builtins\.list"),
        ((name for name in "ab"), r"got builtins\.generator"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused_with_what_to_do(
    detector: FaceDetector, array: object, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        detector(array)


def test_the_command_line_goes_on_past_every_hostile_file(photograph: Image.Image, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    bad = {name: data for name, (data, _) in (bombs() | broken(photograph)).items()}
    bad[os.fsdecode(b"caf\xe9\n\x1b[31m.jpg")] = b"text"
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    for name in ("good.jpg", os.fsdecode(b"good-caf\xe9\n.png")):
        (folder / name).write_bytes(encode(photograph, "PNG"))
    arguments = ["-m", "featherface", "detect", str(folder), "--csv", str(tmp_path / "faces.csv")]
    done = run_limited(arguments, address_space_mib=3000)
    assert done.returncode == 1, done.stderr
    assert [line.rpartition("/")[2] for line in done.stdout.splitlines()] == [
        "good-caf\\udce9\\n.png: 1 face",
        "good.jpg: 1 face",
    ]
    told = [line for line in done.stderr.splitlines() if line.startswith("featherface: ")]
    assert len(told) == len(bad) + 2
    assert not any("Traceback" in line or "\x1b" in line for line in done.stderr.splitlines())
    assert len((tmp_path / "faces.csv").read_text(encoding="utf-8").splitlines()) >= 3


def test_what_a_damaged_jpeg_lost_is_told_on_one_line(
    photograph: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = encode(photograph, "JPEG", quality=95)
    lost = tmp_path / "lost\n\x1b[31m.jpg"
    lost.write_bytes(data[: -len(data) // 5] + data[-len(data) // 10 :])  # below the chin
    with pytest.raises(SystemExit) as left:
        main(["detect", str(lost), "--save", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert left.value.code == 0
    assert said.out.endswith("lost\\n\\x1b[31m.jpg: 1 face\n")
    assert said.err.count("is a damaged JPEG") == 1
    assert "lost\\n\\x1b[31m.jpg: is a damaged JPEG (" in said.err
    assert "\x1b" not in said.err


@pytest.mark.parametrize("name", ["", "x" * 300 + ".jpg", "gone.jpg", "http://127.0.0.1:1/a.jpg", "pipe.jpg"])
@pytest.mark.timeout(30)
def test_one_bad_argument_is_exit_code_2(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jpg")
    with pytest.raises(SystemExit) as left:
        main(["detect", name])
    said = capsys.readouterr()
    assert (left.value.code, said.out, said.err.count("\n")) == (2, "", 1), said.err
